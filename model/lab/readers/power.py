"""How many judgements a study needs, before anybody judges; exact binomial tests.

Judgements count as independent. Several readers of the same pictures are not quite: their sum tells
somewhat less than as many judgements of different pictures.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.stats import beta, binom

ALPHA: Final = 0.05
POWER: Final = 0.8
_MOST: Final = 20_000


def share_interval(right: int, count: int, level: float = 1 - ALPHA) -> tuple[float, float]:
    """The interval of a share (Clopper and Pearson 1934), 0..1; (0, 1) for no judgements."""
    tail = (1 - level) / 2
    low = 0.0 if right == 0 else float(beta.ppf(tail, right, count - right + 1))
    high = 1.0 if right == count else float(beta.ppf(1 - tail, right + 1, count - right))
    return low, high


def detectable(count: int, chance: float = 0.5) -> float | None:
    """The smallest true accuracy that `count` judgements tell from `chance`, in steps of 0.005.

    One-sided exact test at 5 %, with a power of 80 %. None: not even always being right.
    """
    critical = int(binom.ppf(1 - ALPHA, count, chance)) + 1
    for accuracy in np.arange(chance, 1.0001, 0.005):
        if binom.sf(critical - 1, count, min(1.0, accuracy)) >= POWER:
            return round(float(accuracy), 3)
    return None


def needed_to_bound(most: float, chance: float = 0.5) -> int:
    """About how many judgements show that readers are right in less than `most` of the cases.

    Where they guess: the upper end of the two-sided 95 % interval lies below `most` with a
    probability of 80 %. A test that finds nothing shows nothing; this is what "cannot tell" takes.
    """
    low, high = 1, _MOST
    while low < high:
        middle = (low + high) // 2
        if _bounds(middle, most, chance):
            high = middle
        else:
            low = middle + 1
    return low


def _bounds(count: int, most: float, chance: float) -> bool:
    rights = np.arange(count + 1)
    # The largest number of right answers whose interval still ends below `most`.
    upper = np.where(rights == count, 1.0, beta.ppf(1 - ALPHA / 2, rights + 1, count - rights))
    allowed = rights[upper < most]
    return bool(allowed.size and binom.cdf(allowed[-1], count, chance) >= POWER)
