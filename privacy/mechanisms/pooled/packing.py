"""Signed integers in 64-bit lanes, so that the sum of lanes is the lanes of the sum.

    lane l = sum over k of z[k lanes + l] 2^(k b)  mod 2^64,    k = 0 .. f - 1,    f = floor(64 / b)

That is linear, so lanes may be masked and added modulo 2^64 whatever a single site's numbers are:
only the sum has to lie in [-2^(b-1), 2^(b-1)). A number of the sum that does not wraps around by
2^b, and its neighbour is off by one. Bits above f b are of no use and hold signs and carries.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import AccountingError

MIN_FIELD_BITS: Final = 2
MAX_FIELD_BITS: Final = 32

_LANE_BITS: Final = 64


def lanes_for(count: int, bits: int) -> int:
    """64-bit words for `count` numbers of `bits` each."""
    return -(-count // fields_in_lane(bits))


def fields_in_lane(bits: int) -> int:
    """f. Raises `AccountingError` unless `bits` is from 2 to 32."""
    if type(bits) is not int or not MIN_FIELD_BITS <= bits <= MAX_FIELD_BITS:
        raise AccountingError(
            f"A field of {bits!r} bits; it has {MIN_FIELD_BITS} to {MAX_FIELD_BITS}.",
            "Choose a coarser grid or a larger clipping norm over the noise.",
        )
    return _LANE_BITS // bits


def pack_signed(numbers: NDArray[np.int64], bits: int) -> NDArray[np.uint64]:
    """The lanes, uint64 [lanes], of `numbers`, int64 [n]; the last fields may be empty (0)."""
    lanes = np.zeros(lanes_for(len(numbers), bits), np.uint64)
    for field in range(fields_in_lane(bits)):
        some = numbers[field * len(lanes) : (field + 1) * len(lanes)].astype(np.uint64)
        some <<= np.uint64(field * bits)
        lanes[: len(some)] += some
    return lanes


def unpack_signed(lanes: NDArray[np.uint64], count: int, bits: int) -> NDArray[np.int64]:
    """`count` numbers, int64 [count], each from -2^(b-1) to 2^(b-1) - 1.

    Raises `AccountingError` for another number of lanes.
    """
    if lanes.dtype != np.uint64 or lanes.shape != (lanes_for(count, bits),):
        raise AccountingError(f"{lanes.size} lanes do not hold {count} numbers of {bits} bits.")
    fields = fields_in_lane(bits)
    # Half of the range is added to every field: then none is negative, and none borrows.
    half = 1 << (bits - 1)
    shifted = lanes + np.uint64(sum(half << (field * bits) for field in range(fields)))
    found = np.empty((fields, len(lanes)), np.int64)
    for field, row in enumerate(found):
        row[:] = (shifted >> np.uint64(field * bits)) & np.uint64((1 << bits) - 1)
    found -= half
    return found.reshape(-1)[:count]
