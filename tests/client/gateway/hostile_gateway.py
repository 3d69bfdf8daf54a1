"""A gateway that the coordinator has taken over, under the agent's own user.

`python -P hostile_gateway.py FACTS`: shuts itself in as the gateway does, unless the facts say not
to, then tries everything here and prints for each attempt what became of it. FACTS is a JSON file.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ATTACKS: dict[str, Callable[[Any], object]] = {}
DONE = "done"
MARK = "REPORT"
# Numbers of x86-64 for calls that Python does not have; all above 423 are the same everywhere.
CALLS = {
    **{"shmget": 29, "msgget": 68, "ptrace": 101, "mq_open": 240, "add_key": 248, "keyctl": 250},
    **{"unshare": 272, "perf_event_open": 298, "fanotify_init": 300, "setns": 308, "kcmp": 312},
    **{"process_vm_readv": 310, "memfd_create": 319, "bpf": 321, "userfaultfd": 323},
    **{"inotify_init": 253, "mount": 165, "personality": 135, "ioprio_set": 251, "clone": 56},
    **{"io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438, "fchmodat2": 452},
    **{"landlock_create_ruleset": 444, "execveat": 322, "migrate_pages": 256, "openat2": 437},
    **{
        "rt_sigqueueinfo": 129,
        "tkill": 200,
        "sendmsg": 46,
        "vfork": 58,
        "acct": 163,
        "sysinfo": 99,
    },
}


def attack(action: Callable[[Any], object]) -> Callable[[Any], object]:
    ATTACKS[action.__name__] = action
    return action


def call(name: str, *arguments: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    as_long = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(ctypes.c_long(CALLS[name]), *as_long))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


# Reading what is the agent's.


@attack
def read_key(facts: Any) -> None:
    Path(facts["key"]).read_bytes()


@attack
def read_ledger(facts: Any) -> None:
    Path(facts["ledger"]).read_bytes()


@attack
def read_tile(facts: Any) -> None:
    Path(facts["tile"]).read_bytes()


@attack
def list_tiles(facts: Any) -> None:
    os.listdir(Path(facts["tile"]).parent)  # noqa: PTH208


@attack
def read_key_by_another_path(facts: Any) -> None:
    Path("/proc/self/root" + facts["key"]).read_bytes()


@attack
def read_key_through_a_path_only_file(facts: Any) -> None:
    folder = os.open(Path(facts["key"]).parent, os.O_PATH)
    os.close(os.open(Path(facts["key"]).name, os.O_RDONLY, dir_fd=folder))


@attack
def read_key_by_a_newer_call(facts: Any) -> None:
    how = (ctypes.c_uint64 * 3)(0, 0, 0)
    call("openat2", -100, facts["key"].encode(), ctypes.byref(how), 24)


@attack
def read_key_in_another_thread(facts: Any) -> None:
    seen: list[object] = []

    def read() -> None:
        try:
            seen.append(Path(facts["key"]).read_bytes())
        except OSError as error:
            seen.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    if isinstance(seen[0], OSError):
        raise seen[0]


@attack
def read_an_inherited_file(facts: Any) -> None:
    if not os.pread(facts["inherited"], 1, 0):
        raise OSError(errno.ENODATA, "empty")


@attack
def read_memory_of_another(facts: Any) -> None:
    with Path(f"/proc/{facts['victim']}/mem").open("rb"):
        pass


@attack
def read_environment_of_another(facts: Any) -> None:
    Path(f"/proc/{facts['victim']}/environ").read_bytes()


@attack
def read_command_line_of_another(facts: Any) -> None:
    Path(f"/proc/{facts['victim']}/cmdline").read_bytes()


@attack
def read_own_memory_map(facts: Any) -> None:
    Path("/proc/self/maps").read_bytes()


# Writing and changing.


@attack
def write_profile(facts: Any) -> None:
    with Path(facts["home"], ".bashrc").open("a") as file:
        file.write("evil\n")


@attack
def write_shared_memory(facts: Any) -> None:
    path = Path(f"/dev/shm/airlock-{os.getpid()}")
    path.write_text("x")
    path.unlink()


@attack
def write_own_key(facts: Any) -> None:
    with Path(facts["readable"]).open("ab") as file:
        file.write(b"")


@attack
def empty_own_key(facts: Any) -> None:
    os.close(os.open(facts["spare"], os.O_RDONLY | os.O_TRUNC))


@attack
def truncate_ledger(facts: Any) -> None:
    os.truncate(facts["ledger"], 0)


@attack
def open_key_to_others(facts: Any) -> None:
    Path(facts["key"]).chmod(0o666)


@attack
def open_key_by_a_newer_call(facts: Any) -> None:
    call("fchmodat2", -100, facts["key"].encode(), 0o666, 0)


@attack
def give_key_away(facts: Any) -> None:
    os.chown(facts["key"], -1, -1)


@attack
def set_attribute(facts: Any) -> None:
    os.setxattr(facts["key"], "user.evil", b"x")


@attack
def set_times(facts: Any) -> None:
    os.utime(facts["key"], (0, 0))


@attack
def rename_key(facts: Any) -> None:
    away = Path(facts["key"]).rename(facts["key"] + ".away")
    away.rename(facts["key"])


@attack
def link_key(facts: Any) -> None:
    os.link(facts["key"], facts["key"] + ".link")
    Path(facts["key"] + ".link").unlink()


@attack
def symlink(facts: Any) -> None:
    path = Path(facts["home"], "symlink")
    path.symlink_to("x")
    path.unlink()


@attack
def remove(facts: Any) -> None:
    Path(facts["spare"]).unlink()


@attack
def make_folder(facts: Any) -> None:
    path = Path(facts["home"], "folder")
    path.mkdir()
    path.rmdir()


@attack
def make_pipe(facts: Any) -> None:
    os.mkfifo(Path(facts["home"], "pipe"))
    Path(facts["home"], "pipe").unlink()


@attack
def change_folder(facts: Any) -> None:
    here = Path.cwd()
    os.chdir(facts["home"])
    os.chdir(here)


@attack
def empty_the_log(facts: Any) -> None:
    log = os.open(facts["home"] + "/log", os.O_CREAT | os.O_WRONLY)
    os.close(log)


@attack
def cut_output(facts: Any) -> None:
    os.ftruncate(2, 0)


@attack
def write_output_at_a_place(facts: Any) -> None:
    os.pwrite(1, b"", 0)


@attack
def write_an_inherited_file_anew(facts: Any) -> None:
    os.ftruncate(facts["inherited_to_write"], 0)


# Other processes.


@attack
def signal_another(facts: Any) -> None:
    os.kill(facts["victim"], 0)


@attack
def kill_everybody_else(facts: Any) -> None:
    os.kill(-facts["group"], 0)


@attack
def signal_a_thread_of_another(facts: Any) -> None:
    call("tkill", facts["victim"], 0)


@attack
def queue_signal(facts: Any) -> None:
    information = ctypes.create_string_buffer(128)
    information[8:12] = (-1).to_bytes(4, "little", signed=True)  # SI_QUEUE
    call("rt_sigqueueinfo", facts["victim"], 0, information)


@attack
def signal_through_a_file(facts: Any) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, facts["victim"])
    os.close(reader)
    os.close(writer)


@attack
def hold_another(facts: Any) -> None:
    os.close(call("pidfd_open", facts["victim"], 0))


@attack
def take_anothers_file(facts: Any) -> None:
    os.close(call("pidfd_getfd", call("pidfd_open", facts["victim"], 0), 0, 0))


@attack
def trace_another(facts: Any) -> None:
    call("ptrace", 0x4206, facts["victim"], 0, 0)  # PTRACE_SEIZE
    call("ptrace", 0x4207, facts["victim"], 0, 0)  # PTRACE_INTERRUPT
    os.waitpid(facts["victim"], 0x40000000)
    call("ptrace", 17, facts["victim"], 0, 0)


@attack
def read_memory_by_call(facts: Any) -> None:
    buffer = ctypes.create_string_buffer(8)
    mine = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    theirs = (ctypes.c_size_t * 2)(facts["address"], 8)
    call("process_vm_readv", facts["victim"], ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)


@attack
def compare_files(facts: Any) -> None:
    call("kcmp", os.getpid(), facts["victim"], 2, 0, 0)


@attack
def limit_another(facts: Any) -> None:
    resource.prlimit(facts["victim"], resource.RLIMIT_CORE, (0, 0))


@attack
def slow_another(facts: Any) -> None:
    os.setpriority(os.PRIO_PROCESS, facts["victim"], 19)


@attack
def pin_another(facts: Any) -> None:
    os.sched_setaffinity(facts["victim"], {0})


@attack
def starve_another(facts: Any) -> None:
    call("ioprio_set", 1, facts["victim"], 3 << 13)


@attack
def become_traceable(facts: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(4, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


# Programs and processes.


@attack
def start_a_shell(facts: Any) -> None:
    os.posix_spawn("/bin/sh", ["sh", "-c", ":"], {})


@attack
def start_python(facts: Any) -> None:
    os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})


@attack
def start_from_memory(facts: Any) -> None:
    os.close(call("memfd_create", b"program", 0))


@attack
def execute(facts: Any) -> None:
    try:
        os.execve("/nonexistent", ["x"], {})
    except FileNotFoundError:
        return  # it looked


@attack
def execute_an_open_file(facts: Any) -> None:
    try:
        call("execveat", -100, b"/nonexistent", 0, 0, 0)
    except FileNotFoundError:
        return


@attack
def fork(facts: Any) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


@attack
def clone_a_process(facts: Any) -> None:
    child = call("clone", signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


# Sockets.


@attack
def ask_another_service(facts: Any) -> None:
    """As D-Bus, systemd, tmux, Docker: whoever may connect gets a shell of that user."""
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(facts["service"])


@attack
def ask_an_abstract_service(facts: Any) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect("\0" + facts["abstract"])


@attack
def ask_the_agent_itself(facts: Any) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(facts["agent"])


@attack
def connect_to_another_port(facts: Any) -> None:
    with socket.socket(socket.AF_INET) as door:
        door.connect(("127.0.0.1", facts["other_port"]))


@attack
def connect_by_name_to_another_port(facts: Any) -> None:
    socket.create_connection(("localhost", facts["other_port"]), timeout=5).close()


@attack
def connect_by_another_name(facts: Any) -> None:
    socket.create_connection(("127.0.0.1", facts["port"]), timeout=5).close()


@attack
def connect_a_handed_in_socket_elsewhere(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        address = b"\0" * 16  # AF_UNSPEC: disconnect
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.connect(door.fileno(), address, 16) != 0:
            raise OSError(ctypes.get_errno(), "connect")
        door.connect(("127.0.0.1", facts["other_port"]))


@attack
def fast_open_a_handed_in_socket(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        door.shutdown(socket.SHUT_RDWR)
        with socket.socket(socket.AF_INET) if not facts["confined"] else door as other:
            other.sendto(b"x", 0x20000000, ("127.0.0.1", facts["other_port"]))


@attack
def send_to_an_address(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        door.sendto(b"x", ("127.0.0.1", facts["other_port"]))


@attack
def send_a_message_with_an_address(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        door.sendmsg([b"x"])


@attack
def listen(facts: Any) -> None:
    socket.create_server(("127.0.0.1", 0)).close()


@attack
def listen_on_a_handed_in_socket(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        try:
            door.listen()
        except OSError as error:
            if error.errno != errno.EINVAL:  # what the kernel says of a connected one
                raise


@attack
def send_datagram(facts: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.sendto(b"a patient", ("127.0.0.1", 53))


@attack
def ask_a_resolver(facts: Any) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM):
        pass


@attack
def look_at_the_network(facts: Any) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


@attack
def multipath(facts: Any) -> None:
    """A TCP that Landlock's rules for TCP do not know."""
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()


