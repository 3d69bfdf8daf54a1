"""One site's share of a step: its clipped sum on the grid, and integers drawn around it."""

# Why: docs/adr/0038-exact-noise.md

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privacy.discrete_gaussian import draw
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.errors import AccountingError
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.hadamard import turned, unturned


def centres_of(total: NDArray[np.int64], grid: PooledGrid) -> NDArray[np.int64]:
    """The centres of a site's draws: int64 [padded], in units of 2^-`grid.centre_bits`. Secret.

    `total`: int64 [P], the clipped sum in units of C 2^-30. If one patient moves it by C (2^30) in
    L2 norm, the centres move by `grid.centre_scale`, and by less than one more for each number that
    is rounded. Holds for sums of N patients as long as N sqrt(padded) < 2^32.

    Raises `AccountingError` for another type or shape, never for what the numbers are.
    """
    _check(total, grid.parameters, "A clipped sum")
    return grid.scale.centres(turned(total, grid.seed))


def noised(centres: NDArray[np.int64], grid: PooledGrid, seed: bytes) -> NDArray[np.int64]:
    """A site's share: int64 [padded], grid units. `seed`: 32 secret bytes, for this draw only.

    What may leave a site, masked; alone, it is as private as one share of the noise makes it.
    """
    _check(centres, grid.padded, "A row of centres")
    return draw(centres, grid.deviation, seed, fraction_bits=grid.centre_bits)


def opened(z_sum: NDArray[np.int64], grid: PooledGrid) -> NDArray[np.float64]:
    """The noised sum of all patients' clipped gradients: float64 [P], in units of C.

    `z_sum`: int64 [padded], the sum of the cohort's shares, each below 2^32. Bit for bit the same
    on every processor: integers, then one product with one constant.
    """
    _check(z_sum, grid.padded, "An opened sum")
    factor, shift = grid.scale
    turned_back = unturned(z_sum, grid.parameters, grid.seed)
    # Numerator and denominator are exact in float64, so that the quotient is rounded once.
    unit = float(1 << (grid.centre_bits + shift - CONTRIBUTION_BITS)) / float(grid.padded * factor)
    return turned_back.astype(np.float64) * unit


def _check(numbers: NDArray[np.int64], count: int, name: str) -> None:
    if numbers.dtype != np.int64 or numbers.shape != (count,):
        raise AccountingError(
            f"{name} has {numbers.size} numbers of type {numbers.dtype}; the grid has {count}."
        )
