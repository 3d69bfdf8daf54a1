"""By what else a kernel offers."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path
from typing import Any

from tests.client.gateway.attacks.calls import Attacks, call

ATTACKS = Attacks()


@ATTACKS.add
def new_user_namespace(facts: Any) -> None:
    call("unshare", 0x10000000)


@ATTACKS.add
def mount(facts: Any) -> None:
    call("mount", b"none", facts["home"].encode(), b"tmpfs", 0, 0)


@ATTACKS.add
def keyring(facts: Any) -> None:
    call("add_key", b"user", b"evil", b"x", 1, -2)


@ATTACKS.add
def search_keyring(facts: Any) -> None:
    call("keyctl", 0, -4, 1)  # KEYCTL_GET_KEYRING_ID of the user


@ATTACKS.add
def shared_memory(facts: Any) -> None:
    call("shmget", 0, 4096, 0o600)


@ATTACKS.add
def message_queue(facts: Any) -> None:
    call("msgget", 0, 0o600)


@ATTACKS.add
def posix_queue(facts: Any) -> None:
    os.close(call("mq_open", b"evil", os.O_CREAT | os.O_RDWR, 0o600, 0))


@ATTACKS.add
def watch_the_tiles(facts: Any) -> None:
    os.close(call("inotify_init"))


@ATTACKS.add
def watch_everything(facts: Any) -> None:
    os.close(call("fanotify_init", 0x200, 0))


@ATTACKS.add
def load_of_the_machine(facts: Any) -> None:
    """How busy the agent is; also what Python asks, which reads /proc."""
    call("sysinfo", ctypes.create_string_buffer(128))


@ATTACKS.add
def load_of_the_machine_by_file(facts: Any) -> None:
    os.getloadavg()
    Path("/proc/loadavg").read_bytes()


@ATTACKS.add
def time_of_another(facts: Any) -> None:
    Path(f"/proc/{facts['victim']}/stat").read_bytes()


@ATTACKS.add
def counters(facts: Any) -> None:
    attributes = ctypes.create_string_buffer(128)
    attributes[0:8] = (1).to_bytes(4, "little") + (128).to_bytes(4, "little")
    call("perf_event_open", attributes, facts["victim"], -1, -1, 0)


@ATTACKS.add
def kernel_program(facts: Any) -> None:
    call("bpf", 0, ctypes.create_string_buffer(120), 120)


@ATTACKS.add
def page_faults(facts: Any) -> None:
    os.close(call("userfaultfd", 1))


@ATTACKS.add
def another_personality(facts: Any) -> None:
    call("personality", 0xFFFFFFFF)


@ATTACKS.add
def type_into_the_terminal(facts: Any) -> None:
    try:
        fcntl.ioctl(0, 0x5412, b"x")  # TIOCSTI
    except OSError as error:
        if error.errno != errno.ENOTTY:  # it would have, at a terminal
            raise
