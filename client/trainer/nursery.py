"""The nursery: starts one trainer after the other, each by fork, and says how it ended.

The agent forks it before it imports anything that starts threads, and as soon as it has cut itself
off. Why a process between the two, and why nothing is started with execve: that would make a
process traceable for its own user until it says otherwise, and, inside a user namespace, for the
namespace's owner ever after (ptrace(2): the memory belongs to the namespace in which execve made
it). A fork is as closed as the agent is. The agent itself cannot fork later: it has threads. The
nursery has one, and imports next to nothing.

All three end together: the kernel kills the nursery with the agent and a trainer with the nursery.
"""

# Why: docs/adr/0033-trainer-process.md

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import IO, Final

from client.confinement.kernel import die_with_parent, set_process_name
from client.trainer.orders import ANSWER, ENDED, STARTED, Orders, TrainerExit, take

# proc(5), oom_score_adj: -1000 to 1000. Where memory runs out, a trainer goes first: the agent
# holds the ledger, and can have another one started.
_FIRST_TO_GO: Final = b"500"
_AS_ALL: Final = b"0"


def expendable() -> IO[bytes] | None:
    """The way to say how expendable this process is; opened while /proc/self is still its own."""
    try:
        return Path("/proc/self/oom_score_adj").open("wb", 0)
    except OSError:
        return None


def fork_nursery(score: IO[bytes] | None = None) -> tuple[int, socket.socket]:
    """Fork the nursery of this process, which has one thread; its process id, and the way to it.

    `score`: from `expendable`.
    """
    ours, its = socket.socketpair()
    agent = os.getpid()
    _set(score, _FIRST_TO_GO)
    child = os.fork()
    if child == 0:
        ours.close()
        if score is not None:
            score.close()  # it is the agent's
        _be_nursery(agent, its)
    its.close()
    _set(score, _AS_ALL)
    if score is not None:
        score.close()
    return child, ours


def tend(agent: socket.socket) -> None:
    """Start a trainer whenever `agent` orders one and the last is gone, until the agent is."""
    while (ordered := take(agent)) is not None:
        orders, end = ordered
        nursery = os.getpid()
        with end:
            child = os.fork()
            if child == 0:
                agent.close()
                _be_trainer(nursery, orders, end)
        agent.sendall(ANSWER.pack(STARTED, child))
        status = os.waitpid(child, 0)[1]
        agent.sendall(ANSWER.pack(ENDED, os.waitstatus_to_exitcode(status)))


def _be_nursery(agent: int, its: socket.socket) -> None:
    try:
        _end_with(agent, "cfl-nursery")
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the agent, which ends this
        tend(its)
    except OSError:
        pass  # the agent is gone
    finally:
        os._exit(0)


def _be_trainer(nursery: int, orders: Orders, end: socket.socket) -> None:
    status: int = TrainerExit.UNEXPECTED
    try:
        _end_with(nursery, "cfl-trainer")
        status = import_module(orders.module).run_trainer(orders, end)
    except ImportError as error:
        sys.stderr.write(f"The trainer cannot be loaded: {error}\n")
    finally:
        sys.stderr.flush()
        # Data and model go with the process; taking torch down takes seconds.
        os._exit(status)


def _end_with(parent: int, name: str) -> None:
    """The kernel ends this process with its parent; where it cannot, the channel's end does."""
    with contextlib.suppress(OSError):
        set_process_name(name)
        die_with_parent()
        if os.getppid() != parent:  # it was gone before the kernel was told
            os._exit(TrainerExit.AGENT_GONE)


def _set(score: IO[bytes] | None, value: bytes) -> None:
    if score is not None:
        with contextlib.suppress(OSError):
            score.write(value)
