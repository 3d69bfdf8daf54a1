"""The porter at the doors of a gateway that may be hostile: it may send any bytes, at any time."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from client.agent.progress import ProgressSource
from client.agent.service import serve
from client.forwarded import AtTheSocket
from client.gateway.doors import AgentDoor, OuterDoor
from client.gateway.porter import Outside, Reach, reach_of
from privacy.wire.reasons import Reason

LARGEST = 3_000_000


@dataclass
class AtWork:
    """A porter, this side of its doors, and the port to which it connects."""

    process: subprocess.Popen[bytes]
    agent: socket.socket
    outer: socket.socket
    port: int

    def ends(self) -> int:
        return self.process.wait(20)


@contextmanager
def porter(agent_socket: Path, host: str = "localhost") -> Iterator[AtWork]:
    agent, theirs = socket.socketpair()
    outer, outside = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        doors = [str(theirs.fileno()), str(outside.fileno())]
        place = [str(agent_socket), host, str(port), str(LARGEST)]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "client.gateway.porter", *doors, *place],
            pass_fds=(theirs.fileno(), outside.fileno()),
        )
        theirs.close()
        outside.close()
        try:
            yield AtWork(process, agent, outer, port)
        finally:
            agent.close()
            outer.close()
            assert process.wait(20) is not None  # it ends by itself, and never outlives the gateway


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtWork]:
    """A porter whose agent says what it is told."""
    path = tmp_path_factory.mktemp("agent") / "a.sock"
    service = serve(bytes, ProgressSource(), path, limit=LARGEST)
    with porter(path) as at_work:
        yield at_work
    service.stop(0)


def test_envelopes_go_through_whole(one: AtWork) -> None:
    door = AgentDoor(one.agent)
    for size in (1, 1 << 20, (1 << 20) + 1, 2_500_000):
        envelope = os.urandom(size)
        assert door.forward(envelope).answer == envelope
    assert door.knock() is AtTheSocket.LISTENING


def test_connections_lead_to_one_place_however_it_is_written(one: AtWork) -> None:
    door = OuterDoor(one.outer, "localhost", one.port)
    for host in ("localhost", "LOCALHOST"):
        with door.create_connection((host, one.port), timeout=5) as made:
            assert made.getpeername()[1] == one.port
            assert made.gettimeout() == 5
    for place in (("127.0.0.1", one.port), ("localhost", one.port + 1), ("", one.port)):
        with pytest.raises(PermissionError, match="may connect to"):
            door.create_connection(place)


def test_names_are_asked_anew_and_failures_are_those_of_the_library(tmp_path: Path) -> None:
    with porter(tmp_path / "none.sock", "nosuchhost.invalid") as at_work:
        door = OuterDoor(at_work.outer, "nosuchhost.invalid", at_work.port)
        for _ in range(2):
            with pytest.raises(socket.gaierror, match=r"nosuchhost\.invalid cannot be resolved"):
                door.create_connection(("nosuchhost.invalid", at_work.port), timeout=5)
        forwarded = AgentDoor(at_work.agent).forward(b"x")
        assert forwarded.silent is Reason.AGENT_UNREACHABLE
        assert AgentDoor(at_work.agent).knock() is AtTheSocket.NO_FILE


def test_nobody_listens_there(tmp_path: Path) -> None:
    with porter(tmp_path / "none.sock") as at_work, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        door = OuterDoor(at_work.outer, "localhost", at_work.port)
        with door.create_connection(("localhost", at_work.port)):
            pass
    assert at_work.ends() == 0


MACHINE, NETWORK, WORLD = "127.0.0.1", "10.1.2.3", "9.9.9.9"


@pytest.mark.parametrize(
    "address, reach",
    [
        *((MACHINE, Reach.MACHINE), ("0.0.0.0", Reach.MACHINE), ("::1", Reach.MACHINE)),
        *(("::ffff:127.0.0.1", Reach.MACHINE), ("127.9.9.9", Reach.MACHINE)),
        *((NETWORK, Reach.NETWORK), ("fe80::1%eth0", Reach.NETWORK), ("fd00::1", Reach.NETWORK)),
        *(("169.254.169.254", Reach.NETWORK), ("::ffff:192.168.1.1", Reach.NETWORK)),
        *((WORLD, Reach.WORLD), ("2620:fe::fe", Reach.WORLD), ("100.64.0.1", Reach.NETWORK)),
    ],
)
def test_how_far_away_an_address_is(address: str, reach: Reach) -> None:
    assert reach_of(address) is reach


@pytest.mark.parametrize(
    "first, later, reached",
    [
        (WORLD, [MACHINE], None),
        (WORLD, [NETWORK, MACHINE, "::1", "0.0.0.0"], None),
        (WORLD, [MACHINE, "9.9.9.10"], "9.9.9.10"),
        (NETWORK, [MACHINE, WORLD], None),
        (MACHINE, [NETWORK, MACHINE], MACHINE),
    ],
)
def test_a_name_cannot_come_to_mean_the_hospitals_own_machines(
    first: str, later: list[str], reached: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner, the coordinator, answers for the name; and takes over the gateway first."""
    named = [first]
    tried: list[str] = []
    stream = socket.SOCK_STREAM

    class Made:
        def __init__(self, *_: object) -> None:
            pass

        def settimeout(self, seconds: float) -> None:
            pass

        def connect(self, address: tuple[str, int]) -> None:
            tried.append(address[0])

    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(2, stream, 6, "", (a, 443)) for a in named]
    )
    monkeypatch.setattr(socket, "socket", Made)
    outside = Outside("coordinator", 443)
    outside.connect(1.0)
    named[:] = later
    if reached is None:
        with pytest.raises(PermissionError, match="does not mean what it meant"):
            outside.connect(1.0)
    else:
        outside.connect(1.0)
    assert tried == [first, *([reached] if reached else [])]


