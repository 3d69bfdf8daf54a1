"""What agent and nursery say to each other, and how a trainer ends. Imports next to nothing.

agent   -> nursery: length u32, orders in JSON; with the first byte comes the trainer's end of
                    the channel
nursery -> agent:   b"S", process id i32: it has started; b"E", exit status i32: it has ended
"""

from __future__ import annotations

import json
import socket
import struct
from enum import IntEnum
from typing import Final, NamedTuple

LENGTH: Final = struct.Struct(">I")
ANSWER: Final = struct.Struct(">ci")
STARTED, ENDED = b"S", b"E"
MODULE: Final = "client.trainer.running"
_LARGEST: Final = 1 << 16


class TrainerExit(IntEnum):
    """How a trainer ends on its own."""

    DONE = 0
    REFUSED = 1  # something that a person has to change; it said what
    UNEXPECTED = 3
    MEMORY = 4
    AGENT_GONE = 5
    NURSERY_GONE = 6


class Orders(NamedTuple):
    """For one trainer: the site's settings, the study's digest, and the module that trains."""

    site: str
    study: str
    module: str = MODULE


def give(nursery: socket.socket, orders: Orders, end: socket.socket) -> None:
    """Send `orders` and the trainer's `end` of its channel; raises `OSError`."""
    text = json.dumps(orders).encode()
    socket.send_fds(nursery, [LENGTH.pack(len(text))], [end.fileno()])
    nursery.sendall(text)


def take(agent: socket.socket) -> tuple[Orders, socket.socket] | None:
    """The next orders and the channel's end; None once the agent is gone. Raises `OSError`."""
    header, ends, _, _ = socket.recv_fds(agent, LENGTH.size, 1)
    if len(header) < LENGTH.size or len(ends) != 1:
        return None
    (length,) = LENGTH.unpack(header)
    text = exactly(agent, min(length, _LARGEST))
    return None if text is None else (Orders(*json.loads(text)), socket.socket(fileno=ends[0]))


def exactly(end: socket.socket, length: int) -> bytes | None:
    """`length` bytes; None where the other side is gone before. Raises `OSError`."""
    data = b""
    while len(data) < length:
        part = end.recv(length - len(data))
        if not part:
            return None
        data += part
    return data
