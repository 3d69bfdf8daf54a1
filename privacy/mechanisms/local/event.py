"""`poisson-gaussian`, version 1: the event of "local" while its noise was continuous.

No mechanism makes it any more; ledgers that hold it stay readable, and are charged as ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Final, Literal, Self

from privacy.events import (
    MAX_CLIPPING_NORM,
    MIN_SAMPLING_RATE,
    GaussianSteps,
    Observer,
    canonical_json,
    check_keys,
    check_within,
    gaussian_steps,
    wrong_figure,
)

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "sampling_rate": (float, int),
    "noise_multiplier": (float, int),
    "clipping_norm": (float, int),
    "steps": (int,),
    "unit": (str,),
    "neighbouring": (str,),
}


@dataclass(frozen=True, slots=True)
class PoissonGaussian:
    """`steps` Poisson-subsampled Gaussian steps of DP-SGD (Abadi et al. 2016, Algorithm 1).

    Each unit enters a step independently with `sampling_rate`; the gradients, each clipped to
    an L2 norm of `clipping_norm`, are summed and N(0, (noise_multiplier * clipping_norm)^2) is
    added to every coordinate. "zero-out": the neighbouring data set has one unit's contribution
    replaced by zero, while the declared number of units is public and unchanged.

    Raises `AccountingError` for figures that make no mechanism: negative, NaN, infinite, huge.
    """

    NAME: ClassVar[str] = "poisson-gaussian"
    VERSION: ClassVar[int] = 1

    sampling_rate: float
    noise_multiplier: float
    clipping_norm: float
    steps: int
    unit: Literal["patient"] = "patient"
    neighbouring: Literal["zero-out"] = "zero-out"

    def __post_init__(self) -> None:
        _ = self.charged  # refuses wrong figures
        check_within("clipping_norm", self.clipping_norm, 0.0, MAX_CLIPPING_NORM)
        if self.clipping_norm == 0:
            raise wrong_figure("clipping_norm", 0, "above 0")
        if self.unit != "patient":
            raise wrong_figure("unit", self.unit, "'patient'")
        if self.neighbouring != "zero-out":
            raise wrong_figure("neighbouring", self.neighbouring, "'zero-out'")

    @property
    def no_privacy(self) -> bool:
        """See `Event.no_privacy`."""
        return self.noise_multiplier == 0

    @property
    def charged(self) -> tuple[GaussianSteps, ...]:
        """See `Event.charged`."""
        return (gaussian_steps(self.sampling_rate, self.noise_multiplier, self.steps),)

    @property
    def sums_over_sites(self) -> bool:
        """See `Event.sums_over_sites`: every site has its own."""
        return False

    def times(self, count: int) -> PoissonGaussian:
        """See `Event.times`: steps of one mechanism add up."""
        return replace(self, steps=self.steps * count)

    def seen_by(self, observer: Observer) -> PoissonGaussian:
        """See `Event.seen_by`: the site adds all the noise, and nobody else knows any of it."""
        return self

    def rarer(self, factor: int) -> PoissonGaussian | None:
        """See `Event.rarer`."""
        rate = self.sampling_rate / factor
        return replace(self, sampling_rate=rate) if rate >= MIN_SAMPLING_RATE else None

    def to_json(self) -> str:
        """See `Event.to_json`."""
        return canonical_json(PoissonGaussian, asdict(self))

    @classmethod
    def of_json(cls, values: Mapping[str, object]) -> Self:
        """See `Event.of_json`."""
        check_keys(values, _TYPES)
        return cls(**values)  # type: ignore[arg-type]  # types checked above
