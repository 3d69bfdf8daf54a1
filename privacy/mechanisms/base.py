"""What a mechanism is: one way to make an attempt at a round private, as a frozen value."""

# Why: docs/adr/0023-mechanisms-as-values.md

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from privacy.dpsgd.release import Release
from privacy.events import Event
from privacy.mechanisms.pooled.terms import PooledTerms

if TYPE_CHECKING:
    from torch import Tensor

    from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
    from privacy.dpsgd.noise import NoiseSource
    from privacy.dpsgd.substreams import Substreams


@dataclass(frozen=True, slots=True)
class PublicTerms:
    """Constants of a study from which a mechanism is made; nothing here depends on data."""

    sampling_rate: float  # q: each patient's chance of entering a step
    noise_multiplier: float  # sigma: over C, as the worst observer sees it
    clipping_norm: float  # C
    steps: int  # of one attempt
    attempts: int  # of all rounds together
    delta: float
    smallest_cohort: int  # sites in a sum, at least
    noise_colluders: int  # sites whose shares of the noise may be known
    pooled: PooledTerms | None = None  # of the shares, where the noise is pooled


class SiteStep(Protocol):
    """How a site makes its steps. The draw and the engine's sum are secret; the release is not.

    Used by one thread at a time; keeps no state from one step to the next.
    """

    @property
    def capacity(self) -> int:
        """The most patients in a step: public, so that shapes and time do not reveal the draw."""
        ...

    def draw(self, patients: NDArray[np.int64], streams: Substreams) -> NDArray[np.int64]:
        """Which of `patients` (their numbers) are in a step: at most `capacity` of them."""
        ...

    def release(
        self, engine: ClippingEngine, batches: Iterable[PhysicalBatch], noise: NoiseSource
    ) -> Tensor:
        """The step's noised release, float32 [P]: what an optimiser may see."""
        ...


class Mechanism(Protocol):
    """Knows its event, a site's share of the noise, the capacity of a step, and how to make one.

    What an observer sees of the noise is up to the event (`Event.seen_by`).
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
        """How many patients a step at a site with `declared_patients` has room for.

        Raises `AccountingError` for a delta outside [1e-12, 1).
        """
        ...

    def at_site(self, declared_patients: int) -> SiteStep:
        """How a site with `declared_patients` makes its steps. Imports torch.

        Raises `AccountingError` where no step of a site alone is private.
        """
        ...
