"""The gateway shuts itself in before it opens the network, so that one user is enough.

Whoever takes over the process that speaks to the coordinator shall get no further, even if it runs
as the agent's own user: it can read its key, its authorities and the installed Python, and write
only to its log and to what it has to remember; it can open no socket, start no program and no
process, and signal, trace or limit nobody (`shut_in`). Its way to the agent and to the coordinator
are two doors that `porter` keeps. `confine` comes before anything else is imported: Landlock takes
only the thread that asks for it, and numpy starts several.
"""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from client.gateway.doors import AgentDoor, OuterDoor
from client.gateway.shut_in import MEMORY_BYTES, ShutIn, check_one_thread, shut_in

_COPIES = 8  # of a message: its objects, the whole, the envelope, the answer and its objects


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a shut-in gateway still has to do with: files, a socket, and one place outside."""

    readable: tuple[Path, ...]  # its key, its authorities
    agent_socket: Path
    host: str
    port: int
    largest: int  # bytes of an envelope
    remembered: tuple[int, ...] = ()  # descriptors of its own, open files that it may rewrite
    private: tuple[Path, ...] = ()  # what must be out of reach: data, state, the site's keys


@dataclass(frozen=True, slots=True)
class Lock:
    """What `confine` leaves: what is really held, and the door to the agent."""

    held: ShutIn
    agent: AgentDoor


def confine(around: Surroundings, *, abi: int | None = None) -> Lock:
    """Shut this process in, as `shut_in` does, with a porter at its doors.

    Afterwards `socket.create_connection` leads to the one host and port only. `abi` and what is
    raised: as of `shut_in`.
    """
    check_one_thread()
    agent, outer = _open_doors(around)
    held = shut_in(
        around.readable,
        around.private,
        open_files=(agent.fileno(), outer.fileno()),
        rewritable=around.remembered,
        memory=MEMORY_BYTES + _COPIES * around.largest,
        abi=abi,
    )
    door = OuterDoor(outer, around.host, around.port)
    # The standard library's may be asked for more, which nothing here does.
    socket.create_connection = door.create_connection  # type: ignore[assignment]
    return Lock(held, AgentDoor(agent))


def _open_doors(around: Surroundings) -> tuple[socket.socket, socket.socket]:
    """Start the porter; this process's sides of the two doors."""
    agent, porters_agent = socket.socketpair()
    outer, porters_outer = socket.socketpair()
    with porters_agent, porters_outer:
        doors = [str(porters_agent.fileno()), str(porters_outer.fileno())]
        place = [str(around.agent_socket), around.host, str(around.port), str(around.largest)]
        argv = [sys.executable, "-P", "-m", "client.gateway.porter", *doors, *place]
        for door in (porters_agent, porters_outer):
            door.set_inheritable(True)
        os.posix_spawn(sys.executable, argv, os.environ)
    return agent, outer
