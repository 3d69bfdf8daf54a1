"""The porter: the small process at the doors of a gateway that has shut itself in.

`python -P -m client.gateway.porter AGENT_DOOR OUTER_DOOR SOCKET HOST PORT LARGEST`

A shut-in gateway can open no socket. Of its two doors, both inherited, this process keeps the other
sides: an envelope from AGENT_DOOR goes to the agent's socket as one `Exchange` and nothing else; at
OUTER_DOOR it hands out TCP connections to HOST:PORT and nothing else, with the name resolved anew
for each. It looks into nothing that passes, holds no more than LARGEST bytes of an envelope, reads
nothing from the network, and ends when the gateway does.
"""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from enum import Enum

from client.confinement.kernel import forbid_new_privileges, keep_capabilities, set_dumpable
from client.forwarder import forward, knock
from client.gateway.doors import (
    FORWARD,
    KNOCK,
    NAME_FAILED,
    REFUSED,
    answer_forward,
    answer_knock,
    frames,
    hand_over,
    read_exactly,
    read_seconds,
    tell_failure,
)


def carry_to_agent(door: socket.socket, agent_socket: str, largest: int) -> None:
    """Carry envelopes from `door` to the agent's socket; raises `EOFError` at the end."""
    while True:
        verb = read_exactly(door, 1)
        if verb == KNOCK:
            answer_knock(door, knock(agent_socket))
        elif verb == FORWARD:
            answer_forward(door, forward(_envelope(door, largest), agent_socket))
        else:
            raise EOFError


def _envelope(door: socket.socket, largest: int) -> bytes:
    parts, size = [], 0
    for part in frames(door):
        size += len(part)
        if size > largest:  # the gateway keeps to that, unless it is hostile
            raise EOFError
        parts.append(part)
    return b"".join(parts)


class Reach(Enum):
    """How far away an address is."""

    MACHINE = "this machine"
    NETWORK = "a private network"
    WORLD = "the internet"


def reach_of(address: str) -> Reach:
    """How far away `address` is; what is not the internet's and not this machine's is private."""
    found = ipaddress.ip_address(address.partition("%")[0])  # without the interface
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_loopback or found.is_unspecified:
        return Reach.MACHINE
    return Reach.WORLD if found.is_global else Reach.NETWORK


class Outside:
    """Connects to `host`:`port`, with the name resolved anew each time.

    Who owns the name decides what it means, and could let it mean the hospital's own machines once
    the gateway is taken over. So what it meant when somebody first answered decides how far away it
    has to stay.
    """

    def __init__(self, host: str, port: int) -> None:
        self._place = (host, port)
        self._reach: Reach | None = None

    def connect(self, seconds: float) -> socket.socket:
        """A connected socket; raises `OSError` as `socket.create_connection` does."""
        failure = OSError(errno.EACCES, "its name does not mean what it meant")
        host, port = self._place
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            reach = reach_of(str(address[0]))
            if self._reach not in (None, reach):
                continue
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(seconds)
                made.connect(address)
            except OSError as error:
                made.close()
                failure = error
            else:
                self._reach = reach
                return made
        raise failure


def connect_outside(door: socket.socket, host: str, port: int) -> None:
    """Hand connections to `host`:`port` through `door`; raises `EOFError` at the end."""
    outside = Outside(host, port)
    while True:
        seconds = read_seconds(door)
        try:
            with outside.connect(seconds) as made:
                hand_over(door, made)
        except socket.gaierror as error:
            tell_failure(door, NAME_FAILED, error.errno or socket.EAI_FAIL)
        except OSError as error:
            tell_failure(door, REFUSED, error.errno or errno.ETIMEDOUT)


def main(arguments: list[str]) -> None:
    """Keep both doors until the gateway has gone."""
    agent, outer, agent_socket, host, port, largest = arguments
    for number in (signal.SIGINT, signal.SIGTERM):  # the gateway still has to say goodbye
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        forbid_new_privileges()
        keep_capabilities(())
    with contextlib.suppress(OSError):
        set_dumpable(False)
    outside = socket.socket(fileno=int(outer))
    threading.Thread(target=_to_the_end, args=(connect_outside, outside, host, int(port))).start()
    _to_the_end(carry_to_agent, socket.socket(fileno=int(agent)), agent_socket, int(largest))


def _to_the_end(keep: Callable[..., None], *arguments: object) -> None:
    """Keep one of the two doors; when that ends, so does the process, and the gateway sees it."""
    status = 1
    try:
        keep(*arguments)
    except (EOFError, ConnectionError):  # the gateway has gone
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
