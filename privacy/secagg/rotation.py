"""A random rotation that makes every coordinate of a vector about equally large.

A few large coordinates of an update would force a coarse grid on all of them. Random signs and an
orthonormal Walsh-Hadamard transform spread each coordinate over the whole block, so that one bound
B fits all (Suresh et al. 2017, "Distributed Mean Estimation with Limited Communication",
arXiv 1611.00429, section 3): a coordinate is then sub-Gaussian with the vector's norm over the
root of the block's size.

Nothing is padded. When d is no power of two, two blocks of s = 2^floor(log2 d) coordinates, the
first and the last, are rotated one after the other, each after signs of its own. They overlap,
because 2 s > d, and the map from R^d to R^d stays orthonormal: no coordinate more travels.

The signs are public (they come from the offer's digest); they protect nobody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import SecAggError
from privacy.secagg.keys import derive
from privacy.secagg.stream import CHUNK_BYTES, Keystream

Floats = NDArray[np.float32]

# 16 coordinates at a time: a small matrix product is the fastest way through memory that numpy has.
_RADIX_BITS: Final = 4
_CHUNK: Final = CHUNK_BYTES // 4  # a sign takes the top bit of 32
_SIGN: Final = np.uint32(1 << 31)


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
        for number, part in self._blocks(turned):
            self._flip(part, number)
            _transform(part)
        return turned

    def inverse(self, turned: Floats) -> Floats:
        """The vector whose rotation is `turned`, float32 [d], a new array."""
        vector = self._copy(turned)
        for number, part in reversed(self._blocks(vector)):
            _transform(part)  # symmetric and orthonormal: its own inverse
            self._flip(part, number)
        return vector

    def _copy(self, vector: Floats) -> Floats:
        if vector.shape != (self.dimension,):
            raise SecAggError(f"A vector of {self.dimension} has the shape {vector.shape}.")
        return np.array(vector, dtype=np.float32)

    def _blocks(self, vector: Floats) -> list[tuple[int, Floats]]:
        first, last = vector[: self.block], vector[self.dimension - self.block :]
        return [(0, first)] if self.block == self.dimension else [(0, first), (1, last)]

    def _flip(self, part: Floats, number: int) -> None:
        """Random signs, in place; a set of its own for each block."""
        signs = Keystream(derive(self.seed, b"", b"craftsfl rotation %d" % number))
        bits = part.view(np.uint32)
        for chunk, start in enumerate(range(0, len(bits), _CHUNK)):
            some = bits[start : start + _CHUNK]
            words = signs.lanes(chunk, math.ceil(len(some) / 2)).view("<u4")
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
        matrix = _hadamard(bits)
        if low:
            parts = source.reshape(-1, 1 << bits, 1 << low)
            np.matmul(matrix, parts, out=target.reshape(parts.shape))
        else:
            rows = source.reshape(-1, 1 << bits)
            np.matmul(rows, matrix, out=target.reshape(rows.shape))
        source, target = target, source
    if source is not part:
        part[:] = source


@lru_cache(maxsize=_RADIX_BITS)
def _hadamard(bits: int) -> Floats:
    """The orthonormal Hadamard matrix of order 2^bits (Sylvester), float32."""
    matrix = np.ones((1, 1))
    for _ in range(bits):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.asarray(matrix / math.sqrt(1 << bits), dtype=np.float32)
