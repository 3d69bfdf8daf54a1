"""The gateway shuts itself in before it opens the network, so that one user is enough.

Whoever takes over the process that speaks to the coordinator shall get no further, even if it runs
as the agent's own user: it can read its key, its authorities and the installed Python, and write
only to its log; it can open no socket, start no program and no process, and signal, trace or limit
nobody. Its way to the agent and to the coordinator are two doors that `porter` keeps. `confine`
comes first, before anything else is imported: Landlock takes only the thread that asks for it, and
numpy starts several. `gateway_confinement` then finds out what the process really has left.
"""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib.util
import os
import resource
import socket
import ssl
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from client.confinement.filters import allow_only
from client.confinement.kernel import (
    forbid_new_privileges,
    is_dumpable,
    keep_capabilities,
    libc,
    set_dumpable,
)
from client.confinement.landlock import read_only
from client.gateway.calls import NUMBERS, gateway_rules
from client.gateway.doors import AgentDoor, OuterDoor
from privacy.errors import ConfigError

MEMORY_BYTES = 8 << 30  # of data and stacks: a gateway holds a message or two, not a machine's RAM
OPEN_FILES = 256
_FIRST_TO_KILL = "900"  # of 1000, if the machine runs out of memory: never the agent in its place
_PACKAGES = ("client", "privacy")  # ours, which an editable installation has in a checkout
# What the loader, OpenSSL and Python read outside Python's installation, on common systems.
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ssl/cert.pem", "/etc/ca-certificates"),
    *("/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf"),
    *("/etc/pki/ca-trust/extracted", "/etc/crypto-policies", "/usr/share/ca-certificates"),
    *("/usr/share/zoneinfo", "/etc/localtime", "/dev/null", "/dev/urandom"),
    "/sys/devices/system/cpu",
)
_FAMILIES = ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG")
_REFUSED = (errno.EPERM, errno.EACCES)
_OPEN_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
_NOBODY = 0x3FFFFFFF  # a process number beyond the greatest that there is
_PTRACE_ATTACH = 16


@dataclass(frozen=True, slots=True)
class ShutIn:
    """What a gateway really lacks, found by trying. All of it together is an airlock."""

    reading: bool  # no file but the few that it needs
    writing: bool
    sockets: bool
    programs: bool  # and no process of its own
    others: bool  # no signal and no debugger to any process
    undumpable: bool

    @property
    def is_airlock(self) -> bool:
        """Whether this separates the gateway from an agent of the same user."""
        return all(getattr(self, field.name) for field in fields(self))

    @property
    def text(self) -> str:
        """One line for the log."""
        open_ways = [words for name, words in _OPEN_WAYS.items() if not getattr(self, name)]
        if not open_ways:
            return (
                "Airlock: the gateway reads its key, its authorities and Python only, writes "
                "nothing but its log, and has no socket, program, signal or debugger of its own."
            )
        return f"NO AIRLOCK of its own: the gateway can {', '.join(open_ways)}."


_OPEN_WAYS = {
    "reading": "read files of its user",
    "writing": "write files of its user",
    "sockets": "open sockets",
    "programs": "start programs",
    "others": "signal or trace processes of its user",
    "undumpable": "be traced",
}


@dataclass(frozen=True, slots=True)
class Lock:
    """What `confine` leaves: what is really held, and the door to the agent."""

    held: ShutIn
    _agent: AgentDoor

    def exchange(self, request: bytes, deadline: float = 15.0) -> bytes:
        """The agent's answer to one envelope, within `deadline` seconds; raises `AgentAway`."""
        return self._agent.exchange(request, deadline)


def confine(
    readable: Iterable[Path],
    agent_socket: Path,
    host: str,
    port: int,
    *,
    private: Sequence[Path] = (),
    abi: int | None = None,
) -> Lock:
    """Shut this process in, for good; what it can still do is in the result.

    Afterwards it reads the files `readable` and Python's installation; `socket.create_connection`
    leads to `host`:`port` only, through the porter, which is started here. `private`: what must be
    out of reach (data, state, keys); raises `ConfigError` if a folder that stays readable holds one
    of them. `abi`: use no more of Landlock than that version has. Where the kernel has no Landlock
    or no filter the rest is done all the same. Raises `RuntimeError` if there is a second thread,
    which Landlock would leave out.
    """
    kept = [*readable, *python_files()]
    _check_private(kept, private)
    if sys.platform == "linux" and len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        raise RuntimeError("confine() has to come before the first thread.")
    agent, outer = _open_doors(agent_socket, host, port)
    _close_others(agent.fileno(), outer.fileno())
    _limit()
    with contextlib.suppress(OSError):
        forbid_new_privileges()
        keep_capabilities(())
    with contextlib.suppress(OSError):
        set_dumpable(False)
    with contextlib.suppress(OSError):
        read_only(kept, abi=abi)
    with contextlib.suppress(OSError):
        allow_only(gateway_rules(os.getpid()), NUMBERS)
    door = OuterDoor(outer, host, port)
    socket.create_connection = door.create_connection  # type: ignore[assignment]
    return Lock(gateway_confinement(private), AgentDoor(agent))


