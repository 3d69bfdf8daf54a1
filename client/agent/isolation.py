"""The agent keeps to itself: no network, no debugger, no core file, and files private to its user.

`isolate` runs before anything else is imported: only a single thread can enter a namespace, and
numpy starts several. `confinement` then finds out what the process really has left, and says so.
"""

# Why: docs/adr/0018-two-users-no-network.md

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from client.confinement.filters import allow_socket_families
from client.confinement.kernel import (
    forbid_new_privileges,
    has_capability,
    is_dumpable,
    keep_capabilities,
    leave_network,
    set_dumpable,
)

UMASK = 0o077
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_LOOPBACK = "lo"
_CAP_SYS_ADMIN = 21
# What root keeps: access to files, whoever owns them. Not the right to rejoin the host's network.
_FILE_CAPABILITIES = frozenset({0, 1, 2, 3, 4})  # CHOWN, DAC_*, FOWNER, FSETID
_WITH_LOOPBACK = ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK")


class NetworkAccess(Enum):
    """What is left of the network; the values are texts for people."""

    NAMESPACE = "a network namespace with nothing but lo"
    FILTER = "a system call filter that refuses every socket but Unix ones"
    OPEN = "the machine's whole network"


@dataclass(frozen=True, slots=True)
class Confinement:
    """What this process can do to others, and what others of the same user can do to it."""

    network: NetworkAccess
    undumpable: bool

    @property
    def text(self) -> str:
        """One line for the log."""
        traced = "no debugger and no core file" if self.undumpable else "debuggers may attach"
        return f"Network: {self.network.value}; {traced}."


def isolate() -> None:
    """Take away what this process and its children do not need; never raises.

    It takes the first of these that the system permits: nothing, if there is only `lo` (a container
    without a network); a network namespace, as root; one inside a user namespace; the filter alone.
    With a namespace the filter is used as well, for families without namespaces (AF_VSOCK).
    """
    os.umask(UMASK)
    os.environ.update(OFFLINE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    apart = False
    with contextlib.suppress(OSError):
        apart = _only_loopback() or _left_network()
    with contextlib.suppress(OSError):
        forbid_new_privileges()
        keep_capabilities(_FILE_CAPABILITIES if os.geteuid() == 0 else frozenset())
    with contextlib.suppress(OSError):
        names = _WITH_LOOPBACK if apart else ("AF_UNIX",)
        allow_socket_families([int(getattr(socket, name)) for name in names])
    with contextlib.suppress(OSError):
        set_dumpable(False)


def confinement() -> Confinement:
    """What this process really has, found by trying: nothing is remembered or taken on trust."""
    if _only_loopback():
        network = NetworkAccess.NAMESPACE
    else:
        refused = sys.platform == "linux" and all(map(_refused, _WITH_LOOPBACK[1:]))
        network = NetworkAccess.FILTER if refused else NetworkAccess.OPEN
    return Confinement(network, not is_dumpable())


def _refused(family: str) -> bool:
    try:
        socket.socket(getattr(socket, family), socket.SOCK_RAW | socket.SOCK_CLOEXEC).close()
    except OSError as error:
        return error.errno == errno.EAFNOSUPPORT
    return False


def _only_loopback() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return all(name == _LOOPBACK for _, name in socket.if_nameindex())
    except OSError:
        return False


def _left_network() -> bool:
    """Move into a network namespace of its own; returns whether this process is in one now.

    A child process tries each way first: some systems permit entering a user namespace and then
    refuse the rest, and there is no way out again.
    """
    if sys.platform != "linux" or len(list(Path("/proc/self/task").iterdir())) > 1:
        return False
    ways = (True, False) if has_capability(_CAP_SYS_ADMIN) else (False,)
    for as_root in ways:
        if _works_in_a_child(as_root=as_root):
            with contextlib.suppress(OSError):
                leave_network(as_root=as_root)
            return _only_loopback()
    return False


def _works_in_a_child(*, as_root: bool) -> bool:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            leave_network(as_root=as_root)
            status = 0 if _only_loopback() else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0
