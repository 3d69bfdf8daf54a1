"""A random rotation in integers: signs, then a Hadamard matrix, exact and the same everywhere.

A few large coordinates would need wide fields for all of them. Random signs D and a Hadamard matrix
H (entries +1 and -1, H^T H = n I) spread each coordinate over all n (Suresh et al. 2017,
"Distributed Mean Estimation with Limited Communication", arXiv 1611.00429, section 3). Nothing is
divided, so nothing is rounded: `turned` is H D x, `unturned` is D H^T y, and one after the other
is n x.

n need not be a power of two: a Hadamard matrix of order q + 1 exists for every prime q = 3 mod 4
(Paley 1933), and the Kronecker product of two Hadamard matrices is one. With the orders below, n
exceeds the wanted dimension by a ninth at most and 4 % on average (but for the smallest).

The signs are public and protect nobody.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]

# The odd part of n, and the order of a Paley matrix with that odd part: n is order * 2^m.
_PALEY_ORDERS: Final = {
    **{1: 1, 3: 12, 5: 20, 9: 72, 11: 44, 13: 104, 15: 60},
    **{17: 68, 21: 84, 27: 108, 35: 140},
}


def padded_size(parameters: int) -> int:
    """n: the least order of a Hadamard matrix that is known here and holds `parameters` numbers."""
    doublings = [(-(-parameters // order) - 1).bit_length() for order in _PALEY_ORDERS.values()]
    return min(o << m for o, m in zip(_PALEY_ORDERS.values(), doublings, strict=True))


def turned(vector: Int64s, seed: bytes) -> Int64s:
    """H D x, int64 [n], for `vector` int64 [P], followed by zeros.

    No number exceeds sqrt(n) |x|_2, which has to stay below 2^63: more wraps around.
    """
    made = np.zeros(padded_size(len(vector)), np.int64)
    made[: len(vector)] = vector * _signs(seed, len(vector))
    return _butterflies(_by_matrix(made, transposed=False))


def unturned(vector: Int64s, parameters: int, seed: bytes) -> Int64s:
    """The first `parameters` numbers of D H^T y, for `vector` int64 [n]. See `turned`."""
    # The factors of a Kronecker product work on different axes, so their order does not matter.
    made = _butterflies(_by_matrix(vector, transposed=True))
    return made[:parameters] * _signs(seed, parameters)


def _signs(seed: bytes, count: int) -> Int64s:
    """+1 and -1: the bits of SHAKE-256 of the seed, the lowest of a byte first."""
    stream = hashlib.shake_256(b"craftsfl rotation of shares 1 " + seed).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=count, bitorder="little")
    return 1 - 2 * bits.astype(np.int64)


def _by_matrix(vector: Int64s, *, transposed: bool) -> Int64s:
    """The Paley factor, over the slowest axis. A new array."""
    order = _order(len(vector))
    matrix = paley(order)
    columns = vector.reshape(order, -1)
    made = np.empty_like(columns)
    for row, signs in zip(made, matrix.T if transposed else matrix, strict=True):
        # Additions alone, and no matrix product: numpy has no fast one for integers.
        np.subtract(columns[signs > 0].sum(axis=0), columns[signs < 0].sum(axis=0), out=row)
    return made.reshape(-1)


def _butterflies(vector: Int64s) -> Int64s:
    """Sylvester's factor, over the fastest axis, in place; symmetric."""
    length = len(vector) // _order(len(vector))
    half = 1
    while half < length:
        pairs = vector.reshape(-1, 2, half)
        heads, tails = pairs[:, 0], pairs[:, 1]
        difference = heads - tails
        heads += tails
        tails[:] = difference
        half *= 2
    return vector


def _order(size: int) -> int:
    odd = size // (size & -size)
    return _PALEY_ORDERS[odd]


@lru_cache(maxsize=len(_PALEY_ORDERS))
def paley(order: int) -> Int64s:
    """The Hadamard matrix of this order q + 1, int64; q is 0 or a prime, 3 mod 4.

    I + S, where S has +1 in its first row, -1 in its first column and (i - j | q) elsewhere, the
    Legendre symbol (Paley 1933, construction I).
    """
    q = order - 1
    matrix = np.ones((order, order), np.int64)
    if q == 0:
        return matrix
    squares = {number * number % q for number in range(1, q)}
    symbols = np.array([0, *(1 if number in squares else -1 for number in range(1, q))])
    places = np.arange(q)
    matrix[1:, 0] = -1
    matrix[1:, 1:] = symbols[(places[:, None] - places[None, :]) % q] + np.eye(q, dtype=np.int64)
    return matrix
