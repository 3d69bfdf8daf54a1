"""From the terms of a study to integers: the clip and the noise in units of the public grid.

Everything here is integer arithmetic on the exact values of the floats that a study file holds, so
that every site, on any processor, gets the same integers.

The grid's unit is gamma. c = C / gamma follows from the deviation s of a share at the largest
cohort n: C sigma is what n - n_c shares have together, so c = s sqrt(n - n_c) / sigma. The integers
are c and s in units of 2^-bits and 2^-16 of the grid's unit.
"""

# Why: docs/adr/0039-pooled-noise-is-accounted-for.md

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import isqrt
from typing import Final

DEVIATION_BITS: Final = 16  # a share's deviation is a multiple of 2^-16 of the grid's unit
COARSE_CENTRE_BITS: Final = 16
FINE_CENTRE_BITS: Final = 24
# Rounding the centres may add this share of the clip to the sensitivity before they get finer.
_ROUNDING_SHARE: Final = Fraction(1, 1000)


def numbers_of(parameters: int) -> int:
    """A bound on the numbers that a step releases: no rotation pads P parameters beyond 2 P."""
    return 2 * parameters


@lru_cache(maxsize=64)
def centre_bits(grid: float, sigma: float, unknown_shares: int, parameters: int) -> int:
    """Fraction bits of the centres: 24 where 16 would add more than a thousandth to the clip.

    `unknown_shares` is n - n_c at the largest cohort. Two roundings differ by at most one unit more
    than what was rounded, so centres of d numbers move by sqrt(d) units more than the sum does.
    """
    squared_clip = _squared_clip(grid, sigma, unknown_shares)
    added = Fraction(numbers_of(parameters), 4**COARSE_CENTRE_BITS)
    coarse = added <= _ROUNDING_SHARE**2 * squared_clip
    return COARSE_CENTRE_BITS if coarse else FINE_CENTRE_BITS


@lru_cache(maxsize=64)
def centre_scale(grid: float, sigma: float, unknown_shares: int, bits: int) -> int:
    """C in units of 2^-bits of the grid's: floor(s sqrt(n - n_c) / sigma 2^bits), exactly."""
    squared = _squared_clip(grid, sigma, unknown_shares) * 4**bits
    return isqrt(squared.numerator // squared.denominator)


@lru_cache(maxsize=4096)
def deviation(sigma: float, scale: int, bits: int, unknown_shares: int) -> int:
    """A share's deviation in 2^-16 of the grid's unit, where `unknown_shares` are k - n_c.

    The least integer d with d^2 (k - n_c) >= (sigma scale 2^(16 - bits))^2: together, the shares
    that nobody knows are never less than sigma C.
    """
    squared = Fraction(sigma) ** 2 * scale**2 * Fraction(4) ** (DEVIATION_BITS - bits)
    least = squared / unknown_shares
    whole = -(-least.numerator // least.denominator)  # d is whole, so d^2 >= ceil(least)
    root = isqrt(whole)
    return root if root * root == whole else root + 1


def _squared_clip(grid: float, sigma: float, unknown_shares: int) -> Fraction:
    """c^2, exactly."""
    return (Fraction(grid) / Fraction(sigma)) ** 2 * unknown_shares
