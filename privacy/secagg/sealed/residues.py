"""Numbers modulo 2^b in 64-bit lanes, without a bit between them.

64 numbers are b lanes: number k of a group is bits k b to k b + b - 1 of the group's lanes, laid
one after the other with their lowest bits first. With G groups, number k of group g is number
k G + g of the vector, and lane j of group g is lane j G + g: so all of this is a few operations on
whole rows. A vector whose length is no multiple of 64 is followed by zeros.

Numbers are added modulo 2^b, each for itself: nothing is carried from one to another. Their words
have 16 bits, or 32 where b > 16: adding words is adding numbers, once all above b is dropped.
"""

# Why: docs/adr/0050-dense-vectors-and-closed-runs.md

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.wire.secagg import Lanes

GROUP: Final = 64  # numbers that fill whole lanes, whatever b is
MIN_RESIDUE_BITS: Final = 2
MAX_RESIDUE_BITS: Final = 32

Residues: TypeAlias = NDArray[np.unsignedinteger[Any]]


def residue_lanes(count: int, bits: int) -> int:
    """64-bit lanes of `count` numbers of `bits`."""
    return -(-count // GROUP) * bits


def no_residues(lanes: int, bits: int) -> Residues:
    """As many numbers as `lanes` hold, all of them 0, in words that add up modulo 2^b."""
    count = lanes // bits * GROUP
    return np.zeros(count, np.uint16) if bits <= 16 else np.zeros(count, np.uint32)


def residues_of(numbers: NDArray[np.int64], bits: int) -> Residues:
    """`numbers`, int64 [n], modulo 2^b and followed by zeros, [64 G]."""
    words = no_residues(residue_lanes(len(numbers), bits), bits)
    words[: len(numbers)] = numbers.astype(words.dtype)  # modulo 2^16 or 2^32, as C has it
    return reduced(words, bits)


def reduced(words: Residues, bits: int) -> Residues:
    """The same numbers below 2^b, in place: what is above b bits is of no meaning."""
    words &= words.dtype.type((1 << bits) - 1)
    return words


def packed_residues(residues: Residues, bits: int) -> Lanes:
    """The lanes, uint64 [b G], of numbers below 2^b, [64 G]."""
    rows = residues.reshape(GROUP, -1)
    lanes = np.zeros((bits, rows.shape[1]), np.uint64)
    for place in range(GROUP):
        lane, shift = divmod(place * bits, 64)
        numbers = rows[place].astype(np.uint64)
        lanes[lane] |= numbers << np.uint64(shift)
        if shift + bits > 64:
            lanes[lane + 1] |= numbers >> np.uint64(64 - shift)
    return lanes.reshape(-1)


def residues_in(lanes: Lanes, bits: int) -> Residues:
    """The reverse of `packed_residues`: numbers below 2^b, [64 G]; no bit is unused."""
    found = no_residues(len(lanes), bits)
    rows, into = lanes.reshape(bits, -1), found.reshape(GROUP, -1)
    for place in range(GROUP):
        lane, shift = divmod(place * bits, 64)
        numbers = rows[lane] >> np.uint64(shift)
        if shift + bits > 64:
            numbers |= rows[lane + 1] << np.uint64(64 - shift)
        into[place] = numbers & np.uint64((1 << bits) - 1)
    return found


def residue_sum(vectors: Sequence[Lanes], bits: int) -> Residues:
    """The sum of one or more vectors of lanes, number by number modulo 2^b, [64 G].

    All of them are taken apart together, so hundreds of short vectors cost little more than one.
    """
    stacked = np.stack(vectors).reshape(len(vectors), bits, -1)
    total = no_residues(len(vectors[0]), bits)
    into = total.reshape(GROUP, -1)
    for place in range(GROUP):
        lane, shift = divmod(place * bits, 64)
        numbers = stacked[:, lane] >> np.uint64(shift)
        if shift + bits > 64:
            numbers |= stacked[:, lane + 1] << np.uint64(64 - shift)
        numbers &= np.uint64((1 << bits) - 1)
        into[place] = numbers.sum(axis=0).astype(total.dtype)  # what is lost is above b bits
    return reduced(total, bits)


def signed(residues: Residues, bits: int) -> NDArray[np.int64]:
    """Each as the number from -2^(b-1) to 2^(b-1) - 1 that it is modulo 2^b: int64 [64 G]."""
    half = 1 << (bits - 1)
    numbers = residues.astype(np.int64)
    numbers ^= half
    numbers -= half
    return numbers
