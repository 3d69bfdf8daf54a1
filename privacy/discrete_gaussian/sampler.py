"""Integers from the discrete Gaussian around real centres, by one look-up for each byte of them.

A centre is a whole number of 2^-16 (or 2^-24) grid units. Each look-up takes its lowest byte l off:
it replaces the centre, in steps of 256 of its units, by a draw from D(Z, 1.5, l / 256); the last
one draws the result from D(Z, s, h / 256). The first draws are randomised roundings to the nearest
1/256 or so: they add (1.5 / 256)^2 of variance to s^2, and multiply the probability of a result by
a factor within exp(+-1e-18) (Micciancio and Walter 2017, "Gaussian Sampling over the Integers",
arXiv-free version IACR 2017/259, section 4; the factors in docs/adr/0038-exact-noise.md).

Every look-up is a bisection of a fixed number of steps over thresholds of 128 bits, without a
branch that depends on a secret number. Which memory is read does depend on it.

    number i, look-up j of m:  the block m i + j of AES-256-CTR under the seed, counter from 0, as a
                               little-endian 128-bit number u; the result is the number of
                               thresholds of the row that are <= u, plus the row's first integer
"""

# Why: docs/adr/0038-exact-noise.md

from __future__ import annotations

from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from privacy.discrete_gaussian.tables import (
    FIRST_DEVIATION,
    ROW_BITS,
    ThresholdTable,
    threshold_table,
)
from privacy.errors import AccountingError

Integers = NDArray[np.int64]

NOISE_SEED_BYTES: Final = 32
FRACTION_BITS: Final = (16, 24)
"""Of centres: a look-up for the result, and one for each byte but the last."""

_CHUNK: Final = 1 << 14  # numbers at once: all that one look-up needs stays in a core's cache
_BLOCK: Final = 16
_BYTE: Final = (1 << ROW_BITS) - 1


def draw(
    centres: Integers, deviation: int, seed: bytes, *, fraction_bits: int = FRACTION_BITS[0]
) -> Integers:
    """Independent draws from D(Z, s, c) for every centre c: int64 [n]. A function of its arguments.

    `centres`: int64 [n], in units of 2^-`fraction_bits` (16 or 24), at most 2^62 in absolute value.
    `deviation`: s in units of 2^-16. `seed`: 32 secret bytes, for one call only: whoever knows them
    knows the noise, and whoever sees two calls under one seed sees the difference of the centres.

    Raises `AccountingError` for another type or shape, and for a deviation outside [1, 256]: never
    for what a centre is.
    """
    if centres.dtype != np.int64 or centres.ndim != 1:
        raise AccountingError("The centres of a draw are not one row of 64-bit integers.")
    if len(seed) != NOISE_SEED_BYTES or fraction_bits not in FRACTION_BITS:
        raise AccountingError(
            f"A draw with a seed of {len(seed)} bytes and {fraction_bits} fraction bits; it takes "
            f"{NOISE_SEED_BYTES} bytes and 16 or 24 bits."
        )
    roundings = fraction_bits // ROW_BITS - 1
    tables = [*[threshold_table(FIRST_DEVIATION)] * roundings, threshold_table(deviation)]
    stream = Cipher(algorithms.AES256(seed), modes.CTR(bytes(_BLOCK))).encryptor()
    drawn = centres.copy()
    for start in range(0, len(drawn), _CHUNK):
        part = drawn[start : start + _CHUNK]
        words = _words(stream, len(part), len(tables))
        for number, table in enumerate(tables):
            rows = part & _BYTE
            part >>= ROW_BITS  # rounds down, so that what is left of the byte is never negative
            part += _look_up(table, rows, words[2 * number], words[2 * number + 1])
    return drawn


def _words(stream: CipherContext, count: int, look_ups: int) -> NDArray[np.uint64]:
    """The next random numbers: uint64 [2 look_ups, count], the lower half of each first."""
    made = np.frombuffer(stream.update(bytes(_BLOCK * look_ups * count)), dtype="<u8")
    return np.ascontiguousarray(made.reshape(count, -1).T)


def _look_up(
    table: ThresholdTable, rows: Integers, low: NDArray[np.uint64], high: NDArray[np.uint64]
) -> Integers:
    """The integers that the numbers `high`, `low` stand for in `rows` of the table."""
    bases = rows << table.steps
    places = bases - 1
    for step in reversed(range(table.steps)):
        # Of the next 2^step thresholds, the last one is looked at: if it is <= u, all of them are.
        probes = places + (1 << step)
        upper = table.high.take(probes)
        below = upper < high
        below |= (upper == high) & (table.low.take(probes) <= low)
        places += below.astype(np.int64) << step
    places -= bases - 1
    # Only the largest u reaches the padding; it belongs to the last integer, like all above F.
    np.minimum(places, table.last, out=places)
    places += table.first
    return places
