"""How a site tells the opened sum from a false one: two homomorphic tags, added with the vectors.

    mk       = expanded(G, "mac", L, session, step, attempt, K)    G: the group's secret
    alpha    = words of the stream with the seed expanded(mk, "alpha", tag), one for each number
    beta     = expanded(mk, "beta", tag), the first 8 bytes as one word
    tag(x)   = sum over all numbers of alpha * the number                        modulo 2^64
    proof    = tag 0, tag 1 of a site's vector; the lowest site of K adds beta to each

A site's tags are of its numbers as they are, before they are reduced to b bits. So the tags of a
cohort tell those who know mk a function of the sum over the integers, which is what epsilon is
about, and nothing else. Of reduced numbers they would also tell whose number had left its b bits,
where, in a sum in which none did: a look at one site's share of the noise alone.

The sum's numbers are read off its lanes (`residues`): from -2^(b-1) to 2^(b-1) - 1. As long as
none of them leaves its b bits, the tags verify. A number times a secret word modulo 2^64 hides all
but the lowest bits of the number: numbers that differ by less than 2^b agree in a tag with
probability 2^-(65-b) at most (the difference is divisible by 2^(b-1) at most), in both tags
2^-(130-2b), which is 2^-100 for b up to 15. Every bit of the lanes is one of a number's, those that
fill up included.

beta is used once (a label is used once), so 0, 2S and another step's sum do not verify either
(Wegman and Carter 1981). All members know G: the coordinator *with one site* can forge a sum. No
epsilon rests on this.
"""

# Why: docs/adr/0081-tags-of-integers.md

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.secagg.sealed.epochs import expanded
from privacy.secagg.sealed.residues import residues_in, signed
from privacy.secagg.stream import CHUNK_LANES, Keystream, scratch_memory
from privacy.wire.codec import Writer
from privacy.wire.sealed import OpenedSum
from privacy.wire.secagg import Lanes
from privacy.wire.sites import write_ids

TAGS: Final = 2


def mac_key(
    group: bytes, label: bytes, when: tuple[int, int, int], cohort: tuple[int, ...]
) -> bytes:
    """mk of one attempt; `when` is (session, step, attempt)."""
    writer = Writer()
    for number in when:
        writer.u32(number)
    write_ids(writer, cohort)
    return expanded(group, b"mac", label, writer.done())


def tags_of(numbers: NDArray[np.int64], key: bytes, *, constant: bool) -> Lanes:
    """Both tags (uint64 [2]) of a vector's numbers, int64 [n]; `constant`: beta is added.

    Zeros behind them change nothing.
    """
    words = numbers.astype(np.int64, order="C", copy=False).view(np.uint64)
    scratch = scratch_memory()
    seeds = [expanded(key, b"alpha", bytes((tag,))) for tag in range(TAGS)]
    streams = [Keystream(seed, scratch) for seed in seeds]
    tags = np.zeros(TAGS, np.uint64)
    for chunk, start in enumerate(range(0, len(words), CHUNK_LANES)):
        part = words[start : start + CHUNK_LANES]
        for tag, stream in enumerate(streams):
            # uint64 wraps around: the product and the sum are those modulo 2^64.
            tags[tag : tag + 1] += np.dot(part, stream.lanes(chunk, len(part)))
    return tags + _constants(key) if constant else tags


def proves(opened: OpenedSum, bits: int, key: bytes) -> bool:
    """Whether the lanes behind an opened sum prove it."""
    tags = tags_of(signed(residues_in(opened.packed, bits), bits), key, constant=True)
    zero, *shown = opened.lanes[len(opened.packed) :]
    return bool(zero == 0 and np.array_equal(tags, shown))


def _constants(key: bytes) -> Lanes:
    parts = [expanded(key, b"beta", bytes((tag,)))[:8] for tag in range(TAGS)]
    return np.frombuffer(b"".join(parts), "<u8")
