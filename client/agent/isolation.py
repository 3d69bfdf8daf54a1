"""The agent keeps to itself: no network, no debugger, no core file, files for its user alone.

`isolate` runs before anything else is imported: a namespace is entered by one thread, and numpy
starts several. `confinement` then looks at what the process really has, and says so.
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

from client.agent.kernel import (
    allow_socket_families,
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
# What root keeps: to get at files whoever owns them. Not: to go back into the host's network.
_FILE_CAPABILITIES = frozenset({0, 1, 2, 3, 4})  # CHOWN, DAC_*, FOWNER, FSETID
_WITH_LOOPBACK = ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK")


class Network(Enum):
    """What is left of the network; the value is for people."""

    NAMESPACE = "a network namespace with nothing but lo"
    FILTER = "a system call filter that refuses every socket but Unix ones"
    OPEN = "the machine's whole network"


@dataclass(frozen=True, slots=True)
class Confinement:
    """What this process can do to others, and others of its user to it."""

    network: Network
    undumpable: bool

    @property
    def text(self) -> str:
        """One line for the log."""
        traced = "no debugger and no core file" if self.undumpable else "debuggers may attach"
        return f"Network: {self.network.value}; {traced}."


def isolate() -> None:
    """Take from this process and all that it starts what it does not need; never raises.

    The first of these that the system lets us do: nothing, where there is only `lo` (a container
    without a network); a network namespace by root's right; one in a user namespace; a filter
    alone. Beside a namespace the filter stays, for families that know no namespaces (AF_VSOCK).
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
    """What this process has, by trying: nothing is remembered or believed."""
    if _only_loopback():
        network = Network.NAMESPACE
    else:
        refused = sys.platform == "linux" and all(map(_refused, _WITH_LOOPBACK[1:]))
        network = Network.FILTER if refused else Network.OPEN
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
    """Whether this process is in a network namespace of its own now.

    A child tries each way first: some systems let one into a user namespace and then refuse the
    rest, and nobody gets out of one again.
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
