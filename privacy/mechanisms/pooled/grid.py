"""The public grid on which the sites of a cohort draw, add and open integers.

A study fixes C in units of the grid (`centre_scale`) and, for each size of the cohort, the
deviation s of a share (`privacy.mechanisms.pooled.terms`). Then, with x in units of 2^-30 C,

    y = floor(H D x A / 2^B + 1/2)       int64 [padded], centres in units of 2^-centre_bits
    z ~ D(Z, s, y / 2^centre_bits)       int64 [padded], `privacy.discrete_gaussian`
    sum of z -> D H^T (sum of z) 2^(centre_bits + B - 30) / (padded A), in units of C

H D is sqrt(padded) times a rotation, and A / 2^B takes C with it to no more than `centre_scale`
(`privacy.mechanisms.pooled.scale`). All are integers, but for one product at the end: every
processor agrees.
"""

# Why: docs/adr/0038-exact-noise.md

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from privacy.discrete_gaussian import FRACTION_BITS, check_deviation
from privacy.errors import AccountingError
from privacy.mechanisms.pooled.hadamard import padded_size
from privacy.mechanisms.pooled.packing import lanes_for
from privacy.mechanisms.pooled.scale import Scale
from privacy.mechanisms.pooled.terms import PooledTerms

LARGEST_CLIP: Final = 1 << 12
"""C / gamma, at most: what a grid of 4,096 units or less needs."""

ROTATION_SEED_BYTES: Final = 32


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
    def scale(self) -> Scale:
        """A / 2^B: from a rotated sum to centres."""
        return Scale.of(self.centre_scale, self.padded)


def _check_scale(parameters: int, centre_scale: int, centre_bits: int) -> None:
    if type(parameters) is not int or parameters < 1:
        raise AccountingError(
            f"An adapter with {parameters!r} numbers cannot be noised.",
            "Name the adapter's layers in the study.",
        )
    if centre_bits not in FRACTION_BITS:
        raise AccountingError(f"A centre has 16 or 24 fraction bits, not {centre_bits!r}.")
    if type(centre_scale) is not int or not 1 <= centre_scale <= LARGEST_CLIP << centre_bits:
        raise AccountingError(
            f"The clipping norm is {centre_scale!r} / 2^{centre_bits} grid units; it must be above "
            f"0 and at most {LARGEST_CLIP} of them.",
            "Choose another grid, or more noise, in the study.",
        )
