"""How a site tells the opened sum from a false one: two homomorphic tags, added with the vectors.

    mk       = expanded(G, "mac", L, session, step, attempt, K)    G: the group's secret
    alpha    = words of the stream with the seed expanded(mk, "alpha", tag), one for each number
    beta     = expanded(mk, "beta", tag), the first 8 bytes as one word
    tag(x)   = sum over all numbers of alpha * the number                        modulo 2^64
    proof    = tag 0, tag 1 of a site's packed vector; the lowest site of K adds beta to each

Lanes are packed as in `residues`; a number is the one from -2^(b-1) to 2^(b-1) - 1 that its b bits
stand for. So as long as no number of the sum leaves its b bits, and no site's own does, the tags of
the vectors add up to the tag of their sum. A number times a secret word modulo 2^64 hides all but
the lowest bits of the number: numbers that differ by less than 2^b agree in a tag with probability
2^-(65-b) at most (the difference is divisible by 2^(b-1) at most), in both tags 2^-(130-2b), which
is 2^-100 for b up to 15. Every bit of the lanes is one of a number's, those that fill up included.

beta is used once (a label is used once), so 0, 2S and another step's sum do not verify either
(Wegman and Carter 1981). All members know G: the coordinator *with one site* can forge a sum. No
epsilon rests on this.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from privacy.secagg.sealed.epochs import expanded
from privacy.secagg.sealed.residues import Residues, residues_in, signed
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


def tags_of(residues: Residues, bits: int, key: bytes, *, constant: bool) -> Lanes:
    """Both tags (uint64 [2]) of all numbers of a packed vector; `constant`: beta is added."""
    numbers = signed(residues, bits).view(np.uint64)
    scratch = scratch_memory()
    seeds = [expanded(key, b"alpha", bytes((tag,))) for tag in range(TAGS)]
    streams = [Keystream(seed, scratch) for seed in seeds]
    tags = np.zeros(TAGS, np.uint64)
    for chunk, start in enumerate(range(0, len(numbers), CHUNK_LANES)):
        part = numbers[start : start + CHUNK_LANES]
        for tag, stream in enumerate(streams):
            # uint64 wraps around: the product and the sum are those modulo 2^64.
            tags[tag : tag + 1] += np.dot(part, stream.lanes(chunk, len(part)))
    return tags + _constants(key) if constant else tags


def proves(opened: OpenedSum, bits: int, key: bytes) -> bool:
    """Whether the lanes behind an opened sum prove it."""
    tags = tags_of(residues_in(opened.packed, bits), bits, key, constant=True)
    zero, *shown = opened.lanes[len(opened.packed) :]
    return bool(zero == 0 and np.array_equal(tags, shown))


def _constants(key: bytes) -> Lanes:
    parts = [expanded(key, b"beta", bytes((tag,)))[:8] for tag in range(TAGS)]
    return np.frombuffer(b"".join(parts), "<u8")
