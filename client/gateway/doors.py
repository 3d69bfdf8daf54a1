"""The two doors of a shut-in gateway, and what is said through them.

Both are stream sockets that are connected already. At the agent's door a request is one byte:
KNOCK, answered by one byte; or FORWARD, followed by frames (length in 4 bytes, at most 1 MiB, then
the bytes) and one of length 0, answered by frames in the same way and one byte, a `Reason` or 0. At
the outer door a request is the seconds that it may take (8 bytes, a double); the answer is one byte
for the kind, 4 for a number, and a connected socket if there is one.
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

from client.forwarded import DEADLINE, AtTheSocket, Forwarded
from privacy.wire.chunks import CHUNK_BYTES
from privacy.wire.reasons import Reason

PORTER_GONE = 5  # exit status of a gateway whose porter is gone: both are started anew
FORWARD, KNOCK = b"F", b"K"
CONNECTED, REFUSED, NAME_FAILED = b"C", b"R", b"N"
LONGEST_SECONDS = 60.0  # for a connection to the coordinator
_FOUND = tuple(AtTheSocket)  # its place is the answer to KNOCK
_SECONDS, _LENGTH, _NUMBER = struct.Struct("!d"), struct.Struct("!I"), struct.Struct("!i")
_PATIENCE_SECONDS = 15.0  # with the porter, beyond what a request may take


class AgentDoor:
    """The gateway's side of the door to the agent: as `client.forwarder`, without a socket."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._one_at_a_time = threading.Lock()

    def forward(self, request: bytes) -> Forwarded:
        """The agent's answer to one envelope, or a sealed refusal.

        Ends this process if the porter is gone: without it there is no way to anybody.
        """
        with self._one_at_a_time, _or_end(self._door, DEADLINE):
            self._door.sendall(FORWARD)
            send_frames(self._door, request)
            answer = b"".join(frames(self._door))
            (reason,) = read_exactly(self._door, 1)
        return Forwarded(answer, Reason(reason) if reason else None)

    def knock(self) -> AtTheSocket:
        """What somebody who knocks at the agent's socket finds."""
        with self._one_at_a_time, _or_end(self._door, DEADLINE):
            self._door.sendall(KNOCK)
            return _FOUND[read_exactly(self._door, 1)[0]]


class OuterDoor:
    """The gateway's side of the door to the coordinator, at `host`:`port`."""

    def __init__(self, door: socket.socket, host: str, port: int) -> None:
        self._door = door
        self._place = (host, port)
        self._one_at_a_time = threading.Lock()

    def create_connection(
        self,
        address: tuple[str | None, int],
        timeout: float | object | None = None,
        source_address: object = None,
        *,
        all_errors: bool = False,
    ) -> socket.socket:
        """A TCP connection to the coordinator, which is the only `address` there is.

        In place of `socket.create_connection`: raises `OSError` as that does, `PermissionError` for
        another address. `timeout` is in seconds.
        """
        place = (_as_asked(address[0] or ""), address[1])
        if place != (_as_asked(self._place[0]), self._place[1]) or source_address is not None:
            raise PermissionError(errno.EACCES, f"The gateway may connect to {self._place} only.")
        allowed = timeout if isinstance(timeout, (int, float)) else None
        made = self._handed_in(LONGEST_SECONDS if allowed is None else allowed)
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


def _as_asked(host: str) -> bytes:
    """A host's name as a resolver is asked for it; httpx writes it in small letters, encoded."""
    try:
        return host.encode("idna").lower()
    except UnicodeError:
        return host.encode("utf-8")


@contextmanager
def _or_end(door: socket.socket, seconds: float) -> Iterator[None]:
    """End this process if the porter hangs up, or is silent for much too long."""
    door.settimeout(seconds + _PATIENCE_SECONDS)
    try:
        yield
    except (OSError, EOFError):
        os.write(2, b"desk: The porter of this gateway has ended; both are started again.\n")
        os._exit(PORTER_GONE)


def read_seconds(door: socket.socket) -> float:
    """Wait for a request at the outer door; how long it may take, never more than a minute."""
    (seconds,) = _SECONDS.unpack(read_exactly(door, _SECONDS.size))
    return float(seconds) if 0.1 <= seconds <= LONGEST_SECONDS else LONGEST_SECONDS


def frames(door: socket.socket) -> Iterator[bytes]:
    """The frames up to the empty one; raises `EOFError` if the other side hangs up or lies."""
    while length := _LENGTH.unpack(read_exactly(door, _LENGTH.size))[0]:
        if length > CHUNK_BYTES:
            raise EOFError
        yield read_exactly(door, length)


def send_frames(door: socket.socket, data: bytes) -> None:
    """Send `data` in frames, and the empty one."""
    for start in range(0, len(data), CHUNK_BYTES):
        part = data[start : start + CHUNK_BYTES]
        door.sendall(_LENGTH.pack(len(part)) + part)
    door.sendall(_LENGTH.pack(0))


def answer_forward(door: socket.socket, found: Forwarded) -> None:
    """Send what the agent said, and the reason if it said nothing."""
    send_frames(door, found.answer)
    door.sendall(bytes([found.silent or 0]))


def answer_knock(door: socket.socket, found: AtTheSocket) -> None:
    """Send what was found at the agent's socket."""
    door.sendall(bytes([_FOUND.index(found)]))


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
