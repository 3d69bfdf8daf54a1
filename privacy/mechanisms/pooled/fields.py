"""How wide a field has to be, so that the sum of a cohort's shares fits into it."""

# Why: docs/adr/0038-exact-noise.md and 0050-dense-vectors-and-closed-runs.md

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from privacy.discrete_gaussian import DEVIATION_UNIT
from privacy.errors import AccountingError
from privacy.mechanisms.pooled.hadamard import padded_size
from privacy.mechanisms.pooled.packing import MAX_FIELD_BITS, MIN_FIELD_BITS

# A step in which any number of the sum wraps around: at most one in five thousand.
_WRAPS_ONCE_IN: Final = 5_000
_TWICE_LN_2: Final = Fraction(13_863, 10_000)  # rounded up
_PARTS: Final = 64  # of a bit, to which a logarithm is rounded up


def field_bits(
    parameters: int,
    patients: int,
    clip: Fraction,
    shares: Iterable[tuple[int, int]],
) -> int:
    """b: the fewest bits in which a step of each cohort wraps around once in 5,000 steps or less.

    `patients`: declared by all sites; `clip`: C in grid units; `shares`: (k, s(k) in 2^-16 grid
    units) for every size of the cohort that is allowed. Computed in integers, so that all sites
    find the same. Raises `AccountingError` where 32 bits do not suffice.
    """
    padded = padded_size(parameters)
    # 2 n exp(-h^2 / 2 v) <= 1 / 5,000 where h^2 >= 2 ln(10,000 n) v.
    logarithm = Fraction(((2 * _WRAPS_ONCE_IN * padded) ** _PARTS).bit_length(), _PARTS)
    wanted = _TWICE_LN_2 * logarithm
    variance = max(_variance(padded, patients, clip, share) for share in shares)
    for bits in range(MIN_FIELD_BITS, MAX_FIELD_BITS + 1):
        if (1 << (bits - 1)) ** 2 >= wanted * variance:
            return bits
    raise AccountingError(
        f"No field of up to {MAX_FIELD_BITS} bits holds the sum of {patients} patients.",
        "Choose a coarser grid in the study.",
    )


def wrap_chance(
    bits: int, parameters: int, patients: int, clip: Fraction, share: tuple[int, int]
) -> float:
    """An upper bound of the chance that any number of a step's sum wraps around.

    Even if all gradients were parallel and as long as the clip allows. A number that wraps is off
    by 2^b in one rotated coordinate, and no other is; privacy does not depend on it.
    """
    padded = padded_size(parameters)
    variance = _variance(padded, patients, clip, share)
    return float(min(1.0, 2 * padded * math.exp(-(4.0 ** (bits - 1)) / (2 * variance))))


def _variance(padded: int, patients: int, clip: Fraction, share: tuple[int, int]) -> Fraction:
    """Of a rotated coordinate of the sum, in grid units.

    (N c)^2 / n for the signal, sub-Gaussian over the signs of the rotation (Hoeffding 1963), and
    k s^2 for the shares, of which each is sub-Gaussian with s^2 (but for factors of 1 + 1e-17).
    """
    cohort, deviation = share
    return (patients * clip) ** 2 / padded + Fraction(cohort * deviation**2, DEVIATION_UNIT**2)
