"""From a float vector to 64-bit lanes whose sum over the sites can be decoded, and back.

    rotate     `privacy.secagg.rotation`, seeded by the offer's digest: float32 [d]
    quantise   q = clip((x + B) L / 2B, 0, L), rounded up with the probability of its fraction:
               integers 0 .. L = floor((2^b - 1) / n) (Suresh et al. 2017, section 2)
    pack       f = floor(64 / b) fields a lane: field k of lane l, bits k b to (k + 1) b - 1, is
               coordinate k * lanes + l; fields after the last coordinate are 0

The sum of n sites is at most n L < 2^b in a field, so none carries into the next and the sum of
the lanes is the exact sum of the integers. Decoding: sum * 2B / L - survivors * B, rotated back.

Rounding is unbiased to 2^-32 of a level, or to float64's rounding (L 2^-53) where that is more,
and its randomness comes from a fresh AES key for every vector. Weights are multiplied in before;
nothing but the vector is in the lanes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import SecAggError
from privacy.secagg.rotation import Floats, Rotation
from privacy.secagg.stream import SEED_BYTES, STREAM_CHUNK_BYTES, Keystream
from privacy.secagg.width import MAX_BITS, levels
from privacy.wire.secagg import Lanes

Levels = NDArray[np.uint32]

_CHUNK: Final = STREAM_CHUNK_BYTES // 8  # coordinates at once: their float64 stay in the cache
_FRACTION_BITS: Final = 32  # of a level, in fixed point; L < 2^31 leaves room in 64 bits


@dataclass(frozen=True)
class Encoding:
    """How one attempt encodes vectors of `dimension` floats from `sites` sites.

    `bits`: width b of a field; `bound`: B, the largest rotated coordinate that is not clipped;
    `od`: the offer's digest, which seeds the rotation. All of them are public.
    """

    dimension: int
    sites: int
    bits: int
    bound: float
    od: bytes

    def __post_init__(self) -> None:
        if self.dimension < 1 or self.sites < 2:
            raise SecAggError(f"{self.dimension} numbers of {self.sites} sites cannot be encoded.")
        if not 1 <= self.bits <= MAX_BITS or self.levels < 1:
            raise SecAggError(
                f"{self.bits} bits do not hold the sum of {self.sites} sites.",
                f"Choose at most {MAX_BITS} bits, and more than the number of sites takes.",
            )
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise SecAggError(f"The bound of a coordinate is {self.bound!r}; it has to be above 0.")

    @property
    def levels(self) -> int:
        """L: one site's integers go from 0 to L."""
        return levels(self.bits, self.sites)

    @property
    def fields(self) -> int:
        """f: coordinates in a lane."""
        return 64 // self.bits

    @property
    def lanes(self) -> int:
        """64-bit words of an encoded vector."""
        return -(-self.dimension // self.fields)

    def encode(self, vector: Floats, random: Callable[[int], bytes] = os.urandom) -> Lanes:
        """The lanes (uint64 [lanes]) of one site's vector (float32 [d]).

        `random(32)` returns a fresh secret key for the rounding. Raises `SecAggError` for another
        shape and for numbers that are not finite or overflow float32 when rotated.
        """
        return self.pack(self.quantise(self.rotate(vector), random))

    def decode_sum(self, lanes: Lanes, survivors: int) -> Floats:
        """The sum of the survivors' vectors (float32 [d]) from the sum of their lanes.

        Raises `SecAggError` when the lanes cannot be the sum of that many encoded vectors: a mask
        was left in them.
        """
        if not 1 <= survivors <= self.sites:
            raise SecAggError(f"{survivors} of {self.sites} sites cannot have survived.")
        sums = self.unpack(lanes)
        # What no sum of encoded vectors can hold: as a rule, a mask that was left in.
        if int(sums.max()) > survivors * self.levels or sums[self.dimension :].any():
            raise _no_sum()
        turned = np.empty(self.dimension, np.float32)
        # q = (x + B) L / 2B for each survivor, so sum x = sum q * 2B / L - survivors * B.
        step = 2 * self.bound / self.levels
        for start in range(0, self.dimension, _CHUNK):
            some = sums[start : min(start + _CHUNK, self.dimension)] * np.float64(step)
            some -= survivors * self.bound
            turned[start : start + _CHUNK] = some
        return self._rotation.inverse(turned)

    def rotate(self, vector: Floats) -> Floats:
        """The first step of `encode`."""
        with np.errstate(over="ignore", invalid="ignore"):  # `quantise` refuses what comes of it
            return self._rotation.forward(vector)

    def quantise(self, turned: Floats, random: Callable[[int], bytes] = os.urandom) -> Levels:
        """The second step: integers from 0 to L, uint32 [fields * lanes]."""
        made = np.zeros(self.lanes * self.fields, np.uint32)
        noise = Keystream(random(SEED_BYTES))
        one = float(1 << _FRACTION_BITS)
        scale = one * self.levels / (2 * self.bound)
        for chunk, start in enumerate(range(0, self.dimension, _CHUNK)):
            some = turned[start : start + _CHUNK]
            if not np.isfinite(some).all():
                raise SecAggError("An update holds numbers that are not finite.")
            exact = some * np.float64(scale)  # float32 could not hold the fraction's 32 bits
            exact += one * self.levels / 2
            np.clip(exact, 0, one * self.levels, out=exact)
            fixed = exact.astype(np.int64)
            # A uniform number below one level is added and the fraction cut off: that rounds up
            # with the fraction's probability, so the mean is exact (Suresh et al. 2017, section 2).
            # L itself has no fraction and stays L: no field can overflow.
            fixed += noise.lanes(chunk, -(-len(some) // 2)).view("<u4")[: len(some)]
            fixed >>= _FRACTION_BITS
            made[start : start + len(some)] = fixed
        return made

    def pack(self, made: Levels) -> Lanes:
        """The third step: uint64 [lanes] from uint32 [fields * lanes]."""
        lanes = np.empty(self.lanes, np.uint64)
        # Field by field, not lane by lane: then every slice is contiguous in memory.
        fields = made.reshape(self.fields, self.lanes)
        for start in range(0, self.lanes, _CHUNK):
            part = lanes[start : start + _CHUNK]
            part[:] = fields[0, start : start + _CHUNK]
            for number in range(1, self.fields):
                some = fields[number, start : start + _CHUNK].astype(np.uint64)
                some <<= np.uint64(number * self.bits)
                part |= some
        return lanes

    def unpack(self, lanes: Lanes) -> Levels:
        """The reverse of `pack`, also for a sum of lanes; `SecAggError` for what cannot be one."""
        if lanes.dtype != np.uint64 or lanes.shape != (self.lanes,):
            raise SecAggError(f"{lanes.size} lanes are not the {self.lanes} of this encoding.")
        used = self.fields * self.bits
        fields = np.empty((self.fields, self.lanes), np.uint32)
        for start in range(0, self.lanes, _CHUNK):
            part = lanes[start : start + _CHUNK]
            # No sum of n L < 2^b carries beyond its field, so the bits above all fields stay 0.
            if used < 64 and (part >> np.uint64(used)).any():
                raise _no_sum()
            for number in range(self.fields):
                some = part >> np.uint64(number * self.bits)
                some &= np.uint64((1 << self.bits) - 1)
                fields[number, start : start + _CHUNK] = some
        return fields.reshape(-1)

    @property
    def _rotation(self) -> Rotation:
        return Rotation(self.dimension, self.od)


def _no_sum() -> SecAggError:
    return SecAggError(
        "The aggregate is not a sum of encoded updates.",
        "A mask was not removed, or a site did not follow the protocol; start a new attempt.",
    )
