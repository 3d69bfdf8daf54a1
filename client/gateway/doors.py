"""The two doors of a shut-in gateway, and what is said through them.

Both are stream sockets that are connected already. A request begins with the seconds that it may
take (8 bytes, a double). At the agent's door frames follow (length in 4 bytes, at most 1 MiB, then
the bytes), and one of length 0; the answer is frames in the same way, then one byte, an
`AgentFault`. At the outer door nothing follows; the answer is one byte for the kind, 4 for a
number, and a connected socket if there is one.
"""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from privacy.wire.chunks import CHUNK_BYTES

PORTER_GONE = 5  # exit status of a gateway whose porter is gone: both are started anew
CONNECTED, REFUSED, NAME_FAILED = b"C", b"R", b"N"
_SECONDS, _LENGTH, _NUMBER = struct.Struct("!d"), struct.Struct("!I"), struct.Struct("!i")
_LONGEST_SECONDS = 60.0
_PATIENCE_SECONDS = 15.0  # of the gateway, beyond a request's own seconds


class AgentFault(Enum):
    """Why the agent gave no answer; the values are bytes on the door."""

    NONE = 0
    NO_SOCKET = 1
    NO_PERMISSION = 2
    NO_LISTENER = 3
    SILENT = 4
    BUSY = 5
    TOO_LARGE = 6
    BROKEN = 7  # it hung up


class AgentAway(Exception):
    """The agent gave no answer to a request; `fault` says why."""

    def __init__(self, fault: AgentFault) -> None:
        super().__init__(fault.name)
        self.fault = fault


class AgentDoor:
    """The gateway's side of the door to the agent."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._one_at_a_time = threading.Lock()

    def exchange(self, request: bytes, seconds: float) -> bytes:
        """The agent's answer to the envelope `request`; raises `AgentAway`.

        Ends this process if the porter is gone: without it there is no way to anybody.
        """
        with self._one_at_a_time, _or_end(self._door, seconds):
            self._door.sendall(_SECONDS.pack(seconds))
            for start in range(0, len(request), CHUNK_BYTES):
                send_frame(self._door, request[start : start + CHUNK_BYTES])
            send_frame(self._door, b"")
            answer = b"".join(frames(self._door))
            fault = AgentFault(read_exactly(self._door, 1)[0])
        if fault is not AgentFault.NONE:
            raise AgentAway(fault)
        return answer


class OuterDoor:
    """The gateway's side of the door to the coordinator."""

    def __init__(self, door: socket.socket, host: str, port: int) -> None:
        self._door = door
        self._place = (host, port)
        self._one_at_a_time = threading.Lock()

    def create_connection(
        self,
        address: tuple[str | None, int],
        timeout: float | None = None,
        source_address: object = None,
        *,
        all_errors: bool = False,
    ) -> socket.socket:
        """A TCP connection to the coordinator, which is the only `address` there is.

        In place of `socket.create_connection`: raises `OSError` as that does, `PermissionError` for
        another address. Without a `timeout` (seconds), that of the module holds, or a minute.
        """
        if address != self._place or source_address is not None:
            raise PermissionError(errno.EACCES, f"The gateway may connect to {self._place} only.")
        allowed = timeout if isinstance(timeout, (int, float)) else None
        made = self._handed_in(_LONGEST_SECONDS if allowed is None else allowed)
        made.settimeout(allowed)
        return made

    def _handed_in(self, seconds: float) -> socket.socket:
        with self._one_at_a_time, _or_end(self._door, seconds):
            self._door.sendall(_SECONDS.pack(seconds))
            head, handed, _, _ = socket.recv_fds(self._door, 1 + _NUMBER.size, 1)
            if not head:
                raise EOFError
        kind, (number,) = head[:1], _NUMBER.unpack(head[1:])
        if kind == CONNECTED:
            return socket.socket(fileno=handed[0])
        if kind == NAME_FAILED:
            raise socket.gaierror(number, f"the name {self._place[0]} cannot be resolved")
        raise OSError(number, os.strerror(number))


@contextmanager
def _or_end(door: socket.socket, seconds: float) -> Iterator[None]:
    """End this process if the porter hangs up, or is silent for much too long."""
    door.settimeout(seconds + _PATIENCE_SECONDS)
    try:
        yield
    except (OSError, EOFError):
        os.write(2, b"The porter of this gateway has ended, and so does the gateway.\n")
        os._exit(PORTER_GONE)


def read_request(door: socket.socket) -> float:
    """Wait for the next request; the seconds that it may take, never more than a minute."""
    (seconds,) = _SECONDS.unpack(read_exactly(door, _SECONDS.size))
    return max(0.1, min(float(seconds), _LONGEST_SECONDS)) if seconds == seconds else 0.1  # NaN


def frames(door: socket.socket) -> Iterator[bytes]:
    """The frames up to the empty one; raises `EOFError` if the other side hangs up or lies."""
    while length := _LENGTH.unpack(read_exactly(door, _LENGTH.size))[0]:
        if length > CHUNK_BYTES:
            raise EOFError
        yield read_exactly(door, length)


def send_frame(door: socket.socket, data: bytes) -> None:
    """Write one frame; empty data ends a sequence of them."""
    door.sendall(_LENGTH.pack(len(data)))
    door.sendall(data)


def end_answer(door: socket.socket, fault: AgentFault) -> None:
    """End the frames of an answer, and tell how it ended."""
    send_frame(door, b"")
    door.sendall(bytes([fault.value]))


def hand_over(door: socket.socket, made: socket.socket) -> None:
    """Pass a connected socket through the outer door."""
    socket.send_fds(door, [CONNECTED + _NUMBER.pack(0)], [made.fileno()])


def tell_failure(door: socket.socket, kind: bytes, number: int) -> None:
    """Tell at the outer door why there is no connection: an errno, or a resolver's number."""
    door.sendall(kind + _NUMBER.pack(number))


def read_exactly(door: socket.socket, count: int) -> bytes:
    """`count` bytes; raises `EOFError` if the other side hangs up before."""
    parts = []
    while count:
        part = door.recv(min(count, CHUNK_BYTES))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
