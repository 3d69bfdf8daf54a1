"""From events to epsilon, by privacy loss distributions (Google's dp-accounting).

The estimate is pessimistic: discretisation rounds losses so that epsilon is never understated
(Doroshenko et al. 2022, "Connect the Dots"). Within one frozen schedule the composition is exact
up to that rounding. There is no default epsilon or delta anywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

import dp_accounting
from dp_accounting import pld

from privacy.errors import AccountingError
from privacy.events import (
    MAX_NOISE_MULTIPLIER,
    MAX_STEPS,
    MIN_NOISE_MULTIPLIER,
    Event,
    PoissonGaussian,
)

RUNNING: Final = 1e-3  # discretisation of the privacy loss while a study runs
RELEASE: Final = 1e-4  # and for a figure that is published
# Longest grid of privacy losses to convolve: beyond it the grid gets coarser, still pessimistic.
_MAX_GRID: Final = 1e7
_RELATIVE_TOLERANCE: Final = 1e-3  # of a calibrated noise multiplier

# (sampling rate, noise multiplier, total steps), one for each pair of the first two
_Merged = tuple[tuple[float, float, int], ...]


def epsilon(events: Iterable[Event], delta: float, *, discretization: float = RUNNING) -> float:
    """Epsilon at `delta` of all `events` composed; 0.0 for none.

    Composition assumes that the schedule was fixed before its first event. Raises
    `AccountingError` for events without noise (say "no privacy" instead of a figure), for events
    of an unknown kind, and for a delta outside (0, 1).
    """
    _check_probability(delta)
    if not 1e-6 <= discretization <= 1e-1:
        raise AccountingError(f"discretization is {discretization!r}; use 1e-6 to 0.1.")
    return _epsilon(_merge(events), delta, discretization)


def calibrate_noise_multiplier(
    *, epsilon: float, delta: float, sampling_rate: float, steps: int
) -> float:
    """Smallest noise multiplier, to 0.1 % and rounded up, whose cost is at most `epsilon`.

    `steps` counts all steps that may ever be charged: steps a round x rounds x attempts.
    Raises `AccountingError` if no noise multiplier up to 1e4 is enough.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise AccountingError(f"epsilon is {epsilon!r}; it must be above 0 and finite.")
    _check_probability(delta)

    def enough(sigma: float) -> bool:
        event = PoissonGaussian(sampling_rate, sigma, clipping_norm=1.0, steps=steps)
        return _epsilon(_merge([event]), delta, RUNNING) <= epsilon

    low, high = _bracket(enough)
    while high > low * (1 + _RELATIVE_TOLERANCE):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def largest_delta(declared_patients: int) -> float:
    """min(1e-5, 1/(10 N)): above it, giving away one random patient would pass as private."""
    if type(declared_patients) is not int or declared_patients < 1:
        raise AccountingError(f"{declared_patients!r} declared patients; declare at least 1.")
    return min(1e-5, 1 / (10 * declared_patients))


def check_delta(delta: float, declared_patients: int) -> None:
    """Raise `AccountingError` unless 0 < delta <= min(1e-5, 1/(10 N))."""
    _check_probability(delta)
    largest = largest_delta(declared_patients)
    if delta > largest:
        raise AccountingError(
            f"delta is {delta:g} but may be at most {largest:g} with {declared_patients} declared "
            "patients.",
            "Lower privacy.delta in the study.",
        )


def _merge(events: Iterable[Event]) -> _Merged:
    """Equal mechanisms with their steps added; the clipping norm does not matter to epsilon."""
    steps: Counter[tuple[float, float]] = Counter()
    for event in events:
        if not isinstance(event, PoissonGaussian):
            raise AccountingError(f"{type(event).__name__} cannot be accounted for.")
        if event.no_privacy:
            raise AccountingError(
                "A mechanism without noise has no finite epsilon.", "Report it as no privacy."
            )
        steps[float(event.sampling_rate), float(event.noise_multiplier)] += event.steps
    if sum(steps.values()) > 10 * MAX_STEPS:
        raise AccountingError(f"More than {10 * MAX_STEPS} steps cannot be accounted for.")
    return tuple(sorted((q, sigma, count) for (q, sigma), count in steps.items()))


@lru_cache(maxsize=4096)
def _epsilon(events: _Merged, delta: float, discretization: float) -> float:
    if not events:
        return 0.0
    accountant = pld.PLDAccountant(
        dp_accounting.NeighboringRelation.REPLACE_SPECIAL,  # zero-out
        max(discretization, _spread(events) / _MAX_GRID),
    )
    for sampling_rate, noise_multiplier, steps in events:
        step = dp_accounting.GaussianDpEvent(noise_multiplier)
        try:
            accountant.compose(dp_accounting.PoissonSampledDpEvent(sampling_rate, step), steps)
        except OverflowError:
            raise AccountingError(
                f"{steps} steps at noise multiplier {noise_multiplier:g} cost more than can be "
                "computed.",
                "Raise the noise multiplier.",
            ) from None
    return float(accountant.get_epsilon(delta))


def _spread(events: _Merged) -> float:
    """Rough width of the composed privacy loss: twice its mean without sampling, and tails."""
    return sum(steps / sigma**2 + 20 * math.sqrt(steps) / sigma for _, sigma, steps in events)


def _bracket(enough: Callable[[float], bool]) -> tuple[float, float]:
    """(too little, enough) noise, a factor of 2 apart, searched from 1 outwards."""
    sigma = 1.0
    if enough(sigma):
        while sigma / 2 >= MIN_NOISE_MULTIPLIER and enough(sigma / 2):
            sigma /= 2
        return max(sigma / 2, MIN_NOISE_MULTIPLIER), sigma
    while 2 * sigma <= MAX_NOISE_MULTIPLIER:
        sigma *= 2
        if enough(sigma):
            return sigma / 2, sigma
    raise AccountingError(
        "No noise multiplier is large enough for that epsilon.",
        "Ask for fewer steps, a lower sampling rate or a larger epsilon.",
    )


def _check_probability(delta: float) -> None:
    if not (isinstance(delta, float) and 0 < delta < 1):
        raise AccountingError(f"delta is {delta!r}; it must lie between 0 and 1.")
