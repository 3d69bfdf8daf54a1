"""On other processes, and by programs and processes of its own."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import sys
from typing import Any

from tests.client.gateway.attacks.calls import Attacks, call

ATTACKS = Attacks()


@ATTACKS.add
def signal_another(facts: Any) -> None:
    os.kill(facts["victim"], 0)


@ATTACKS.add
def kill_everybody_else(facts: Any) -> None:
    os.kill(-facts["group"], 0)


@ATTACKS.add
def signal_a_thread_of_another(facts: Any) -> None:
    call("tkill", facts["victim"], 0)


@ATTACKS.add
def queue_signal(facts: Any) -> None:
    information = ctypes.create_string_buffer(128)
    information[8:12] = (-1).to_bytes(4, "little", signed=True)  # SI_QUEUE
    call("rt_sigqueueinfo", facts["victim"], 0, information)


@ATTACKS.add
def signal_through_a_file(facts: Any) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, facts["victim"])
    os.close(reader)
    os.close(writer)


@ATTACKS.add
def hold_another(facts: Any) -> None:
    os.close(call("pidfd_open", facts["victim"], 0))


@ATTACKS.add
def take_anothers_file(facts: Any) -> None:
    os.close(call("pidfd_getfd", call("pidfd_open", facts["victim"], 0), 0, 0))


@ATTACKS.add
def trace_another(facts: Any) -> None:
    call("ptrace", 0x4206, facts["victim"], 0, 0)  # PTRACE_SEIZE
    call("ptrace", 0x4207, facts["victim"], 0, 0)  # PTRACE_INTERRUPT
    os.waitpid(facts["victim"], 0x40000000)
    call("ptrace", 17, facts["victim"], 0, 0)


@ATTACKS.add
def read_memory_by_call(facts: Any) -> None:
    buffer = ctypes.create_string_buffer(8)
    mine = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    theirs = (ctypes.c_size_t * 2)(facts["address"], 8)
    call("process_vm_readv", facts["victim"], ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)


@ATTACKS.add
def compare_files(facts: Any) -> None:
    call("kcmp", os.getpid(), facts["victim"], 2, 0, 0)


@ATTACKS.add
def limit_another(facts: Any) -> None:
    resource.prlimit(facts["victim"], resource.RLIMIT_CORE, (0, 0))


@ATTACKS.add
def slow_another(facts: Any) -> None:
    os.setpriority(os.PRIO_PROCESS, facts["victim"], 19)


@ATTACKS.add
def pin_another(facts: Any) -> None:
    os.sched_setaffinity(facts["victim"], {0})


@ATTACKS.add
def starve_another(facts: Any) -> None:
    call("ioprio_set", 1, facts["victim"], 3 << 13)


@ATTACKS.add
def become_traceable(facts: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(4, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


# Programs and processes.


@ATTACKS.add
def start_a_shell(facts: Any) -> None:
    os.posix_spawn("/bin/sh", ["sh", "-c", ":"], {})


@ATTACKS.add
def start_python(facts: Any) -> None:
    os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})


@ATTACKS.add
def start_from_memory(facts: Any) -> None:
    os.close(call("memfd_create", b"program", 0))


@ATTACKS.add
def execute(facts: Any) -> None:
    try:
        os.execve("/nonexistent", ["x"], {})
    except FileNotFoundError:
        return  # it looked


@ATTACKS.add
def execute_an_open_file(facts: Any) -> None:
    try:
        call("execveat", -100, b"/nonexistent", 0, 0, 0)
    except FileNotFoundError:
        return


@ATTACKS.add
def fork(facts: Any) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


@ATTACKS.add
def clone_a_process(facts: Any) -> None:
    child = call("clone", signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
