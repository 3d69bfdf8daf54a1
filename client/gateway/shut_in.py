"""What a gateway can no longer do once it has shut itself in, and how the kernel is told.

`shut_in` takes it away for good, `gateway_confinement` finds out by trying what is really gone.
`python -P -m client.gateway.shut_in PRIVATE …` does both in a process of its own, so that somebody
else knows what this machine's kernel gives: one line, and status 0 if it is an airlock.
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
from privacy.errors import ConfigError

FILE_BYTES = 4 << 30  # of its log: whoever has taken it over cannot fill the disk
MEMORY_BYTES = 1 << 30  # of data and stacks, beside the messages that it holds
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


def shut_in(
    readable: Iterable[Path],
    private: Sequence[Path],
    *,
    open_files: Sequence[int] = (),
    rewritable: Sequence[int] = (),
    memory: int = MEMORY_BYTES,
    abi: int | None = None,
) -> ShutIn:
    """Shut this process in, for good; what it then really lacks.

    Afterwards it reads `readable` and Python's installation, and of the files that it had open it
    has output, `open_files` and `rewritable`, which it may write anew. `memory`: the most bytes
    that it may have. `abi`: use no more of Landlock than that version has. Where the kernel has no
    Landlock or no filter, the rest is done all the same. Raises `ConfigError` if a folder that
    stays readable holds something private, `RuntimeError` if there is a second thread, which
    Landlock would leave out.
    """
    kept = [*readable, *python_files()]
    check_private(kept, private)
    check_one_thread()
    _close_others(*open_files, *rewritable)
    _limit(memory)
    with contextlib.suppress(OSError):
        forbid_new_privileges()
        keep_capabilities(())
    with contextlib.suppress(OSError):
        set_dumpable(False)
    with contextlib.suppress(OSError):
        read_only(kept, abi=abi)
    with contextlib.suppress(OSError):
        allow_only(gateway_rules(os.getpid(), tuple(rewritable)), NUMBERS)
    return gateway_confinement(private)


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


def check_private(kept: Iterable[Path], private: Sequence[Path]) -> None:
    """Raise `ConfigError` if a folder in `kept` holds something of `private`."""
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


def check_one_thread() -> None:
    """Raise `RuntimeError` if this process has a second thread."""
    if sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("The gateway has to shut itself in before its first thread.")


def _close_others(*kept: int) -> None:
    """Close every file that was inherited except output and `kept`; standard input is empty."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    first = 3
    for number in sorted(kept):
        os.closerange(first, number)
        first = number + 1
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _limit(memory: int) -> None:
    """Bound what this process may use up; a limit that is lower already stays."""
    bounds = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
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
        path.open("xb").close()
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


def _main(private: Sequence[str]) -> int:
    try:
        found = shut_in([], [Path(path) for path in private])
    except ConfigError as error:
        os.write(1, error.message.encode("utf-8"))
        return 1
    os.write(1, found.text.encode("utf-8"))
    return 0 if found.is_airlock else 1


if __name__ == "__main__":
    os._exit(_main(sys.argv[1:]))
