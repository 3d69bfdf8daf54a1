"""The system calls that a shut-in gateway may make: what Python, TLS and threads need to go on.

Not among them: whatever opens a socket or connects one, starts a program or a process, opens a file
to write, changes a file's mode, owner, times or attributes, signals, traces or
"""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import fcntl
import os
import socket
import termios

from client.confinement.filters import Argument, CallRules

# Of each call: its number on x86-64 and on aarch64, which never had the older ones.
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # files that are open, and names
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "write": (1, 64),
    "writev": (20, 66),
    "close": (3, 57),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    # waiting
    "pipe": (22, None),
    "pipe2": (293, 59),
    "eventfd2": (290, 19),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    # memory
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "membarrier": (324, 283),
    # threads and signals of its own
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "set_tid_address": (218, 96),
    "gettid": (186, 178),
    "getcpu": (309, 168),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    # clocks, and who this is
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrusage": (98, 165),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "uname": (63, 160),
    "getrandom": (318, 278),
    # sockets that were handed in
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "getsockopt": (55, 209),
    "shutdown": (48, 210),
    # under conditions, which `gateway_rules` has
    "open": (2, None),
    "openat": (257, 56),
    "pwrite64": (18, 68),
    "ftruncate": (77, 46),
    "clone": (56, 220),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "ioctl": (16, 29),
    "fcntl": (72, 25),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "sendto": (44, 206),
    "setsockopt": (54, 208),
}

_NO_FILE = 0x7FFFFFFF
_CLONE_THREAD = 0x10000
# Of clone's flags: a tracer's, and every namespace's.
_CLONE_REFUSED = 0x00002000 | 0x00020000 | 0x02000000 | 0x7C000000
_FAST_OPEN = 0x20000000  # MSG_FASTOPEN connects a socket without connect(2)
_PR_GET_DUMPABLE, _PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA = 3, 15, 16, 0x53564D41
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Of levels SOL_SOCKET and IPPROTO_TCP, by Linux's numbers: no delay, keep-alive and its times, and
# the time until a peer counts as gone. Not TCP_ULP, TCP_REPAIR or a filter.
_SOCKET_OPTIONS = (1, 9, 4, 5, 6, 18)


def gateway_rules(process: int, rewritable: tuple[int, ...] = ()) -> CallRules:
    """What the process with the number `process` may call.

    `rewritable`: descriptors of files that it may write anew.
    """
    myself, own_files = Argument(0, (process,)), Argument(0, rewritable or (_NO_FILE,))
    conditions: dict[str, tuple[Argument, ...]] = {
        "open": (Argument(1, mask=_TO_WRITE),),
        "openat": (Argument(2, mask=_TO_WRITE),),
        "pwrite64": (own_files,),
        "ftruncate": (own_files,),
        "clone": (Argument(0, (_CLONE_THREAD,), _CLONE_THREAD | _CLONE_REFUSED),),
        "kill": (myself,),
        "tgkill": (myself,),
        # Never TIOCSTI, which types into a terminal.
        "ioctl": (
            Argument(
                1,
                (
                    *(termios.TCGETS, termios.TIOCGWINSZ, termios.FIONBIO, termios.FIONREAD),
                    *(termios.FIOCLEX, termios.FIONCLEX),
                ),
            ),
        ),
        # Never F_SETOWN and F_SETSIG, which send any signal to any process of the same user.
        "fcntl": (
            Argument(
                1,
                (fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC),
            ),
        ),
        "prctl": (Argument(0, (_PR_GET_DUMPABLE, _PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA)),),
        "prlimit64": (Argument(0), Argument(2, pointer=True)),  # to ask for its own
        "sendto": (Argument(3, mask=_FAST_OPEN), Argument(4, pointer=True)),
        "setsockopt": (
            Argument(1, (socket.SOL_SOCKET, socket.IPPROTO_TCP)),
            Argument(2, _SOCKET_OPTIONS),
        ),
    }
    return {name: conditions.get(name, ()) for name in NUMBERS}
