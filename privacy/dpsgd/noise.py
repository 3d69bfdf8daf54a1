"""Randomness that protects people: a cryptographic stream, never torch's or numpy's generator.

The noise is continuous: its floating-point representation can leak in principle (Mironov 2012;
Jin et al. 2021, arXiv 2112.05307). Summing Box-Muller draws makes that impractical
(Holohan and Braghin 2021, arXiv 2107.10138, section 4); it does not exclude it.
"""

from __future__ import annotations

import math
import os
from typing import Final, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from privacy.errors import AccountingError

_SUMMED: Final = 4  # Gaussians in one sample: 2n with n = 2 in Holohan and Braghin
_CHUNK: Final = 1 << 18  # samples at once: bounds the memory


class NoiseSource(Protocol):
    """Where a site's secret randomness comes from."""

    def gaussian(
        self, n: int, std: float, dtype: type[np.floating] = np.float32
    ) -> NDArray[np.floating]:
        """`n` independent samples of N(0, std^2), computed in float64, returned as `dtype`."""

    def uniform(self, n: int) -> NDArray[np.float64]:
        """`n` independent samples, uniform on the multiples of 2^-53 in [0, 1)."""


class SystemNoise:
    """AES-256 in counter mode; every call takes a fresh key and counter from the system.

    Nothing is kept between calls, so that no two calls, threads or forked processes share a stream.
    """

    def gaussian(
        self, n: int, std: float, dtype: type[np.floating] = np.float32
    ) -> NDArray[np.floating]:
        """See `NoiseSource.gaussian`. Raises `AccountingError` for a negative or NaN `std`."""
        if not (math.isfinite(std) and std >= 0):
            raise AccountingError(f"The noise's standard deviation is {std!r}.")
        samples = np.empty(n, dtype)
        for start in range(0, n, _CHUNK):
            part = samples[start : start + _CHUNK]
            part[:] = std * self._standard(len(part))
        return samples

    def uniform(self, n: int) -> NDArray[np.float64]:
        """See `NoiseSource.uniform`."""
        # 53 bits, a float64's precision: every multiple of 2^-53 in [0, 1) is equally likely.
        return np.asarray((_words(n) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)

    def _standard(self, n: int) -> NDArray[np.float64]:
        """`n` samples of N(0, 1), each half the sum of four Box-Muller draws of their own."""
        radii, turns = self.uniform(2 * _SUMMED * n).reshape(2, _SUMMED, n)
        # 1 - u lies in (0, 1]: never log(0). The sine's twin is not used: it shares the radius.
        # sqrt(-2 ln(1 - u)) cos(2 pi v) is N(0, 1) for uniform u, v (Box and Muller 1958).
        draws = np.sqrt(-2.0 * np.log1p(-radii)) * np.cos(2.0 * np.pi * turns)
        # Four of them over sqrt(4) are N(0, 1) again; whoever wants to undo the rounding has to
        # find four floating-point numbers that add up to the sample (Holohan and Braghin).
        return np.asarray(draws.sum(axis=0) / math.sqrt(_SUMMED))


def _words(n: int) -> NDArray[np.uint64]:
    """`n` words of 64 random bits."""
    cipher = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(os.urandom(16)))
    return np.frombuffer(cipher.encryptor().update(bytes(8 * n)), dtype="<u8")
