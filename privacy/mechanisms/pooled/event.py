"""The event of "pooled": `pooled-gaussian`, version 1."""

# Why: docs/adr/0039-pooled-noise-is-accounted-for.md

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Final, Literal, Self

from privacy.errors import AccountingError
from privacy.events import (
    ALWAYS_CHARGED,
    MAX_CLIPPING_NORM,
    MIN_SAMPLING_RATE,
    GaussianSteps,
    Observer,
    Seen,
    canonical_json,
    check_keys,
    check_within,
    gaussian_steps,
    wrong_figure,
)
from privacy.mechanisms.pooled.lemma import NoiseTerms, nearby_step

_REAL: Final = (float, int)
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "sampling_rate": _REAL,
    "noise_multiplier": _REAL,
    "clipping_norm": _REAL,
    "steps": (int,),
    "parameters": (int,),
    "grid": _REAL,
    "cohort": (int,),
    "smallest_cohort": (int,),
    "noise_colluders": (int,),
    "unit": (str,),
    "neighbouring": (str,),
}
_MOST_SITES: Final = 10_000
_MOST_PARAMETERS: Final = 2**32
LEAST_GRID_OF_EVENTS: Final = 4.0
MOST_GRID_OF_EVENTS: Final = 4096.0


@dataclass(frozen=True, slots=True)
class PooledGaussian:
    """`steps` sums over `cohort` sites (n_min to n of them), each with a share of one noise.

    Each unit enters a step independently with `sampling_rate`; `cohort` > 1 needs 1. A site adds up
    its units' vectors of `parameters` numbers, each truncated so that its norm is at most C =
    `clipping_norm`; rotates the sum; rounds it once to the centres' units; and draws integers from
    the discrete Gaussian with these centres. Its deviation is `grid` in units of the public grid
    where all `cohort` sites take part, and such in every smaller cohort of k, that k -
    `noise_colluders` shares together have `noise_multiplier` C. Only the sum of a cohort is seen.
    "local" is a cohort of one. "zero-out" as in `poisson-gaussian`.

    `charged`, the lemma behind it and its proof: `privacy.mechanisms.pooled.lemma` and
    docs/privacy-accounting.md. Raises `AccountingError` for figures that make no mechanism.
    """

    NAME: ClassVar[str] = "pooled-gaussian"
    VERSION: ClassVar[int] = 1

    sampling_rate: float
    noise_multiplier: float  # sigma, over C: what n_c colluding sites cannot subtract
    clipping_norm: float
    steps: int
    parameters: int  # P
    grid: float  # s
    cohort: int  # n
    smallest_cohort: int  # n_min
    noise_colluders: int  # n_c
    unit: Literal["patient"] = "patient"
    neighbouring: Literal["zero-out"] = "zero-out"

    def __post_init__(self) -> None:
        _ = gaussian_steps(self.sampling_rate, self.noise_multiplier, self.steps)
        check_within("clipping_norm", self.clipping_norm, 0.0, MAX_CLIPPING_NORM)
        if self.clipping_norm == 0:
            raise wrong_figure("clipping_norm", 0, "above 0")
        check_within("grid", self.grid, LEAST_GRID_OF_EVENTS, MOST_GRID_OF_EVENTS)
        _check_whole("parameters", self.parameters, 1, _MOST_PARAMETERS)
        _check_whole("cohort", self.cohort, 1, _MOST_SITES)
        least = min(self.cohort, 2)
        _check_whole("smallest_cohort", self.smallest_cohort, least, self.cohort)
        _check_whole("noise_colluders", self.noise_colluders, 0, max(0, self.smallest_cohort - 2))
        if self.cohort > 1 and self.sampling_rate != 1:
            raise wrong_figure("sampling_rate", self.sampling_rate, "1 where the noise is pooled")
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
        """See `Event.charged`: as the worst of those who are always charged sees it."""
        views = [self._seen(observer) for observer in ALWAYS_CHARGED]
        return (min(views, key=lambda step: step.noise_multiplier),)

    @property
    def sums_over_sites(self) -> bool:
        """See `Event.sums_over_sites`."""
        return self.cohort > 1

    def times(self, count: int) -> PooledGaussian:
        """See `Event.times`."""
        return replace(self, steps=self.steps * count)

    def seen_by(self, observer: Observer) -> PooledGaussian | Seen:
        """See `Event.seen_by`: without the shares of the noise that `observer` knows."""
        return self if self.cohort == 1 else Seen((self._seen(observer),))

    def rarer(self, factor: int) -> PooledGaussian | None:
        """See `Event.rarer`."""
        rate = self.sampling_rate / factor
        possible = self.cohort == 1 and rate >= MIN_SAMPLING_RATE
        return replace(self, sampling_rate=rate) if possible else None

    def to_json(self) -> str:
        """See `Event.to_json`."""
        return canonical_json(PooledGaussian, asdict(self))

    @classmethod
    def of_json(cls, values: Mapping[str, object]) -> Self:
        """See `Event.of_json`."""
        check_keys(values, _TYPES)
        return cls(**values)  # type: ignore[arg-type]  # types checked above

    def _seen(self, observer: Observer) -> GaussianSteps:
        if self.no_privacy:
            return GaussianSteps(float(self.sampling_rate), 0.0, self.steps)
        shared = NoiseTerms(
            float(self.noise_multiplier),
            float(self.grid),
            self.parameters,
            self.cohort,
            self.smallest_cohort,
            self.noise_colluders,
        )
        step = nearby_step(shared, observer)
        return step._replace(sampling_rate=float(self.sampling_rate), steps=self.steps)


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int:
        raise wrong_figure(name, value, f"a whole number from {low} to {high}")
    if not low <= value <= high:
        raise AccountingError(
            f"{name} is {value}; it must be a whole number from {low} to {high}.",
            "Correct the study.",
        )
