"""The porter: the small process at the door of a gateway that has shut itself in.

`python -P -m client.gateway.porter AGENT_DOOR OUTER_DOOR SOCKET HOST PORT`

A shut-in gateway can open no socket. Of its two doors, both inherited, this process keeps the other
sides: bytes through AGENT_DOOR go to the agent's socket as one `Exchange` and nothing else; at
OUTER_DOOR it hands out TCP connections to HOST:PORT and nothing else, with the name resolved anew
for each. It reads nothing of what passes through, believes nothing about lengths, and ends when the
gateway does.
"""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from client.confinement.kernel import forbid_new_privileges, keep_capabilities, set_dumpable
from client.gateway.doors import (
    NAME_FAILED,
    REFUSED,
    AgentFault,
    end_answer,
    frames,
    hand_over,
    read_request,
    send_frame,
    tell_failure,
)
from privacy.wire.agent_pb2 import Chunk
from privacy.wire.agent_pb2_grpc import AgentStub
from privacy.wire.chunks import CHUNK_BYTES, target

CONNECT_SECONDS = 30.0  # at most, for one connection
_WAITING_CHUNKS = 4
_FAULTS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: AgentFault.SILENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: AgentFault.BUSY,  # all its places are taken
    grpc.StatusCode.OUT_OF_RANGE: AgentFault.TOO_LARGE,  # what client/agent/service.py answers
}


class Cargo:
    """The chunks of one request on their way from a door to a call."""

    def __init__(self) -> None:
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_WAITING_CHUNKS)

    def __iter__(self) -> Iterator[Chunk]:
        while data := self._chunks.get():
            yield Chunk(data=data)

    def load(self, door: socket.socket, call: grpc.Call) -> None:
        """Read the request from `door` to its end, also when the call has ended before that."""
        for data in frames(door):
            self._put(data, call)
        self._put(None, call)
        with contextlib.suppress(queue.Full):  # else nobody waits for more
            self._chunks.put_nowait(None)

    def _put(self, data: bytes | None, call: grpc.Call) -> None:
        while not call.done():
            try:
                return self._chunks.put(data, timeout=0.2)
            except queue.Full:
                continue


def carry_to_agent(door: socket.socket, path: Path) -> None:
    """Carry requests from `door` to the agent's socket at `path`; raises `EOFError` at the end."""
    # A proxy named in the environment is for reaching the coordinator, never for this socket.
    options = [("grpc.enable_http_proxy", 0)]
    while True:
        seconds = read_request(door)
        with grpc.insecure_channel(target(path), options=options) as channel:
            cargo = Cargo()
            call = AgentStub(channel).Exchange(iter(cargo), timeout=seconds)
            cargo.load(door, call)
            end_answer(door, _carry(door, call, path))


def _carry(door: socket.socket, call: grpc.Call, path: Path) -> AgentFault:
    """Write the agent's answer to `door`; what became of it."""
    try:
        for chunk in call:
            for start in range(0, len(chunk.data), CHUNK_BYTES):
                send_frame(door, chunk.data[start : start + CHUNK_BYTES])
    except grpc.RpcError as error:
        return _FAULTS.get(error.code()) or _why_away(path)
    return AgentFault.NONE


def _why_away(path: Path) -> AgentFault:
    """Why no agent answers, as far as the socket's file and a connection to it tell."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return AgentFault.NO_SOCKET
        except PermissionError:
            return AgentFault.NO_PERMISSION
        except ConnectionRefusedError:
            return AgentFault.NO_LISTENER
        except OSError:
            return AgentFault.BROKEN
    return AgentFault.BROKEN


def connect_outside(door: socket.socket, host: str, port: int) -> None:
    """Hand connections to `host`:`port` through `door`; raises `EOFError` at the end."""
    while True:
        seconds = min(read_request(door), CONNECT_SECONDS)
        try:
            with socket.create_connection((host, port), timeout=seconds) as made:
                hand_over(door, made)
        except socket.gaierror as error:
            tell_failure(door, NAME_FAILED, error.errno or socket.EAI_FAIL)
        except OSError as error:
            tell_failure(door, REFUSED, error.errno or errno.ETIMEDOUT)


def main(arguments: list[str]) -> None:
    """Keep both doors until the gateway has gone."""
    agent, outer, path, host, port = arguments
    for number in (signal.SIGINT, signal.SIGTERM):  # the gateway still has to say goodbye
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        forbid_new_privileges()
        keep_capabilities(())
    with contextlib.suppress(OSError):
        set_dumpable(False)
    outside = socket.socket(fileno=int(outer))
    threading.Thread(target=_to_the_end, args=(connect_outside, outside, host, int(port))).start()
    _to_the_end(carry_to_agent, socket.socket(fileno=int(agent)), Path(path))


def _to_the_end(serve: Callable[..., None], *arguments: object) -> None:
    """Run one of the two; when it ends, so does the process, and the gateway sees that."""
    status = 1
    try:
        serve(*arguments)
    except (EOFError, ConnectionError):  # the gateway has gone
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
