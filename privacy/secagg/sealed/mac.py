"""How a site tells the opened sum from a false one: two homomorphic tags, added with the vectors.

    mk       = expanded(G, "mac", L, session, step, attempt, K)    G: the group's secret
    alpha    = words of the streams with the seeds expanded(mk, "alpha", tag | field)
    beta     = expanded(mk, "beta", tag), the first 8 bytes as one word
    tag(x)   = sum over lanes and fields of alpha * (the field's number)         modulo 2^64
    proof    = tag 0, tag 1 of a site's packed vector; the lowest site of K adds beta to each

A lane holds floor(64/b) fields, the lowest bits first, each in two's complement of b bits, carries
included: packing is linear, so as long as no field of the sum leaves its b bits, the tags of the
vectors add up to the tag of their sum. A number times a secret word modulo 2^64 hides all but the
lowest bits of the number: fields that differ by less than 2^b agree in a tag with probability
2^-(65-b) at most (the difference is divisible by 2^(b-1) at most), in both tags 2^-(130-2b), which
is 2^-100 for b up to 15. Lanes whose unused bits are not as packing leaves them are refused too.

beta is used once (a label is used once), so 0, 2S and another step's sum do not verify either
(Wegman and Carter 1981). All members know G: the coordinator *with one site* can forge a sum. No
epsilon rests on this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from privacy.secagg.sealed.epochs import expanded
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


def tags_of(packed: Lanes, bits: int, key: bytes, *, constant: bool) -> Lanes:
    """Both tags (uint64 [2]) of packed lanes (uint64 [L]); `constant`: beta is added."""
    tags, _ = _read(packed, bits, key)
    return tags + _constants(key) if constant else tags


def proves(opened: OpenedSum, bits: int, key: bytes) -> bool:
    """Whether the lanes behind an opened sum prove it, and its lanes are as packing leaves them."""
    tags, canonical = _read(opened.packed, bits, key)
    zero, *shown = opened.lanes[len(opened.packed) :]
    return canonical and zero == 0 and bool(np.array_equal(tags + _constants(key), shown))


def _read(packed: Lanes, bits: int, key: bytes) -> tuple[Lanes, bool]:
    """The tags without their constants, and whether every lane is what its fields pack to."""
    fields = 64 // bits
    scratch = scratch_memory()
    streams = [
        [Keystream(expanded(key, b"alpha", bytes((tag, place))), scratch) for tag in range(TAGS)]
        for place in range(fields)
    ]
    tags = np.zeros(TAGS, np.uint64)
    unused = np.uint64((1 << (64 - bits * fields)) - 1)
    canonical = True
    for chunk, start in enumerate(range(0, len(packed), CHUNK_LANES)):
        rest = packed[start : start + CHUNK_LANES].copy()
        for numbers, row in zip(_fields(rest, bits), streams, strict=True):
            for tag, stream in enumerate(row):
                # uint64 wraps around: the product and the sum are those modulo 2^64.
                tags[tag : tag + 1] += np.dot(numbers, stream.lanes(chunk, len(numbers)))
        canonical = canonical and not bool(np.any(rest & unused))
    return tags, canonical


def _fields(rest: Lanes, bits: int) -> Iterator[Lanes]:
    """The numbers of each field, modulo 2^64, from the lowest on; `rest` is used up."""
    width, sign, low = np.uint64(bits), np.uint64(1 << (bits - 1)), np.uint64((1 << bits) - 1)
    for _ in range(64 // bits):
        numbers = ((rest & low) ^ sign) - sign
        rest -= numbers
        rest >>= width
        yield numbers


def _constants(key: bytes) -> Lanes:
    parts = [expanded(key, b"beta", bytes((tag,)))[:8] for tag in range(TAGS)]
    return np.frombuffer(b"".join(parts), "<u8")
