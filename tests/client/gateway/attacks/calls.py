"""What attacks are made of: a list of them, and system calls that Python does not have."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

Attack = Callable[[Any], object]

# Numbers of x86-64; all above 423 are the same everywhere.
CALLS = {
    **{"shmget": 29, "msgget": 68, "ptrace": 101, "mq_open": 240, "add_key": 248},
    **{"keyctl": 250, "unshare": 272, "perf_event_open": 298, "fanotify_init": 300},
    **{"kcmp": 312, "process_vm_readv": 310, "memfd_create": 319, "bpf": 321},
    **{"userfaultfd": 323, "inotify_init": 253, "mount": 165, "personality": 135},
    **{"ioprio_set": 251, "clone": 56, "io_uring_setup": 425, "pidfd_open": 434},
    **{"pidfd_getfd": 438, "fchmodat2": 452, "execveat": 322, "openat2": 437},
    **{"rt_sigqueueinfo": 129, "tkill": 200, "sysinfo": 99},
}


class Attacks(dict[str, Attack]):
    """Attacks by name, in the order in which they are tried."""

    def add(self, action: Attack) -> Attack:
        """Take `action` in, under its own name; for use as a decorator."""
        self[action.__name__] = action
        return action


def call(name: str, *arguments: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    as_long = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(ctypes.c_long(CALLS[name]), *as_long))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result
