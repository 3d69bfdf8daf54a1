"""Signed integers as they travel: b bits each, modulo 2^b, in the lanes of `secagg.sealed`.

Only the sum has to lie in [-2^(b-1), 2^(b-1)), whatever a single site's numbers are. A number of
the sum that does not is off by a multiple of 2^b, and no other is touched.
"""

# Why: docs/adr/0050-dense-vectors-and-closed-runs.md

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import AccountingError
from privacy.secagg.sealed.residues import (
    MAX_RESIDUE_BITS,
    MIN_RESIDUE_BITS,
    packed_residues,
    residue_lanes,
    residues_in,
    residues_of,
    signed,
)

MIN_FIELD_BITS: Final = MIN_RESIDUE_BITS
MAX_FIELD_BITS: Final = MAX_RESIDUE_BITS


def lanes_for(count: int, bits: int) -> int:
    """64-bit words for `count` numbers of `bits` each.

    Raises `AccountingError` unless `bits` is from 2 to 32.
    """
    if type(bits) is not int or not MIN_FIELD_BITS <= bits <= MAX_FIELD_BITS:
        raise AccountingError(
            f"A field of {bits!r} bits; it has {MIN_FIELD_BITS} to {MAX_FIELD_BITS}.",
            "Choose a coarser grid or a larger clipping norm over the noise.",
        )
    return residue_lanes(count, bits)


def pack_signed(numbers: NDArray[np.int64], bits: int) -> NDArray[np.uint64]:
    """The lanes, uint64 [lanes], of `numbers`, int64 [n], modulo 2^b; what fills up is 0."""
    _ = lanes_for(len(numbers), bits)  # refuses other widths
    return packed_residues(residues_of(numbers, bits), bits)


def unpack_signed(lanes: NDArray[np.uint64], count: int, bits: int) -> NDArray[np.int64]:
    """`count` numbers, int64 [count], each from -2^(b-1) to 2^(b-1) - 1.

    Raises `AccountingError` for another number of lanes.
    """
    if lanes.dtype != np.uint64 or lanes.shape != (lanes_for(count, bits),):
        raise AccountingError(f"{lanes.size} lanes do not hold {count} numbers of {bits} bits.")
    return signed(residues_in(lanes, bits), bits)[:count]
