"""The agent's process keeps to itself, as the kernel tells it, not as the agent says.

Whoever runs code on the same machine under the agent's own user may try anything here: to trace
it, to read its memory; and what runs inside the agent may try to reach any network.
"""

from __future__ import annotations

import contextlib
import ctypes
import encodings.idna  # noqa: F401 - a child that became another user may not find it
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from client.agent import isolation
from client.agent.apart import check_alone, check_apart
from client.agent.isolation import Confinement, NetworkAccess, confinement, isolate
from client.settings import Policy, load_site
from privacy.errors import PolicyError
from privacy.secagg.server import Stage
from scripts.other_users import command_as
from tests.users import AGENT, attempt, give, needs_users, open_folder

from .hospital import Hospital, write_hospital
from .masked import MaskedAttempt
from .studies import POLICY, make_study

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
TABLES = ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "icmp", "packet")


class Watcher(threading.Thread):
    """Looks at a process and all it starts until told to stop; `faults` is what it saw."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.faults: set[str] = set()
        self.looks = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.01):
            for pid in family(self.pid):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    self.look(Path(f"/proc/{pid}"))
                    self.looks += 1

    def look(self, process: Path) -> None:
        interfaces = [
            line.split(":")[0].strip()
            for line in (process / "net/dev").read_text().splitlines()
            if ":" in line
        ]
        if interfaces != ["lo"]:
            self.faults.add(f"interfaces {interfaces}")
        if inet := sockets_of(process) & internet_sockets(process):
            self.faults.add(f"sockets {inet}")
        if (process / "mem").stat().st_uid != 0:  # the kernel gives those of the undumpable to root
            self.faults.add("dumpable")


def family(pid: int) -> Iterator[int]:
    """A process and all that came of it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def sockets_of(process: Path) -> set[str]:
    links = [str(entry.readlink()) for entry in (process / "fd").iterdir() if entry.is_symlink()]
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def internet_sockets(process: Path) -> set[str]:
    """Inodes of the namespace's sockets of every internet family; the column's place differs."""
    lines = [
        line.split()
        for table in TABLES
        if (process / "net" / table).exists()
        for line in (process / "net" / table).read_text().splitlines()[1:]
    ]
    return {word for line in lines for word in line}


@pytest.fixture
def hospital() -> Iterator[Hospital]:
    """One whose agent runs as a user of its own, where this process may arrange that."""
    with open_folder() as folder:
        hospital = Hospital(folder)
        if os.geteuid() == 0:
            give(folder, AGENT)
            hospital.become = lambda argv: command_as(AGENT, argv)
        yield hospital
        if hospital.process is not None and hospital.process.poll() is None:
            hospital.process.kill()
            hospital.process.wait()


@needs_users
def test_a_whole_round_has_no_network_and_no_debugger(hospital: Hospital) -> None:
    hospital.start()
    hospital.wait_for((hospital.folder / "a.sock").exists)
    assert hospital.process is not None
    pid = hospital.process.pid
    assert psutil.Process(pid).uids().real == AGENT
    watcher = Watcher(pid)
    watcher.start()
    hospital.wait_for(hospital.is_serving)
    MaskedAttempt().to(Stage.DONE, hospital)
    spied = (
        lambda: attach(pid),
        lambda: Path(f"/proc/{pid}/environ").read_bytes(),
        lambda: list(Path(f"/proc/{pid}/fd").iterdir()),
    )
    assert [type(attempt(AGENT, spy)) for spy in spied] == [PermissionError] * 3
    watcher.over.set()
    watcher.join(10)
    assert watcher.faults == set()
    assert watcher.looks > 3
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (core,) = [line.split()[4:6] for line in limits if line.startswith("Max core file size")]
    assert core == ["0", "0"]
    assert hospital.terminate() == 0
    assert "Network: a network namespace with nothing but lo; no debugger" in hospital.log


@needs_users
def test_the_watcher_sees_a_process_that_does_not_isolate_itself() -> None:
    """The control: each of the watcher's checks can fail."""

    def look() -> set[str]:
        os.setsid()
        libc().prctl(4, 1, 0, 0, 0)  # exec does it, and this process is a fork that became a user
        with socket.create_server(("127.0.0.1", 0)):
            watcher = Watcher(os.getpid())
            watcher.look(Path(f"/proc/{os.getpid()}"))
        return {fault.split()[0] for fault in watcher.faults}

    assert attempt(AGENT, look) >= {"sockets", "dumpable"}


def attach(pid: int) -> None:
    """What a debugger does first."""
    if libc().ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        raise PermissionError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0)
    libc().ptrace(PTRACE_DETACH, pid, None, None)


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@needs_users
@pytest.mark.parametrize("alone", [True, False])
def test_a_process_of_the_same_user_cannot_trace_it(alone: bool) -> None:
    def victim_and_debugger() -> str:
        libc().prctl(4, 1, 0, 0, 0)
        read, write = os.pipe()
        victim = os.fork()
        if victim == 0:
            if alone:
                isolate()
            os.write(write, b".")
            signal.pause()
        os.read(read, 1)
        try:
            attach(victim)
        except PermissionError:
            return "refused"
        finally:
            os.kill(victim, signal.SIGKILL)
        return "attached"

    assert attempt(AGENT, victim_and_debugger) == ("refused" if alone else "attached")