@attack
def socket_pair(facts: Any) -> None:
    for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        one.close()


@attack
def load_a_protocol(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        try:
            door.setsockopt(socket.IPPROTO_TCP, 31, b"nosuchulp")  # TCP_ULP
        except OSError as error:
            if error.errno != errno.ENOENT:  # it looked for a module
                raise


@attack
def ring(facts: Any) -> None:
    os.close(call("io_uring_setup", 1, ctypes.create_string_buffer(120)))


# What else a kernel offers.


@attack
def new_user_namespace(facts: Any) -> None:
    call("unshare", 0x10000000)


@attack
def mount(facts: Any) -> None:
    call("mount", b"none", facts["home"].encode(), b"tmpfs", 0, 0)


@attack
def keyring(facts: Any) -> None:
    call("add_key", b"user", b"evil", b"x", 1, -2)


@attack
def search_keyring(facts: Any) -> None:
    call("keyctl", 0, -4, 1)  # KEYCTL_GET_KEYRING_ID of the user


@attack
def shared_memory(facts: Any) -> None:
    call("shmget", 0, 4096, 0o600)


@attack
def message_queue(facts: Any) -> None:
    call("msgget", 0, 0o600)


@attack
def posix_queue(facts: Any) -> None:
    os.close(call("mq_open", b"evil", os.O_CREAT | os.O_RDWR, 0o600, 0))


@attack
def watch_the_tiles(facts: Any) -> None:
    os.close(call("inotify_init"))


@attack
def watch_everything(facts: Any) -> None:
    os.close(call("fanotify_init", 0x200, 0))


@attack
def load_of_the_machine(facts: Any) -> None:
    """How busy the agent is; also what Python asks, which reads /proc."""
    call("sysinfo", ctypes.create_string_buffer(128))


@attack
def load_of_the_machine_by_file(facts: Any) -> None:
    os.getloadavg()
    Path("/proc/loadavg").read_bytes()


@attack
def time_of_another(facts: Any) -> None:
    Path(f"/proc/{facts['victim']}/stat").read_bytes()


@attack
def counters(facts: Any) -> None:
    attributes = ctypes.create_string_buffer(128)
    attributes[0:8] = (1).to_bytes(4, "little") + (128).to_bytes(4, "little")
    call("perf_event_open", attributes, facts["victim"], -1, -1, 0)


@attack
def kernel_program(facts: Any) -> None:
    call("bpf", 0, ctypes.create_string_buffer(120), 120)


@attack
def page_faults(facts: Any) -> None:
    os.close(call("userfaultfd", 1))


@attack
def another_personality(facts: Any) -> None:
    call("personality", 0xFFFFFFFF)


@attack
def type_into_the_terminal(facts: Any) -> None:
    try:
        fcntl.ioctl(0, 0x5412, b"x")  # TIOCSTI
    except OSError as error:
        if error.errno != errno.ENOTTY:  # it would have, at a terminal
            raise


def outcome(action: Callable[[Any], object], facts: Any) -> str:
    try:
        action(facts)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    return DONE


def shut_in(facts: Any) -> Any:
    from client.gateway.confinement import Surroundings, confine

    around = Surroundings(
        readable=(Path(facts["readable"]),),
        agent_socket=Path(facts["agent"]),
        host="localhost",
        port=facts["port"],
        largest=1 << 20,
        remembered=(facts["remembered"],),
        private=(Path(facts["key"]), Path(facts["ledger"]), Path(facts["tile"]).parent),
    )
    return confine(around, abi=facts["abi"])


def main() -> None:
    facts = json.loads(Path(sys.argv[1]).read_text())
    facts["inherited"] = os.open(facts["key"], os.O_RDONLY)
    facts["inherited_to_write"] = os.open(facts["spare"], os.O_RDWR)
    facts["remembered"] = os.open(facts["home"] + "/node.json", os.O_RDWR | os.O_CREAT, 0o600)
    report: dict[str, object] = {}
    lock = shut_in(facts) if facts["confined"] else None
    if lock is not None:
        report["says"] = {"held": lock.held.is_airlock, "text": lock.held.text}
    for name, action in ATTACKS.items():
        report[name] = outcome(action, facts)
    print(MARK + json.dumps(report))


if __name__ == "__main__":
    main()
