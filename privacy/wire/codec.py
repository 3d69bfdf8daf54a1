"""A fixed-layout codec: the same values always have the same bytes, so they can be signed.

Integers and floats are big-endian, without padding. A text is its length in bytes (u16) and its
UTF-8. A vector is its length (u32) and little-endian float32 values (the order in memory, so that
200 MB are copied, not converted).

Guarantees, each with a test: a value that does not fit is refused, never truncated; no length
is trusted before its bytes are there; `Reader.end` refuses trailing bytes; NaN is refused.
All refusals are `RefusedMessage` with reason MALFORMED.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

from privacy.wire.reasons import Reason, RefusedMessage

Vector = NDArray[np.float32]

_STORED = np.dtype("<f4")


def malformed(message: str) -> RefusedMessage:
    """The error for bytes or values that the protocol does not allow."""
    return RefusedMessage(Reason.MALFORMED, message)


class Writer:
    """Appends fields; `done` returns their bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def u8(self, value: int) -> Writer:
        """0 .. 255."""
        return self._pack(">B", value)

    def u16(self, value: int) -> Writer:
        """0 .. 2**16 - 1."""
        return self._pack(">H", value)

    def u32(self, value: int) -> Writer:
        """0 .. 2**32 - 1."""
        return self._pack(">I", value)

    def u64(self, value: int) -> Writer:
        """0 .. 2**64 - 1."""
        return self._pack(">Q", value)

    def f64(self, value: float) -> Writer:
        """A finite or infinite number, IEEE 754 binary64."""
        if math.isnan(value):
            raise malformed("A number of a message is NaN.")
        return self._pack(">d", value)

    def fixed(self, value: bytes, length: int) -> Writer:
        """Exactly `length` bytes, e.g. a digest."""
        if len(value) != length:
            raise malformed(f"A field of a message has {len(value)} bytes instead of {length}.")
        self._parts.append(bytes(value))
        return self

    def text(self, value: str, maximum: int) -> Writer:
        """At most `maximum` bytes of UTF-8."""
        data = value.encode("utf-8")
        if len(data) > maximum:
            raise malformed(
                f"A text of a message has {len(data)} bytes; at most {maximum} are allowed."
            )
        self.u16(len(data))
        self._parts.append(data)
        return self

    def vector(self, value: Vector) -> Writer:
        """A float32 array of shape [P]."""
        self.u32(value.size)
        self._parts.append(value.astype(_STORED, copy=False).tobytes())
        return self

    def done(self) -> bytes:
        """The bytes of all fields, in order."""
        return b"".join(self._parts)

    def _pack(self, layout: str, value: float) -> Writer:
        try:
            self._parts.append(struct.pack(layout, value))
        except struct.error:
            raise malformed("A number of a message is out of its range.") from None
        return self


class Reader:
    """Takes fields from `data` in order; call `end` after the last one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def u8(self) -> int:
        """0 .. 255."""
        return self._take(1)[0]

    def u16(self) -> int:
        """0 .. 2**16 - 1."""
        return int.from_bytes(self._take(2), "big")

    def u32(self) -> int:
        """0 .. 2**32 - 1."""
        return int.from_bytes(self._take(4), "big")

    def u64(self) -> int:
        """0 .. 2**64 - 1."""
        return int.from_bytes(self._take(8), "big")

    def f64(self) -> float:
        """A finite or infinite number."""
        (value,) = struct.unpack(">d", self._take(8))
        if math.isnan(value):
            raise malformed("A number of a message is NaN.")
        return float(value)

    def fixed(self, length: int) -> bytes:
        """Exactly `length` bytes."""
        return bytes(self._take(length))

    def text(self, maximum: int) -> str:
        """At most `maximum` bytes of UTF-8."""
        length = self.u16()
        if length > maximum:
            raise malformed(
                f"A text of a message has {length} bytes; at most {maximum} are allowed."
            )
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError:
            raise malformed("A text of a message is not UTF-8.") from None

    def vector(self) -> Vector:
        """A read-only float32 array of shape [P] that shares memory with the message."""
        count = self.u32()
        at = self._pass(4 * count)
        return np.frombuffer(memoryview(self._data)[at : self._at], dtype=_STORED)

    def end(self) -> None:
        """Refuse any bytes after the last field."""
        left = len(self._data) - self._at
        if left:
            raise malformed(f"A message has {left} bytes after its last field.")

    def _take(self, length: int) -> bytes:
        at = self._pass(length)
        return self._data[at : self._at]

    def _pass(self, length: int) -> int:
        """Where a field of this length begins; the next one begins behind it."""
        at = self._at
        if length > len(self._data) - at:
            raise malformed("A message ends in the middle of a field.")
        self._at = at + length
        return at
