"""The Linux calls that shut a process in and for which Python has no functions.

Each raises `OSError` if the kernel refuses, and on systems without such a call.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import signal
import socket
import struct
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 3, 4, 24, 38
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 bits per set
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40

_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1


class Machine(NamedTuple):
    """A kind of machine: AUDIT_ARCH, number of socket(2), number of seccomp(2)."""

    architecture: int
    socket_call: int
    seccomp_call: int


MACHINES = {"x86_64": Machine(0xC000003E, 41, 317), "aarch64": Machine(0xC00000B7, 198, 277)}


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def set_dumpable(dumpable: bool) -> None:
    """Set whether others of this user may trace this process, read its memory, get its core file.

    execve resets it: a program that is started has to set it again.
    """
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def is_dumpable() -> bool:
    """What `set_dumpable` has set; True on systems that do not have it."""
    try:
        return _prctl(_PR_GET_DUMPABLE) != 0
    except OSError:
        return True


def die_with_parent() -> None:
    """From now on the kernel kills this process as soon as the thread that started it ends.

    Forgotten by execve of a set-user-ID program and by any change of user, group or capabilities.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def set_process_name(name: str) -> None:
    """What ps(1) and top(1) call this process: at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode())
    kernel_result(libc().prctl(_PR_SET_NAME, buffer, *[ctypes.c_ulong(0)] * 3))


def forbid_new_privileges() -> None:
    """From now on, no program that is started gains privileges from its set-user-ID bit."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def leave_network(*, as_root: bool) -> None:
    """Move this process, of one thread, into a network namespace that has only `lo`, up.

    Without `as_root`, by way of a user namespace in which user and group keep their numbers. The
    supplementary groups still apply to files and devices: nothing calls setgroups.
    """
    user, group = os.geteuid(), os.getegid()
    kernel_result(libc().unshare(CLONE_NEWNET if as_root else CLONE_NEWUSER | CLONE_NEWNET))
    if not as_root:
        set_dumpable(True)  # else /proc/self belongs to root
        Path("/proc/self/setgroups").write_bytes(b"deny")
        Path("/proc/self/uid_map").write_bytes(b"%d %d 1" % (user, user))
        Path("/proc/self/gid_map").write_bytes(b"%d %d 1" % (group, group))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = struct.pack("16sh14x", b"lo", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, flags)


def keep_capabilities(kept: Collection[int]) -> None:
    """Give up every capability except the numbers in `kept`, also for programs that are started."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_bytes())
    held = _capabilities()
    for number in range(last + 1):
        if number not in kept and held >> 8 & 1:  # CAP_SETPCAP, which dropping requires
            _prctl(_PR_CAPBSET_DROP, number)
    left = held & sum(1 << number for number in kept)
    low, high = left & 0xFFFFFFFF, left >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    kernel_result(libc().capset(header, struct.pack("=6I", low, low, 0, high, high, 0)))


def has_capability(number: int) -> bool:
    """Whether this process has the capability `number` in effect."""
    return bool(_capabilities() >> number & 1)


def this_machine() -> Machine:
    """The kind of machine that this is; `OSError` where no system call filter is known for it."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        raise OSError(errno.ENOSYS, "no system call filter for this machine")
    return MACHINES[platform.machine()]


def install_filter(steps: Sequence[bytes]) -> None:
    """Put a system call filter (one `struct sock_filter` a step) on all threads, permanently.

    Requires `forbid_new_privileges` first.
    """
    asked = _Filter(len(steps), b"".join(steps))
    left_out = kernel_result(
        libc().syscall(
            ctypes.c_long(this_machine().seccomp_call),
            ctypes.c_long(_SECCOMP_SET_MODE_FILTER),
            ctypes.c_long(_SECCOMP_FILTER_FLAG_TSYNC),
            ctypes.byref(asked),
        )
    )
    if left_out:  # the number of a thread that has another filter already
        raise OSError(errno.EBUSY, "a thread has a filter of its own")


def _capabilities() -> int:
    """The effective set as a number, bit i for capability i."""
    for line in Path("/proc/self/status").read_bytes().splitlines():
        if line.startswith(b"CapEff:"):
            return int(line.split()[1], 16)
    raise OSError(errno.ENOSYS, "no capabilities")


def _prctl(option: int, value: int = 0) -> int:
    arguments = [ctypes.c_ulong(number) for number in (value, 0, 0, 0)]
    return kernel_result(libc().prctl(option, *arguments))


def libc() -> ctypes.CDLL:
    """The C library; `OSError` on other systems than Linux."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "no Linux")
    return ctypes.CDLL(None, use_errno=True)


def kernel_result(result: int) -> int:
    """A call's result; raises the `OSError` that it left behind if it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
