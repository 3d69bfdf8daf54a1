"""What a mechanism is: one way to make an attempt at a round private, as a frozen value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from privacy.dpsgd.release import Release
from privacy.events import Event

if TYPE_CHECKING:
    from torch import Tensor

    from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
    from privacy.dpsgd.noise import NoiseSource
    from privacy.dpsgd.substreams import Substreams


@dataclass(frozen=True, slots=True)
class PublicTerms:
    """Constants of a study that a mechanism may be made of; nothing here depends on data."""

    sampling_rate: float  # q: chance of each patient to enter a step
    noise_multiplier: float  # sigma: over C, what is left for the worst observer
    clipping_norm: float  # C
    steps: int  # of one attempt
    attempts: int  # of all rounds together
    delta: float
    smallest_cohort: int  # sites in a sum, at least
    noise_colluders: int  # sites whose share of the noise may be known


class SiteStep(Protocol):
    """How one site makes a step. The draw and the engine's sum stay secret; the release does not.

    Used by one thread at a time; keeps no state from one step to the next.
    """

    @property
    def capacity(self) -> int:
        """Most patients that a step takes: public, so that shapes and time tell no draw."""
        ...

    def draw(self, patients: NDArray[np.int64], streams: Substreams) -> NDArray[np.int64]:
        """Who of `patients` (their numbers) is in a step: at most `capacity` of them."""
        ...

    def release(
        self, engine: ClippingEngine, batches: Iterable[PhysicalBatch], noise: NoiseSource
    ) -> Tensor:
        """The step's noised release, float32 [P]: what an optimiser may see."""
        ...


class Mechanism(Protocol):
    """A mechanism knows its event, its share of the noise, its room a step, and how it is made.

    What an observer sees is the event's own knowledge (`Event.seen_by`).
    """

    NAME: ClassVar[str]  # as policies list it
    NUMBER: ClassVar[int]  # as offers of secure aggregation name it (`privacy.wire.offer`)
    EVENT: ClassVar[type[Event]]  # what ledgers hold of it

    @classmethod
    def of(cls, terms: PublicTerms) -> Self:
        """The mechanism of a study with these `terms`."""
        ...

    @property
    def event(self) -> Event:
        """What one attempt at a round costs a site's patients."""
        ...

    def noise_share(self, cohort: int) -> float:
        """Standard deviation, over C, of the noise that one of `cohort` sites adds to its sum."""
        ...

    def constants(self, declared_patients: int) -> Release:
        """The public constants of every step at a site with `declared_patients`."""
        ...

    def capacity(self, declared_patients: int) -> int:
        """Patients that a step there has room for.

        Raises `AccountingError` for a delta outside [1e-12, 1).
        """
        ...

    def at_site(self, declared_patients: int) -> SiteStep:
        """How a site with `declared_patients` makes its steps. Imports torch."""
        ...
