"""Landlock, the kernel's way for a process without privileges to give up files (landlock(7)).

What a ruleset handles and no rule allows is refused from then on, for this thread and all that it
starts, and cannot be had back. Beside files: no TCP, no abstract Unix sockets and no signals across
the domain's border, as far as the kernel knows them, and never a debugger (ptrace, /proc/PID/mem)
attached to a process outside. What Landlock does *not* cover, and `filters` therefore has to:
changes of mode, owner and attributes, stat, pathname Unix sockets (before ABI 9), UDP (before
ABI 10), TCP Fast Open, programs that are read rather than executed.
"""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from client.confinement.kernel import kernel_result, libc

NEWEST_TRIED = 7  # later rights restrict sockets only, and the filter refuses every socket

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every kind of machine
_VERSION = 1  # flag of landlock_create_ruleset
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# By ABI: rights on files, on TCP, scopes. The first 13 rights are ABI 1's; REFER is 2's, TRUNCATE
# 3's, IOCTL_DEV 5's; BIND_TCP and CONNECT_TCP are 4's; abstract sockets and signals 6's.
_HANDLED = {
    1: (0x1FFF, 0, 0),
    2: (0x3FFF, 0, 0),
    3: (0x7FFF, 0, 0),
    4: (0x7FFF, 3, 0),
    5: (0xFFFF, 3, 0),
    6: (0xFFFF, 3, 3),
}


def landlock_abi() -> int:
    """The version of Landlock that this kernel has; 0 if it has none, or has it switched off."""
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def read_only(readable: Iterable[Path], *, abi: int | None = None) -> None:
    """Leave this thread nothing of the file system but reading `readable`, and no TCP.

    A folder stands for everything below it; what does not exist is left out. `abi`: use no more
    than that version has. Requires `forbid_new_privileges`; raises `OSError` where the kernel has
    no Landlock. Call it before there is a second thread: that one would keep everything.
    """
    handled = _HANDLED[min(abi or NEWEST_TRIED, max(1, landlock_abi()), max(_HANDLED))]
    attributes = struct.pack("=QQQ", *handled)
    size = 8 * (1 + max(place for place, right in enumerate(handled) if right))
    ruleset = _call(_CREATE_RULESET, attributes, size, 0)
    try:
        for path in readable:
            _allow_reading(ruleset, path)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_reading(ruleset: int, path: Path) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        rights = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: int | bytes | None) -> int:
    as_long = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return kernel_result(libc().syscall(ctypes.c_long(number), *as_long))
