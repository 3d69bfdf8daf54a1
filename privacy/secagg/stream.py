"""The mask stream: AES-256 in counter mode, in chunks of 256 KiB that can be made in any order.

Byte k of chunk c is byte k of the AES-256-CTR keystream (NIST SP 800-38A, 6.5) under the seed with
the first counter block c (96 bits, big-endian) | 2 (32 bits, big-endian). That is what AES-GCM
with nonce c adds to its plaintext (SP 800-38D, 7.1), so zeros sealed with GCM are the same bytes;
its pipeline is the fastest that OpenSSL has, twice as fast as plain CTR where measured. The tag
is discarded. A chunk has 2^14 blocks, far from where a 32-bit counter would wrap.

Lanes are 64-bit words, little-endian in the stream, and sums of them are modulo 2^64; shorter words
are added modulo 2^16 or 2^32 (sealed steps).
"""

# Why: docs/adr/0010-secure-aggregation-kernel.md

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from privacy.errors import SecAggError
from privacy.wire.secagg import Lanes

STREAM_CHUNK_BYTES: Final = 1 << 18  # accumulator, stream and zeros stay in a core's L2 together
CHUNK_LANES: Final = STREAM_CHUNK_BYTES // 8
SEED_BYTES: Final = 32

_TAG_BYTES: Final = 16
_ZEROS: Final = memoryview(bytes(STREAM_CHUNK_BYTES))
_LANE: Final = np.dtype("<u8")
_MASKED: Final = {np.dtype(np.uint64), np.dtype(np.uint32), np.dtype(np.uint16)}

_NO_LANES: Final = np.zeros(0, np.uint64)

MaskedWords: TypeAlias = NDArray[np.unsignedinteger[Any]]


class MaskStream(Protocol):
    """Words that look random to whoever does not know the seed."""

    def lanes(self, chunk: int, count: int) -> Lanes:
        """The first `count` (up to `CHUNK_LANES`) words of a chunk; valid until the next call."""


class Keystream:
    """The stream of one seed. `scratch`: memory of `scratch_memory()` shared by streams."""

    def __init__(self, seed: bytes, scratch: bytearray | None = None) -> None:
        if len(seed) != SEED_BYTES:
            raise SecAggError(f"A mask seed has {len(seed)} bytes, not {SEED_BYTES}.")
        self._seed = seed
        self._cipher = AESGCM(seed)
        self._scratch = scratch_memory() if scratch is None else scratch

    def lanes(self, chunk: int, count: int) -> Lanes:
        """See `MaskStream.lanes`."""
        room = memoryview(self._scratch)[: 8 * count + _TAG_BYTES]
        _fill(self._seed, self._cipher, chunk, room)
        return np.frombuffer(room, _LANE, count)


def scratch_memory() -> bytearray:
    """Room for one chunk and its tag, for use by one thread."""
    return bytearray(STREAM_CHUNK_BYTES + _TAG_BYTES)


def apply_masks(
    words: MaskedWords,
    seeds: Sequence[tuple[bytes, int]],
    open_stream: Callable[[bytes], MaskStream] | None = None,
    behind: Lanes | None = None,
) -> None:
    """Add to `words` (uint64 [L], in place) sign * stream(seed) for every (seed, sign = +1 or -1).

    The masked input of Bonawitz et al. 2017, section 4, with R = 2^64:

        y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_uv)  mod R

    Words may have 32 or 16 bits too, as many as fill whole lanes: then R is 2^32 or 2^16, and the
    stream is read as such words, little-endian, one after the other. Lanes `behind` them are masked
    modulo 2^64 with what follows in the stream.

    Goes chunk by chunk over all seeds, so that the sum of one chunk never leaves the cache.
    `open_stream` replaces the cipher in tests. Raises `SecAggError` for another type, shape or
    sign, before a word has changed.
    """
    behind = _NO_LANES if behind is None else behind
    _check_maskable(words, behind, seeds)
    scratch = scratch_memory()
    opened = open_stream or (lambda seed: Keystream(seed, scratch))
    # No stream is read while another one's words are in use: one scratch serves them all.
    streams = [(opened(seed), np.add if sign > 0 else np.subtract) for seed, sign in seeds]
    in_lane, little = 8 // words.itemsize, words.dtype.newbyteorder("<")
    first = len(words) // in_lane  # lanes of the stream that are for `words`
    for chunk, start in enumerate(range(0, first + len(behind), CHUNK_LANES)):
        end = start + CHUNK_LANES
        part = words[start * in_lane : end * in_lane]
        rest = behind[max(0, start - first) : max(0, end - first)]
        own = len(part) // in_lane
        for stream, into in streams:
            # Words wrap around, which is the reduction modulo R: each s_uv cancels exactly.
            mask = stream.lanes(chunk, own + len(rest))
            into(part, mask[:own].view(little), out=part)
            if len(rest):
                into(rest, mask[own:], out=rest)


def _check_maskable(words: MaskedWords, behind: Lanes, seeds: Sequence[tuple[bytes, int]]) -> None:
    """Before the first stream: a row with half of its masks is neither an update nor masked."""
    flat = words.ndim == 1 and words.flags.c_contiguous and behind.dtype == np.uint64
    if words.dtype not in _MASKED or not flat or words.nbytes % 8:
        raise SecAggError("Lanes to be masked are not one row of 64-bit words, or of shorter ones.")
    if any(sign not in (1, -1) for _, sign in seeds):
        raise SecAggError("A mask is neither added nor subtracted: its sign is not +1 or -1.")


def _fill_by_gcm(seed: bytes, cipher: AESGCM, chunk: int, room: memoryview) -> None:
    """One call into OpenSSL per chunk; `room` takes the stream and 16 bytes of tag."""
    # A nonce is used once per seed, and a seed is of one attempt: no keystream comes twice. The
    # tag has no use here: the masked vector is signed.
    cipher.encrypt_into(chunk.to_bytes(12, "big"), _ZEROS[: len(room) - _TAG_BYTES], None, room)


def _fill_by_ctr(seed: bytes, cipher: AESGCM, chunk: int, room: memoryview) -> None:
    """The same bytes with a `cryptography` that has no `encrypt_into`."""
    # GCM keeps the counter 1 for its tag and starts the text at 2 (SP 800-38D, 7.1, steps 2 and 3).
    counter = chunk.to_bytes(12, "big") + (2).to_bytes(4, "big")
    encryptor = Cipher(algorithms.AES256(seed), modes.CTR(counter)).encryptor()
    encryptor.update_into(_ZEROS[: len(room) - _TAG_BYTES], room)


_fill: Final = _fill_by_gcm if hasattr(AESGCM, "encrypt_into") else _fill_by_ctr
