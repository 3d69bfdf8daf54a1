"""Whether two pictures look alike: a difference hash (Krawetz 2013) of 16 x 16 bits, and pairs.

It finds copies that were saved again, scaled, or made a little brighter; not copies that were
turned or cut. Nobody's data is changed by it: a person decides what a likeness means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from PIL import Image

SIDE: Final = 16
_HASH_BYTES: Final = SIDE * SIDE // 8
# Bits of 256 in which two hashes of one picture may differ. Of 438 real tiles, no two differ in
# fewer than 55; of copies saved at JPEG quality 60 or scaled to 2/3, nine in ten in at most 14.
NEAR: Final = 36
MOST_COMPARED: Final = 50_000  # tiles; each is compared with each
_BLOCK: Final = 128  # of them at once


def likeness_hash(grey: Image.Image) -> bytes:
    """The hash of a picture of mode L: where it gets brighter from left to right, coarsely."""
    small = grey.resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).tobytes()


def alike(hashes: Sequence[bytes], owners: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The places (a < b) of different owners' pictures whose hashes differ in at most `NEAR` bits.

    In order of a, then b. Takes time in the square of their number: 10,000 take about a second.
    """
    table = np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, _HASH_BYTES // 8)
    owned = np.asarray(owners)
    for start in range(0, len(table), _BLOCK):
        rows, who = table[start : start + _BLOCK], owned[start : start + _BLOCK]
        differs = np.zeros((len(rows), len(table) - start), np.uint8)
        for mine, others in zip(rows.T, table[start:].T, strict=True):
            differs += np.minimum(np.bitwise_count(mine[:, None] ^ others), 63)
        close = (differs <= NEAR) & (who[:, None] != owned[start:])
        for first, second in zip(*np.nonzero(close), strict=True):
            if first < second:
                yield start + int(first), start + int(second)
