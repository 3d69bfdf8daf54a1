"""Which deltas, epsilons and rates are allowed; all others are refused before any computation."""

from __future__ import annotations

import math
from typing import Final

from privacy.errors import AccountingError

# Below it, rounding in the convolutions (1e-16 a point, 1e4 to 1e6 points) is not negligible.
MIN_DELTA: Final = 1e-12
MAX_EPSILON: Final = 1e6  # far beyond any meaning; anything larger is a typing error


def largest_delta(declared_patients: int) -> float:
    """min(1e-5, 1/(10 N)): above it, giving away one random patient would pass as private."""
    if type(declared_patients) is not int or declared_patients < 1:
        raise AccountingError(f"{declared_patients!r} declared patients; declare at least 1.")
    return min(1e-5, 1 / (10 * declared_patients))


def check_delta(delta: float, declared_patients: int) -> None:
    """Raise `AccountingError` unless 1e-12 <= delta <= min(1e-5, 1/(10 N))."""
    check_probability(delta)
    largest = largest_delta(declared_patients)
    if delta > largest:
        raise AccountingError(
            f"delta is {delta:g} but may be at most {largest:g} with {declared_patients} declared "
            "patients.",
            "Lower privacy.delta in the study.",
        )


def check_probability(delta: float) -> None:
    """Raise `AccountingError` unless `delta` is a float from 1e-12 to below 1."""
    if not (isinstance(delta, float) and 0 < delta < 1):
        raise AccountingError(f"delta is {delta!r}; it must lie between 0 and 1.")
    if delta < MIN_DELTA:
        raise AccountingError(
            f"delta is {delta:g}; below {MIN_DELTA:g} rounding errors would decide.",
            "Use a larger delta, at most 1/(10 N).",
        )


def check_epsilon(epsilon: float) -> None:
    """Raise `AccountingError` unless `epsilon` is a real number above 0 and at most 1e6."""
    real = isinstance(epsilon, (int, float)) and not isinstance(epsilon, bool)
    if not (real and math.isfinite(epsilon) and 0 < epsilon <= MAX_EPSILON):
        raise AccountingError(
            f"epsilon is {epsilon!r}; it must be above 0 and at most {MAX_EPSILON:g}.",
            "Use 1 to 8: above 30 it promises a patient nothing worth the name.",
        )
