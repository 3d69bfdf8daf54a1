"""Randomness that protects people: a cryptographic stream, never torch's or numpy's generator.

Noise itself is drawn by `privacy.discrete_gaussian`, from a seed that comes from here.
"""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray


class NoiseSource(Protocol):
    """Where a site's secret randomness comes from."""

    def uniform(self, n: int) -> NDArray[np.float64]:
        """`n` independent samples, uniform on the multiples of 2^-53 in [0, 1)."""


class SystemNoise:
    """AES-256 in counter mode; every call takes a fresh key and counter from the system.

    Nothing is kept between calls, so that no two calls, threads or forked processes share a stream.
    """

    def uniform(self, n: int) -> NDArray[np.float64]:
        """See `NoiseSource.uniform`."""
        # 53 bits, a float64's precision: every multiple of 2^-53 in [0, 1) is equally likely.
        return np.asarray((_words(n) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def _words(n: int) -> NDArray[np.uint64]:
    """`n` words of 64 random bits."""
    cipher = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(os.urandom(16)))
    return np.frombuffer(cipher.encryptor().update(bytes(8 * n)), dtype="<u8")
