"""A random rotation that makes every coordinate of a vector about equally large.

A few large coordinates of an update would force a coarse grid on all of them. Random signs and an
orthonormal Walsh-Hadamard transform spread each coordinate over the whole block, so that one bound
B fits all (Suresh et al. 2017, "Distributed Mean Estimation with Limited Communication",
arXiv 1611.00429, section 3): a coordinate is then sub-Gaussian with the vector's norm over the
root of the block's size.

Nothing is padded. If d is not a power of two, two blocks of s = 2^floor(log2 d) coordinates, the
first and the last, are rotated one after the other, each with signs of its own. They overlap,
because 2 s > d. Coordinates that only one block covers would be spread less, so before and after
both every coordinate of one half is mixed with one of the other. Every step is an orthonormal map
from R^d to R^d; no additional coordinate travels.

The signs are public (they come from the offer's digest) and protect nobody.
"""

# Why: docs/adr/0010-secure-aggregation-kernel.md

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import SecAggError
from privacy.secagg.keys import derive
from privacy.secagg.stream import STREAM_CHUNK_BYTES, Keystream

Floats = NDArray[np.float32]

# 16 coordinates at a time: a small matrix product is the fastest way through memory that numpy has.
_RADIX_BITS: Final = 4
_CHUNK: Final = STREAM_CHUNK_BYTES // 4  # a sign takes the top bit of 32
_SIGN: Final = np.uint32(1 << 31)
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_HALF_ROOT: Final = np.float32(math.sqrt(0.5))


@dataclass(frozen=True)
class Rotation:
    """The rotation of R^dimension that `seed` (32 bytes or more, public) stands for.

    `inverse(forward(x))` is x up to float32's rounding, relative to its norm about 1e-6.
    """

    dimension: int
    seed: bytes

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise SecAggError(f"A vector with {self.dimension} coordinates cannot be rotated.")

    @property
    def block(self) -> int:
        """Coordinates that are rotated together: the largest power of two up to d."""
        return 1 << (self.dimension.bit_length() - 1)

    def forward(self, vector: Floats) -> Floats:
        """The rotated vector, float32 [d], a new array."""
        turned = self._copy(vector)
        self._flip(turned, 0)  # R = H D of Suresh et al. 2017, section 3: D are the signs
        if self.block == self.dimension:
            _transform(turned)
            return turned
        first, last = self._blocks(turned)
        _mix(turned)
        _transform(first)
        # Fresh signs: H is its own inverse, so without them the second transform could undo part of
        # the first where the blocks overlap.
        self._flip(last, 1)
        _transform(last)
        _mix(turned)
        return turned

    def inverse(self, turned: Floats) -> Floats:
        """The vector whose rotation is `turned`, float32 [d], a new array."""
        vector = self._copy(turned)
        # Every step is symmetric and orthonormal, so it is its own inverse.
        if self.block == self.dimension:
            _transform(vector)
        else:
            first, last = self._blocks(vector)
            _mix(vector)
            _transform(last)
            self._flip(last, 1)
            _transform(first)
            _mix(vector)
        self._flip(vector, 0)
        return vector

    def _copy(self, vector: Floats) -> Floats:
        if vector.shape != (self.dimension,):
            raise SecAggError(
                f"A vector of {self.dimension} coordinates has the shape {vector.shape}."
            )
        return np.array(vector, dtype=np.float32)

    def _blocks(self, vector: Floats) -> tuple[Floats, Floats]:
        return vector[: self.block], vector[self.dimension - self.block :]

    def _flip(self, part: Floats, number: int) -> None:
        """Random signs, in place; set 0 is for the whole vector, set 1 for the last block."""
        signs = Keystream(derive(self.seed, b"", b"craftsfl rotation %d" % number))
        bits = part.view(np.uint32)
        for chunk, start in enumerate(range(0, len(bits), _CHUNK)):
            some = bits[start : start + _CHUNK]
            words = signs.lanes(chunk, math.ceil(len(some) / 2)).view("<u4")
            # Turning the sign bit of a float is an exact product with -1.
            some ^= words[: len(some)] & _SIGN


def _transform(part: Floats) -> None:
    """The orthonormal Walsh-Hadamard transform of 2^m coordinates, in place.

    H_(2^m) is the Kronecker product of smaller ones: each factor works on its own bits of the
    coordinate's number (Fino and Algazi 1976).
    """
    source, target = part, np.empty_like(part)
    total = len(part).bit_length() - 1
    for low in range(0, total, _RADIX_BITS):
        bits = min(_RADIX_BITS, total - low)
        # Each factor is orthonormal by itself, so the norm is the same after every pass.
        matrix = _hadamard(bits)
        if low:
            parts = source.reshape(-1, 1 << bits, 1 << low)
            np.matmul(matrix, parts, out=target.reshape(parts.shape))
        else:
            # The lowest bits lie side by side in memory; H is symmetric, so x H is H x here.
            rows = source.reshape(-1, 1 << bits)
            np.matmul(rows, matrix, out=target.reshape(rows.shape))
        source, target = target, source
    if source is not part:
        part[:] = source


def _mix(vector: Floats) -> None:
    """Each coordinate and its partner become their sum and difference over sqrt(2), in place.

    Partners lie in different halves, shifted by an uneven fraction of a half: partners whose
    distance has few binary digits would meet again in the transform, which would undo it.
    """
    half = len(vector) // 2  # of an odd number, the one in the middle stays as it is
    heads, tails = vector[:half], vector[len(vector) - half :]
    # No number is harder to approximate by fractions than the golden ratio (Hurwitz 1891), dyadic
    # ones included; odd, so that partners differ in the lowest bit as well.
    shift = int(half * _GOLDEN) | 1
    _butterfly(heads[: half - shift], tails[shift:])
    _butterfly(heads[half - shift :], tails[:shift])


def _butterfly(heads: Floats, tails: Floats) -> None:
    """(a, b) becomes (a + b, a - b) / sqrt(2), in place; orthonormal, and its own inverse."""
    for start in range(0, len(heads), _CHUNK):
        head, tail = heads[start : start + _CHUNK], tails[start : start + _CHUNK]
        # Scaled before they are added, so that no sum overflows where the result would not.
        head *= _HALF_ROOT
        tail *= _HALF_ROOT
        total = head + tail
        np.subtract(head, tail, out=tail)
        head[:] = total


@lru_cache(maxsize=_RADIX_BITS)
def _hadamard(bits: int) -> Floats:
    """The orthonormal Hadamard matrix of order 2^bits (Sylvester), float32."""
    matrix = np.ones((1, 1))
    for _ in range(bits):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.asarray(matrix / math.sqrt(1 << bits), dtype=np.float32)
