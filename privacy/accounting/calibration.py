"""From epsilon to noise: the smallest noise multiplier that keeps a schedule within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from privacy.accounting.bounds import check_epsilon, check_probability
from privacy.accounting.composition import RUNNING, epsilon_of, merge_steps
from privacy.errors import AccountingError
from privacy.events import MAX_NOISE_MULTIPLIER, MIN_NOISE_MULTIPLIER, gaussian_steps

_RELATIVE_TOLERANCE: Final = 1e-3  # of a calibrated noise multiplier


def calibrate_noise_multiplier(
    *, epsilon: float, delta: float, sampling_rate: float, steps: int, attempts: int = 1
) -> float:
    """Smallest noise multiplier, to 0.1 % and rounded up, whose cost is at most `epsilon`.

    `steps` x `attempts` are all the steps that may ever be charged; each attempt has a fresh draw
    and fresh noise. By bisection on the pessimistic PLD, so it errs towards more noise.
    Raises `AccountingError` if no noise multiplier up to 1e4 is enough.
    """
    check_epsilon(epsilon)
    check_probability(delta)
    if type(attempts) is not int or attempts < 1:
        raise AccountingError(f"{attempts!r} attempts; allow at least 1.")

    def enough(sigma: float) -> bool:
        one = gaussian_steps(sampling_rate, sigma, steps)
        return epsilon_of(merge_steps([one] * attempts), delta, RUNNING) <= epsilon

    return least_noise(enough, _RELATIVE_TOLERANCE)


def least_noise(enough: Callable[[float], bool], tolerance: float) -> float:
    """The least noise multiplier that is `enough`, relative to it no more than `tolerance` above.

    `enough` holds for all from some multiplier on. Raises `AccountingError` if that is above 1e4.
    """
    low, high = _bracket(enough)
    while high > low * (1 + tolerance):
        middle = math.sqrt(low * high)  # halves the ratio: what is wanted is relative precision
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high  # the end that is known to be enough


def _bracket(enough: Callable[[float], bool]) -> tuple[float, float]:
    """(too little, enough) noise, a factor of 2 apart; the search starts from 1."""
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
