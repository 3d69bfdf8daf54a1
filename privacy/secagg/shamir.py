"""Shamir's secret sharing of 32 bytes over a prime field (Shamir 1979).

A secret is the constant term of a random polynomial of degree threshold - 1; share x is its value
at x. Any `threshold` shares determine the secret; fewer, whichever they are, reveal nothing of it.

The field has p = 2^256 + 297 elements, so every 32-byte secret is an element and a share takes
33 bytes (big-endian). Shares carry no check of their own: an altered one leads to another
secret, so the caller compares the result with a public key or a commitment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from privacy.errors import SecAggError
from privacy.wire.secagg import SHARE_BYTES

PRIME: Final = 2**256 + 297  # the first prime above every 32-byte secret
SECRET_BYTES: Final = 32

_ELEMENT_BITS: Final = (1 << PRIME.bit_length()) - 1


def split_secret(
    secret: bytes, n: int, threshold: int, random: Callable[[int], bytes] = os.urandom
) -> tuple[bytes, ...]:
    """`n` shares of `secret` (32 bytes); the share at position k belongs to x = k + 1.

    `random(count)` returns `count` secret random bytes. Raises `SecAggError` when the secret is not
    32 bytes long or not 1 <= threshold <= n.
    """
    if len(secret) != SECRET_BYTES:
        raise SecAggError(f"A secret to be shared has {len(secret)} bytes, not {SECRET_BYTES}.")
    if not 1 <= threshold <= n:
        raise SecAggError(f"{n} shares cannot have the threshold {threshold}.")
    # All polynomials through the secret are equally likely (Shamir 1979), so a leading coefficient
    # of 0 stays in: without it, threshold - 1 shares would rule out one secret.
    # Highest power first, for Horner's rule; the secret is the constant term.
    coefficients = [_element(random) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "big"))
    # From x = 1 on: the share at 0 would be the secret.
    return tuple(_evaluate(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in range(1, n + 1))


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret from shares by x; of more than `threshold` those with the lowest x are used.

    Raises `SecAggError` when there are too few, when one is out of range, or when they cannot
    belong to one 32-byte secret.
    """
    if threshold < 1 or len(shares) < threshold:
        raise SecAggError(f"{len(shares)} shares do not reach the threshold {threshold}.")
    # Any threshold of them determine the polynomial; always the lowest, so that the weights are
    # the same for every secret of an attempt.
    points = tuple(sorted(shares)[:threshold])
    if points[0] < 1:
        raise SecAggError("A share's position is below 1.")
    values = [check_share(shares[x]) for x in points]
    weights = _lagrange_at_zero(points)
    secret = sum(w * v for w, v in zip(weights, values, strict=True)) % PRIME
    # The field has 297 elements that no 32 bytes stand for: only false shares lead there.
    if secret >> (8 * SECRET_BYTES):
        raise SecAggError("The shares of a secret do not belong together.")
    return secret.to_bytes(SECRET_BYTES, "big")


def check_share(share: bytes) -> int:
    """The field element in a share; `SecAggError` for another length or a value not below p."""
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise SecAggError("A share is not an element of the field.")
    return value


def _element(random: Callable[[int], bytes]) -> int:
    """A uniform field element: draws of 257 bits until one is below p (two on average)."""
    # Not one draw modulo p: that would make some elements twice as likely as others.
    while True:
        value = int.from_bytes(random(SHARE_BYTES), "big") & _ELEMENT_BITS
        if value < PRIME:
            return value


def _evaluate(coefficients: list[int], x: int) -> int:
    """The polynomial's value at `x`, by Horner's rule."""
    value = 0
    for coefficient in coefficients:
        value = (value * x + coefficient) % PRIME
    return value


@lru_cache(maxsize=256)  # one attempt opens a secret of every site with the same points
def _lagrange_at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's weights at 0: the value at x_j counts prod over m != j of x_m / (x_m - x_j)."""
    weights = []
    for x in points:
        above = below = 1
        for other in points:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        # Invertible: the points are different and, as site places, far below p.
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
