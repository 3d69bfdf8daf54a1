"""The Gaussian mechanism in closed form: everybody in every step, so that only mu counts.

T Gaussian steps of multiplier sigma are together one of mu = sqrt(T) / sigma, and

    delta(epsilon) = Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu)

(Balle and Wang 2018, arXiv 1805.06530, Theorem 8; Dong, Roth and Su 2022, arXiv 1905.02383,
Corollary 2.13 and 3.3: the squares of mu add up). Exact; no grid.
"""

# Why: docs/adr/0039-pooled-noise-is-accounted-for.md

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from privacy.events import GaussianSteps

_HALVINGS: Final = 120  # until neighbouring floats
_ULP: Final = 2.0**-52


def gaussian_mu(charged: Iterable[GaussianSteps]) -> float:
    """mu of steps that are all at a sampling rate of 1: the root of the sum of 1 / sigma^2."""
    return math.sqrt(math.fsum(part.steps / part.noise_multiplier**2 for part in charged))


def gaussian_delta(epsilon: float, mu: float) -> float:
    """delta(epsilon); with all that floats may have rounded away, so never too low."""
    from scipy.special import log_ndtr  # a quarter of the time in which a command starts

    if mu == 0:
        return 0.0
    first, second = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    logs = float(log_ndtr(first)), epsilon + float(log_ndtr(second))
    above, below = math.exp(logs[0]), math.exp(min(logs[1], 0.0))
    # The logarithms' own rounding, relative to each of the two; both are at most 1.
    sizes = abs(logs[0]) + 4, 2 * epsilon + abs(logs[1]) + 4
    rounding = 4 * _ULP * (above * sizes[0] + below * sizes[1])
    return max(0.0, above - below) + rounding


@lru_cache(maxsize=4096)
def gaussian_epsilon(mu: float, delta: float) -> float:
    """The least epsilon >= 0 with `gaussian_delta` at most `delta`; never too low, 0.0 for mu = 0.

    Infinite where rounding alone exceeds `delta`.
    """
    if gaussian_delta(0.0, mu) <= delta:
        return 0.0
    # delta(epsilon) <= Phi(mu / 2 - epsilon / mu) <= exp(-(epsilon / mu - mu / 2)^2 / 2)
    most = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    most *= 1 + 1e-9
    if gaussian_delta(most, mu) > delta:
        return math.inf
    return _least(lambda epsilon: gaussian_delta(epsilon, mu) <= delta, 0.0, most)


def largest_mu(epsilon: float, delta: float) -> float:
    """The largest mu that is (`epsilon`, `delta`)-private; never too high."""
    most = 1.0
    while gaussian_delta(epsilon, most) <= delta:
        most *= 2
    return most - _least(lambda less: gaussian_delta(epsilon, most - less) <= delta, 0.0, most)


def _least(enough: Callable[[float], bool], low: float, high: float) -> float:
    """The least number from `low` (too little) to `high` (enough) that is enough; by halving."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