HOSTILE = {
    "no verb": b"X",
    "a frame beyond a mebibyte": b"F" + struct.pack("!I", (1 << 20) + 1),
    "a frame of 4 GiB": b"F" + b"\xff" * 4,
    "more than the largest envelope": b"F" + (struct.pack("!I", 1 << 20) + bytes(1 << 20)) * 4,
}


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
def test_a_lie_at_the_agents_door_ends_it(said: bytes, tmp_path: Path) -> None:
    with porter(tmp_path / "none.sock") as at_work:
        with contextlib.suppress(BrokenPipeError):  # it may not even listen to the end
            at_work.agent.sendall(said)
        assert at_work.ends() == 0
        assert at_work.agent.recv(1) == b""


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0, 1e300])
def test_no_time_is_too_long_or_none(seconds: float, one: AtWork) -> None:
    one.outer.sendall(struct.pack("!d", seconds))
    kind, handed, _, _ = socket.recv_fds(one.outer, 5, 1)
    for number in handed:
        os.close(number)
    assert kind[:1] == b"C"


def test_files_that_are_sent_to_it_are_not_kept(one: AtWork) -> None:
    """A hostile gateway passes descriptors of its own through the door."""
    folder = Path(f"/proc/{one.process.pid}/fd")
    if not folder.exists():
        pytest.skip("/proc is Linux's")
    before = len(list(folder.iterdir()))
    with Path("/dev/null").open("rb") as file:
        for _ in range(50):
            socket.send_fds(one.agent, [b"K"], [file.fileno()])
            assert one.agent.recv(1)
    time.sleep(0.1)
    assert len(list(folder.iterdir())) <= before + 1


def test_it_outlives_signals_and_not_the_gateway(tmp_path: Path) -> None:
    with porter(tmp_path / "none.sock") as at_work:
        assert AgentDoor(at_work.agent).knock() is AtTheSocket.NO_FILE  # it runs
        at_work.process.terminate()
        assert AgentDoor(at_work.agent).knock() is AtTheSocket.NO_FILE
        at_work.agent.close()
        assert at_work.ends() == 0
