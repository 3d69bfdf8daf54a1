"""Tables of D(Z, s, c), p(z) proportional to exp(-(z - c)^2 / 2 s^2), for the centres c = j / 256.

Row j holds the thresholds floor(2^128 F(z)) of the distribution function F for centre j / 256, over
all z at most 12 s + 1 away. A uniform 128-bit number then picks z with a probability that is off by
at most 2^-128 from the exact one, and what lies beyond the row has a probability of 2^-107: in all,
sum |p_table - p| <= 2^-100 in every row. Tables of float64 would add up to 2e-3 to delta; these add
nothing that shows (docs/adr/0038-exact-noise.md).

All is computed in integers of 320 fraction bits. With n = 256 z - j,

    exp(-(z - j / 256)^2 / 2 s^2) = q^(n^2),    q = exp(-2^15 / S^2),    S = 2^16 s,

so that one run over n gives the weights of all rows: q^((n+1)^2) = q^(n^2) q^(2n+1).
"""

# Why: docs/adr/0038-exact-noise.md

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import AccountingError

DEVIATION_UNIT: Final = 1 << 16
"""Deviations are whole numbers of 2^-16, so that every site works with the same one."""

SMALLEST_DEVIATION: Final = DEVIATION_UNIT
LARGEST_DEVIATION: Final = 256 * DEVIATION_UNIT  # a table of 33 MB; s(k) of 1,000 sites is below

FIRST_DEVIATION: Final = 3 * DEVIATION_UNIT // 2
"""r0 = 1.5, in 2^-8 (or finer) steps of the grid: what rounds off a byte of the centre."""

TABLE_DISTANCE_BITS: Final = 100
"""sum |p_table - p| <= 2^-100 for every row of every table."""

ROW_BITS: Final = 8
THRESHOLD_BITS: Final = 128

_ROWS: Final = 1 << ROW_BITS
_TAIL: Final = 12  # deviations on either side; beyond them lie 4e-33
_BITS: Final = 320  # of the arithmetic: n^2 <= 2^40 roundings leave far more than 192
_WORD: Final = (1 << 64) - 1


@dataclass(frozen=True, eq=False, slots=True)
class ThresholdTable:
    """The rows of one deviation, padded to 2^`steps` - 1 thresholds, for bisection.

    `high`, `low`: uint64 [256 << steps], the halves of the thresholds in ascending order, row after
    row. A row stands for the integers from `first` to `first + last`.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    steps: int
    first: int
    last: int

    @property
    def thresholds(self) -> tuple[tuple[int, ...], ...]:
        """What row j holds: the last of its integers has none, for there F is 1."""
        high, low = (half.reshape(_ROWS, -1)[:, : self.last] for half in (self.high, self.low))
        return tuple(
            tuple((int(h) << 64) | int(w) for h, w in zip(*halves, strict=True))
            for halves in zip(high, low, strict=True)
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the thresholds, 16 bytes each, big-endian, row after row."""
        state = hashlib.sha256()
        for row in self.thresholds:
            state.update(b"".join(one.to_bytes(16, "big") for one in row))
        return state.hexdigest()


@lru_cache(maxsize=4)  # the first table, and those of the cohorts that a study shrinks through
def threshold_table(deviation: int) -> ThresholdTable:
    """The table for a `deviation` in units of 2^-16.

    Takes 0.1 s for 8, 2 s for 256. Raises `AccountingError` for a deviation below 1 or above 256.
    """
    check_deviation(deviation)
    reach = -(-_TAIL * deviation // DEVIATION_UNIT) + 1
    weights = list(_weights(deviation, _ROWS * (reach + 1)))
    steps = (2 * reach).bit_length()
    high = np.full((_ROWS, 1 << steps), _WORD, np.uint64)
    low = high.copy()
    for row in range(_ROWS):
        found = _thresholds(row, reach, weights)
        high[row, : 2 * reach] = [one >> 64 for one in found]
        low[row, : 2 * reach] = [one & _WORD for one in found]
    high.flags.writeable = low.flags.writeable = False
    return ThresholdTable(high.reshape(-1), low.reshape(-1), steps, -reach, 2 * reach)


def check_deviation(deviation: int) -> None:
    """Raise `AccountingError` unless there can be a table for `deviation`."""
    if type(deviation) is not int or not SMALLEST_DEVIATION <= deviation <= LARGEST_DEVIATION:
        raise AccountingError(
            f"The deviation of a share of noise is {deviation!r} / 65536 grid units; it must lie "
            f"between 1 and {LARGEST_DEVIATION // DEVIATION_UNIT} of them.",
            "Choose another grid in the study: 8 grid units suit every cohort.",
        )


def _thresholds(row: int, reach: int, weights: list[int]) -> list[int]:
    """floor(2^128 F(z)) for z from -reach to reach - 1."""
    sums = list(accumulate(weights[abs(_ROWS * z - row)] for z in range(-reach, reach + 1)))
    return [(part << THRESHOLD_BITS) // sums[-1] for part in sums[:-1]]


def _weights(deviation: int, count: int) -> Iterator[int]:
    """2^320 q^(n^2) for n from 0 to `count` - 1, each at most n^2 too small."""
    ratio = _exp((1 << (_BITS + 15)) // deviation**2)  # q^(2n+1)
    growth = ratio * ratio >> _BITS  # q^2
    weight = 1 << _BITS
    for _ in range(count):
        yield weight
        weight = weight * ratio >> _BITS
        ratio = ratio * growth >> _BITS


def _exp(x: int) -> int:
    """exp(-x) by its series, for 0 <= x < 1, all in units of 2^-320."""
    total, term, n = 0, 1 << _BITS, 0
    while term:
        total += -term if n % 2 else term
        n += 1
        term = (term * x >> _BITS) // n
    return total
