"""The public grid on which the sites of a cohort draw, add and open integers.

A study fixes C in units of the grid (`centre_scale`) and, for each size of the cohort, the deviation s
of a share (`privacy.mechanisms.pooled.terms`). Then, with x in units of 2^-30 C,

    y = floor(H D x A / 2^B + 1/2)       int64 [padded], centres in units of 2^-centre_bits
    z ~ D(Z, s, y / 2^centre_bits)       int64 [padded], `privacy.discrete_gaussian`
    sum of z -> D H^T (sum of z) 2^(centre_bits + B - 30) / (padded A), in units of C

H D is sqrt(padded) times a rotation, and A / 2^B, A < 2^26, the largest such fraction with which it takes
C to no more than `centre_scale`. All are integers, but for one product at the end: every processor
agrees.
"""

# Why: docs/adr/0038-exact-noise.md

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

from privacy.discrete_gaussian import DEVIATION_UNIT, FRACTION_BITS, check_deviation
from privacy.errors import AccountingError
from privacy.mechanisms.pooled.hadamard import padded_size
from privacy.mechanisms.pooled.packing import MAX_FIELD_BITS, MIN_FIELD_BITS, lanes_for
from privacy.mechanisms.pooled.terms import PooledTerms

SUM_BITS: Final = 30
"""Clipped sums are integers in units of C 2^-30."""

LARGEST_CLIP: Final = 1 << 12
"""C / gamma, at most: what a grid of 4,096 units or less needs."""

ROTATION_SEED_BYTES: Final = 32

SCALE_BITS: Final = 26
"""Of A: rounding it down makes the noise larger over the signal, by 2^-25 at most."""

# A step in which any number of the sum wraps around: at most one in ten thousand.
_WRAPS_ONCE_IN: Final = 10_000
_TWICE_LN_2: Final = Fraction(13_863, 10_000)  # rounded up


@dataclass(frozen=True, slots=True)
class PooledGrid:
    """The constants of one step; public. Raises `AccountingError` for figures that make no grid.

    `parameters`: P. `centre_scale`: floor(2^`centre_bits` C / gamma); `centre_bits`: 16 or 24.
    `deviation`: s of one share, in 2^-16 grid units. `bits`: b of a field. `seed`: 32 public bytes,
    of the rotation.
    """

    parameters: int
    centre_scale: int
    centre_bits: int
    deviation: int
    bits: int
    seed: bytes

    def __post_init__(self) -> None:
        _check_scale(self.parameters, self.centre_scale, self.centre_bits)
        check_deviation(self.deviation)
        lanes_for(1, self.bits)  # refuses other widths
        if len(self.seed) != ROTATION_SEED_BYTES:
            raise AccountingError(f"The seed of a rotation has {len(self.seed)} bytes, not 32.")

    @classmethod
    def of(cls, terms: PooledTerms, cohort: int, seed: bytes) -> Self:
        """The grid of a step of `cohort` sites, of a study with these `terms`."""
        return cls(
            parameters=terms.parameters,
            centre_scale=terms.centre_scale,
            centre_bits=terms.centre_bits,
            deviation=terms.deviation(cohort),
            bits=terms.bits,
            seed=seed,
        )

    @property
    def padded(self) -> int:
        """Numbers that are drawn and sent: P and seldom more than a tenth above, never 2 P."""
        return padded_size(self.parameters)

    @property
    def lanes(self) -> int:
        """64-bit words of a packed share."""
        return lanes_for(self.padded, self.bits)

    @property
    def scale(self) -> tuple[int, int]:
        """(A, B): 2^25 <= A < 2^26, B >= 27."""
        shift = SCALE_BITS + 1
        while (found := self._scaled(shift)) < 1 << (SCALE_BITS - 1):
            shift += 1
        return found, shift

    def _scaled(self, shift: int) -> int:
        """floor(2^shift centre_scale / (2^30 sqrt(padded)))."""
        # floor(sqrt(floor(x))) is floor(sqrt(x)): rounded down once, and never up.
        return math.isqrt((self.centre_scale << shift) ** 2 // (self.padded << (2 * SUM_BITS)))


def field_bits(
    parameters: int,
    patients: int,
    clip: Fraction,
    shares: Iterable[tuple[int, int]],
) -> int:
    """b: the fewest bits in which a step of each cohort wraps around once in 10,000 steps or less.

    `patients`: declared by all sites; `clip`: C in grid units; `shares`: (k, s(k) in 2^-16 grid
    units) for every size of the cohort that is allowed. Computed in integers, so that all sites
    find the same. Raises `AccountingError` where 32 bits do not suffice.
    """
    padded = padded_size(parameters)
    # 2 n exp(-h^2 / 2 v) <= 1 / 10,000 where h^2 >= 2 ln(20,000 n) v.
    wanted = _TWICE_LN_2 * (2 * _WRAPS_ONCE_IN * padded).bit_length()
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
    by 2^b in one rotated coordinate, and its neighbour by one; privacy does not depend on it.
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


def _check_scale(parameters: int, centre_scale: int, centre_bits: int) -> None:
    if type(parameters) is not int or parameters < 1:
        raise AccountingError(
            f"An adapter with {parameters!r} numbers cannot be noised.",
            "Check the adapter's terms.",
        )
    if centre_bits not in FRACTION_BITS:
        raise AccountingError(f"A centre has 16 or 24 fraction bits, not {centre_bits!r}.")
    if type(centre_scale) is not int or not 1 <= centre_scale <= LARGEST_CLIP << centre_bits:
        raise AccountingError(
            f"The clipping norm is {centre_scale!r} / 2^{centre_bits} grid units; it must be above 0 "
            f"and at most {LARGEST_CLIP} of them.",
            "Choose another grid, or more noise, in the study.",
        )