def families() -> dict[str, str]:
    """What becomes of a socket of each family."""
    seen = {}
    for name in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"):
        kind = socket.SOCK_STREAM if name in ("AF_UNIX", "AF_VSOCK") else socket.SOCK_RAW
        if name in ("AF_INET", "AF_INET6"):
            kind = socket.SOCK_DGRAM
        try:
            socket.socket(getattr(socket, name), kind).close()
            seen[name] = "made"
        except OSError as error:
            seen[name] = os.strerror(error.errno or 0)
    return seen


def ways_out() -> dict[str, Any]:
    """What a process has left after `isolate`."""
    isolate()
    ring = libc().syscall(ctypes.c_long(425), ctypes.c_long(1), ctypes.create_string_buffer(120))
    found = {"says": confinement(), "ring": ring, **families()}
    found["hub"] = os.environ.get("HF_HUB_OFFLINE"), os.environ.get("TRANSFORMERS_OFFLINE")
    with socket.socketpair()[0]:
        found["umask"] = os.umask(0)
    with socket.socket(socket.AF_UNIX) as other:
        found["resolver"] = other.connect_ex("/nowhere")
    try:
        socket.create_connection(("192.0.2.1", 53), timeout=1)
    except OSError as error:
        found["connect"] = error.errno
    return found


@needs_users
@pytest.mark.parametrize("uid", [0, AGENT])
def test_a_namespace_leaves_lo_alone(uid: int) -> None:
    found = attempt(uid, ways_out)
    assert found["says"] == Confinement(NetworkAccess.NAMESPACE, undumpable=True)
    assert found["AF_UNIX"] == found["AF_INET"] == found["AF_NETLINK"] == "made"
    assert found["AF_PACKET"] == found["AF_VSOCK"] == "Address family not supported by protocol"
    assert os.strerror(found["connect"]) == "Network is unreachable"
    assert found["ring"] == -1
    assert found["umask"] == 0o077
    assert found["hub"] == ("1", "1")  # else a library would wait for a network that is not there


@needs_users
def test_several_gpus_can_talk_over_lo() -> None:
    def talk() -> bytes:
        isolate()
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as one,
            server.accept()[0] as two,
        ):
            one.sendall(b"gradient")
            return two.recv(8)

    assert attempt(AGENT, talk) == b"gradient"


@needs_users
@pytest.mark.parametrize("uid", [0, AGENT])
def test_without_a_namespace_a_filter_refuses_all_but_unix_sockets(uid: int) -> None:
    def filtered() -> dict[str, Any]:
        isolation._left_network = lambda: False  # in a child that ends with this
        return ways_out()

    found = attempt(uid, filtered)
    assert found["says"] == Confinement(NetworkAccess.FILTER, undumpable=True)
    refused = {name: what for name, what in found.items() if name.startswith("AF_")}
    assert refused.pop("AF_UNIX") == "made"
    assert set(refused.values()) == {"Address family not supported by protocol"}
    assert os.strerror(found["connect"]) == "Address family not supported by protocol"


@needs_users
def test_threads_that_are_there_already_are_cut_off_too() -> None:
    def threaded() -> str:
        done, results = threading.Event(), []
        late = threading.Thread(target=lambda: (done.wait(), results.append(families())))
        late.start()
        isolate()
        done.set()
        late.join()
        return str(results[0]["AF_INET"])

    assert attempt(AGENT, threaded) == "Address family not supported by protocol"


@needs_users
def test_root_cannot_go_back_into_the_hosts_network() -> None:
    def back() -> int:
        host = os.open("/proc/self/ns/net", os.O_RDONLY)
        isolate()
        if libc().setns(host, 0x40000000) == 0:
            return 0
        return ctypes.get_errno()

    assert os.strerror(attempt(0, back)) == "Operation not permitted"


def policy(**more: Any) -> Policy:
    return Policy.model_validate({**POLICY, **more})


def test_no_agent_with_a_network_unless_the_policy_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = Confinement(NetworkAccess.OPEN, undumpable=True)
    with pytest.raises(PolicyError, match="could not be cut off"):
        check_alone(found, policy())
    check_alone(found, policy(allow_agent_network=True))
    assert "THE AGENT HAS THE MACHINE'S NETWORK" in caplog.text
    check_alone(Confinement(NetworkAccess.FILTER, undumpable=True), policy())


def test_what_a_process_has_is_looked_up_and_not_believed() -> None:
    """This process has a network; nobody has told `confinement` so."""
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        assert confinement().network is NetworkAccess.OPEN


@pytest.mark.parametrize("mode, refused", [("0600", True), ("0660", False)])
def test_a_socket_for_its_own_user_alone_is_no_airlock(
    tmp_path: Path, mode: str, refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    site = load_site(write_hospital(tmp_path, study=make_study()))
    own = site.agent.model_copy(update={"socket_mode": mode})
    asked = site.model_copy(update={"agent": own})
    if refused:
        with pytest.raises(PolicyError, match="as the user who owns data, ledger and keys"):
            check_apart(asked, one_user=False)
    else:
        check_apart(asked, one_user=False)
    assert "NO AIRLOCK" not in caplog.text
    check_apart(asked, one_user=True)
    assert "ONE USER, NO AIRLOCK" in caplog.text


def test_the_socket_is_for_the_group_where_two_users_meet(tmp_path: Path) -> None:
    """umask 077 would take the group's right away; the socket's mode is explicit."""
    from client.agent.progress import ProgressSource
    from client.agent.service import serve

    before = os.umask(0o077)
    try:
        service = serve(bytes, ProgressSource(), tmp_path / "a.sock", limit=10, mode=0o660)
        assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o660
        service.stop(0)
    finally:
        os.umask(before)
