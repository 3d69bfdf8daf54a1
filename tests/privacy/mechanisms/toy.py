"""A mechanism that exists for the tests alone: everybody in every step, the noise in shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from privacy.accounting import Observer, Shares
from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
from privacy.dpsgd.noise import NoiseSource
from privacy.dpsgd.release import Release
from privacy.dpsgd.substreams import Substreams
from privacy.events import Event, GaussianSteps, canonical_json, check_keys, gaussian_steps
from privacy.mechanisms.base import PublicTerms


@dataclass(frozen=True, slots=True)
class ToyShared:
    """`steps` steps of which the coalition sees the noise that the multiplier says."""

    NAME: ClassVar[str] = "toy-shared"
    VERSION: ClassVar[int] = 3

    sampling_rate: float
    noise_multiplier: float
    steps: int
    floor: int  # sites in a sum, at least
    colluders: int

    @property
    def no_privacy(self) -> bool:
        return self.noise_multiplier == 0

    @property
    def charged(self) -> tuple[GaussianSteps, ...]:
        return (gaussian_steps(self.sampling_rate, self.noise_multiplier, self.steps),)

    @property
    def sums_over_sites(self) -> bool:
        return True

    def times(self, count: int) -> ToyShared:
        return replace(self, steps=count * self.steps)

    def seen_by(self, observer: Observer) -> ToyShared:
        shares = Shares(self.floor, self.floor, self.colluders)
        seen = self.noise_multiplier * shares.noise_factor(observer)
        return replace(self, noise_multiplier=seen)

    def rarer(self, factor: int) -> None:
        return None

    def to_json(self) -> str:
        return canonical_json(ToyShared, asdict(self))

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Self:
        whole, real = (int,), (float,)
        types = {"steps": whole, "floor": whole, "colluders": whole}
        check_keys(values, types | {"sampling_rate": real, "noise_multiplier": real})
        return cls(**values)


@dataclass(frozen=True)
class ToyStep:
    """No draw: the step takes everybody, and adds the site's share of the noise."""

    capacity: int
    constants: Release

    def draw(self, patients: NDArray[np.int64], streams: Substreams) -> NDArray[np.int64]:
        return patients[: self.capacity]

    def release(
        self, engine: ClippingEngine, batches: Iterable[PhysicalBatch], noise: NoiseSource
    ) -> torch.Tensor:
        total = engine.clipped_sum(batches, self.constants.clipping_norm).total
        std = self.constants.noise_multiplier * self.constants.clipping_norm
        samples = std * torch.from_numpy(noise.uniform(engine.size)) * math.sqrt(12)
        return ((total + samples) / self.constants.denominator).float()


@dataclass(frozen=True, slots=True)
class Toy:
    """See `Mechanism`."""

    NAME: ClassVar[str] = "toy"
    NUMBER: ClassVar[int] = 2
    EVENT: ClassVar[type[Event]] = ToyShared

    terms: PublicTerms

    @classmethod
    def of(cls, terms: PublicTerms) -> Self:
        return cls(terms)

    @property
    def event(self) -> ToyShared:
        terms = self.terms
        return ToyShared(
            1.0,
            terms.noise_multiplier,
            terms.steps,
            terms.smallest_cohort,
            terms.noise_colluders,
        )

    def noise_share(self, cohort: int) -> float:
        return self.terms.noise_multiplier / math.sqrt(cohort - self.terms.noise_colluders)

    def constants(self, declared_patients: int) -> Release:
        share = self.noise_share(self.terms.smallest_cohort)
        return Release(self.terms.clipping_norm, share, float(declared_patients))

    def capacity(self, declared_patients: int) -> int:
        return 2 * declared_patients

    def at_site(self, declared_patients: int) -> ToyStep:
        return ToyStep(self.capacity(declared_patients), self.constants(declared_patients))
