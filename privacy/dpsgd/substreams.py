"""Each patient's own randomness of one step, so that leaving one out changes nobody else's.

A step draws one key. Everything that is drawn for a patient (whether it enters, where it stands,
which tiles it uses, the seed of their (t, noise)) is a function of that key, of the purpose and of
the patient's number: AES-256 of a block that holds them. If all were read from one stream in turn,
the numbers of everybody after a patient would move if that patient were not there.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from privacy.dpsgd.noise import NoiseSource

_WORDS: Final = 8  # of 53 random bits each: more than the 256 bits of a key


class Purpose(IntEnum):
    """What numbers are used for: those of two purposes are independent of each other."""

    ENTER = 1
    PLACE = 2
    TILES = 3
    ROWS = 4


def stream_secret(source: NoiseSource) -> bytes:
    """32 bytes from `source`, never used before."""
    return hashlib.sha256(source.uniform(_WORDS).tobytes()).digest()


class Substreams:
    """The streams of one step's patients. Secret: anybody with the key knows the draw."""

    def __init__(self, key: bytes) -> None:
        """`key`: 32 secret bytes, used for one step only."""
        self._cipher = Cipher(algorithms.AES256(key), modes.ECB())

    @classmethod
    def fresh(cls, source: NoiseSource) -> Substreams:
        """With a key drawn from `source`, never used before."""
        return cls(stream_secret(source))

    @classmethod
    def named(cls, secret: bytes, label: bytes) -> Substreams:
        """Those of `label`, always the same: HMAC-SHA256 of it under `secret`, 32 secret bytes."""
        return cls(hmac.digest(secret, label, hashlib.sha256))

    def words(
        self, purpose: Purpose, patients: NDArray[np.int64], index: NDArray[np.int64] | int = 0
    ) -> NDArray[np.uint64]:
        """Two words of 64 random bits for each of `patients`, or of its `index`: [n, 2]."""
        numbers, indices = np.broadcast_arrays(patients, index)
        blocks = np.empty((len(numbers), 2), dtype="<u8")
        blocks[:, 0] = numbers
        blocks[:, 1] = (int(purpose) << 32) + indices
        found = self._cipher.encryptor().update(blocks.tobytes())
        return np.frombuffer(found, dtype="<u8").reshape(-1, 2)

    def uniform(self, purpose: Purpose, patients: NDArray[np.int64]) -> NDArray[np.float64]:
        """A number for each of `patients`, uniform on the multiples of 2^-53 in [0, 1)."""
        words = self.words(purpose, patients)[:, 0]
        return np.asarray((words >> np.uint64(11)) * 2.0**-53, dtype=np.float64)