def python_files() -> list[Path]:
    """What Python, this project and the system's libraries need to be read to go on running."""
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix)}
    folders |= {Path(path) for path in sysconfig.get_paths().values()}
    folders |= {Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        folders |= {Path(place) for place in (spec and spec.submodule_search_locations) or ()}
    trusted = ssl.get_default_verify_paths()
    files = {trusted.cafile, trusted.capath} - {None}
    return [*sorted(folders), *(Path(path) for path in (*_SYSTEM, *sorted(map(str, files))))]


def gateway_confinement(private: Sequence[Path] = ()) -> ShutIn:
    """What this process really lacks, found by trying; nothing is taken on trust.

    `private`: files and folders that have to be out of reach, beside those of the whole system.
    """
    somewhere = (*_OPEN_FOLDERS, Path(os.environ.get("HOME", "/")), Path.cwd())
    return ShutIn(
        reading=all(map(_unreadable, (Path("/"), Path("/etc/passwd"), Path("/proc/self/mem"))))
        and not any(map(_readable, private)),
        writing=all(map(_unwritable, somewhere)),
        sockets=all(map(_no_socket, _FAMILIES)) and _refused(socket.socketpair),
        programs=_no_program() and _no_process(),
        others=_refused(lambda: os.kill(os.getppid(), 0)) and _no_debugger(),
        undumpable=not is_dumpable(),
    )


def _check_private(kept: Iterable[Path], private: Sequence[Path]) -> None:
    folders = [path.resolve() for path in kept if _is_folder(path)]
    for path in private:
        found = path.resolve()
        for folder in folders:
            if folder == found or folder in found.parents:
                raise ConfigError(
                    f"{path} lies in {folder}, which the gateway has to read to run.",
                    "Move it to a folder that holds no programs.",
                )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:  # of what this process may not even look at, nothing becomes readable
        return False


def _open_doors(agent_socket: Path, host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Start the porter; this process's sides of the two doors."""
    agent, porters_agent = socket.socketpair()
    outer, porters_outer = socket.socketpair()
    with porters_agent, porters_outer:
        numbers = [str(porters_agent.fileno()), str(porters_outer.fileno())]
        argv = [sys.executable, "-P", "-m", "client.gateway.porter", *numbers]
        argv += [str(agent_socket), host, str(port)]
        for door in (porters_agent, porters_outer):
            door.set_inheritable(True)
        os.posix_spawn(sys.executable, argv, os.environ)
    return agent, outer


def _close_others(*kept: int) -> None:
    """Close every file that was inherited except output and `kept`; standard input is empty."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    first = 3
    for number in sorted(kept):
        os.closerange(first, number)
        first = number + 1
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _limit() -> None:
    """Bound what this process may use up; a limit that is lower already stays."""
    bounds = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_MEMLOCK, 0),
    )
    for what, most in bounds:
        now = resource.getrlimit(what)[1]
        low = most if now == resource.RLIM_INFINITY else min(most, now)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (low, low))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_KILL)


def _refused(action: Callable[[], object]) -> bool:
    """Whether the kernel refuses `action` for want of a right, and not for another reason."""
    try:
        action()
    except OSError as error:
        return error.errno in _REFUSED
    return False


def _unreadable(path: Path) -> bool:
    return _refused(lambda: os.close(os.open(path, os.O_RDONLY)))


def _readable(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _unwritable(folder: Path) -> bool:
    """Whether no file can be made in `folder`; one that is made is removed again."""
    path = folder / f".craftsfl-trial-{os.getpid()}"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        return error.errno not in (errno.EEXIST, errno.ENOSPC)
    path.unlink(missing_ok=True)
    return False


def _no_socket(family: str) -> bool:
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)
    number = getattr(socket, family, None)
    if number is None:
        return True
    return all(_refused(partial(socket.socket, number, kind)) for kind in kinds)


def _no_program() -> bool:
    """Whether execve is refused: without a filter, this one would only find no such file."""
    return _refused(lambda: os.execve("/nonexistent/program", ["program"], {}))


def _no_process() -> bool:
    try:
        child = os.fork()
    except OSError as error:
        return error.errno in _REFUSED
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return False


def _no_debugger() -> bool:
    """Whether ptrace is refused: without a filter, there would only be no such process."""
    try:
        result = libc().ptrace(_PTRACE_ATTACH, _NOBODY, None, None)
    except OSError:  # not Linux
        return False
    return result != 0 and ctypes.get_errno() in _REFUSED
