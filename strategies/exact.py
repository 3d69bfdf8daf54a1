"""Arithmetic that gives the same bits on any processor, for optimisers that every site repeats.

In integers anything goes, since nothing is rounded there. In floating point only + - x / and the
square root, one element at a time on float64: IEEE 754 (2019, section 5.4.1) fixes their results
to the last bit, whatever the width of the processor's vectors. Sums over a vector depend on the
order, products of matrices on the library, powers and exponentials on both: they do not occur here.

Numbers close to zero are set to zero before they are used. A thread in which torch has switched on
flush-to-zero would otherwise compute with zero where others compute with a subnormal number.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import FederationError

Floats64 = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Fields = NDArray[np.int64]

LARGEST_FIELD: Final = 1 << 40  # far above a lane's field; the squares below need less than 2^63
_HALF_BITS: Final = 20
_SLICE: Final = 1 << 20  # 2^20 squares below 2^41 stay below 2^62
_SMALLEST_FLOAT32: Final = 2.0**-126  # the smallest that is not subnormal
_EXPONENT: Final = np.uint32(0x7F800000)


def squared_norm(fields: Fields) -> int:
    """The sum of squares of int64 [n], each below 2^40 in magnitude: exact, at any length."""
    total = 0
    for start in range(0, len(fields), _SLICE):
        some = fields[start : start + _SLICE]
        # some = high 2^20 + low, so that no product or sum passes 2^62.
        high, low = some >> _HALF_BITS, some & ((1 << _HALF_BITS) - 1)
        total += int((high * high).sum()) << (2 * _HALF_BITS)
        total += int((high * low).sum()) << (_HALF_BITS + 1)
        total += int((low * low).sum())
    return total


def shrinkage(fields: Fields, limit: int, bits: int) -> float:
    """The factor, at most 1, that brings the norm of `fields` to `limit` / 2^bits.

    From integers alone: the root is rounded up, and a quotient of two integers is the nearest
    float64 (Python's own guarantee).
    """
    square = squared_norm(fields) << (2 * bits)
    if square <= limit * limit:
        return 1.0
    return limit / (math.isqrt(square) + 1)


def settled(values: Floats64, least: float) -> Floats64:
    """`values` with +0 in place of what is below `least` in magnitude: a new array."""
    kept: Floats64 = np.where(np.abs(values) < least, 0.0, values)
    return kept


def to_float32(values: Floats64) -> Floats32:
    """The one rounding to float32; nothing subnormal is left. Infinite where it does not fit."""
    with np.errstate(over="ignore"):
        return settled(values, _SMALLEST_FLOAT32).astype(np.float32)


def normal_float32(values: Floats32) -> Floats32:
    """A copy with +0 in place of subnormal numbers, told by their bits: safe in any thread.

    Raises `FederationError` where a number is not finite or the array is not [P] with P > 0.
    """
    copy = np.array(values, dtype=np.float32)
    if copy.ndim != 1 or not copy.size:
        raise FederationError(
            f"An adapter has the shape {list(copy.shape)}, not [P].",
            "Check that the study's targets name modules of the base.",
        )
    exponents = copy.view(np.uint32) & _EXPONENT
    if (exponents == _EXPONENT).any():
        raise FederationError(
            "An adapter holds numbers that are not finite.",
            "Start from another adapter; if a run led here, lower its learning rate.",
        )
    copy[exponents == 0] = 0.0
    return copy


def power(base: float, exponent: int) -> float:
    """base^exponent by repeated multiplication: the library's pow may round differently."""
    result = 1.0
    for _ in range(exponent):
        result *= base
    return result
