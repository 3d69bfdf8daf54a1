"""One end of the socket pair between agent and trainer.

The pair has no name anywhere: who was not given an end cannot open one. Nothing is unpickled; a
frame is one of the few in `client.trainer.frames`, of a bounded length.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from client.trainer.frames import FRAME_HEADER, Frame, FrameBody
from privacy.errors import WireError

_Got = TypeVar("_Got", covariant=True)


class _Decodes(Protocol[_Got]):
    """The class of a frame."""

    def decode(self, body: FrameBody) -> _Got: ...


class Channel(Generic[_Got]):
    """Sends any frame; receives those of `kinds`, with bodies of at most `limit` bytes.

    `send` may be called from several threads, `receive` from one.
    """

    def __init__(self, end: socket.socket, kinds: Mapping[int, _Decodes[_Got]], limit: int) -> None:
        self._end = end
        self._kinds = kinds
        self.limit = limit
        self._sending = threading.Lock()

    def send(self, frame: Frame) -> None:
        """Send `frame` whole; raises `OSError` where nobody is at the other end."""
        body = frame.encode()
        with self._sending:
            self._end.sendall(FRAME_HEADER.pack(frame.KIND, len(body)))
            self._end.sendall(body)

    def receive(self) -> _Got | None:
        """The next frame; None once the other end is gone. Raises `WireError`."""
        header = self._exactly(FRAME_HEADER.size)
        if header is None:
            return None
        kind, length = FRAME_HEADER.unpack(header)
        if kind not in self._kinds or length > self.limit:
            raise WireError(f"Between agent and trainer came kind {kind} of {length} bytes.")
        body = self._exactly(length)
        return None if body is None else self._kinds[kind].decode(body)

    def close(self) -> None:
        """End it; whoever waits at either end learns it at once."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def _exactly(self, length: int) -> bytearray | None:
        data = bytearray(length)
        rest = memoryview(data)
        while rest:
            try:
                count = self._end.recv_into(rest)
            except OSError:  # reset, or closed by `close` in another thread
                return None
            if count == 0:
                return None
            rest = rest[count:]
        return data
