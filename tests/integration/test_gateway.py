"""The gateway against an unmodified SuperLink: what it carries, what it survives, what it says.

Scripts stand in for our ServerApp, and functions for the agents; the way between them is real.
"""

from __future__ import annotations

import datetime
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.small_flower import SmallFlower, echo_script
from craftsfl.processes.desk_lines import DeskLines
from craftsfl.processes.gateway_command import gateway_commands
from craftsfl.processes.restarts import keep_running
from craftsfl.processes.supervisor import Command, StartedProcess, Supervisor
from privacy.wire.bodies import Refusal
from privacy.wire.envelope import open_envelope
from privacy.wire.reasons import Reason

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def echo(data: bytes) -> bytes:
    return data


def told(flower: SmallFlower, name: str) -> list[str]:
    """The lines for the desk in a gateway's log, oldest first."""
    lines = DeskLines(Path("/nonexistent"))
    lines._log = flower.folder / "logs" / f"{name}-gateway.log"
    return list(lines.read())


def wait_for_line(flower: SmallFlower, name: str, words: str, seconds: float = 20.0) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for line in told(flower, name):
            if words in line:
                return line
        time.sleep(0.05)
    raise AssertionError(f"{words!r} is not in {told(flower, name)}")


def peak_megabytes(process: StartedProcess) -> float:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


# What no coordinator of ours sends: 100 MB, random bytes, a message of another Flower app. It says
# what came back for each.
HOSTILE = """
import os, time
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from server.messages import pack_envelope, unpack_envelope

while not (nodes := list(grid.get_node_ids())):
    time.sleep(0.1)
contents = {
    "random": pack_envelope(os.urandom(1000)),
    "large": pack_envelope(bytes(100_000_000)),
    "medium": pack_envelope(bytes(3_000_000)),
    "other app": RecordDict({"model": ArrayRecord({"w": Array("float32", (1,), "raw", b"1234")})}),
    "empty": RecordDict(),
    "text": RecordDict({"envelope": ConfigRecord({"bytes": "words"})}),
}
for name, content in contents.items():
    (key,) = grid.push_messages([Message(content, nodes[0], "query", ttl=600.0)])
    while not (found := list(grid.pull_messages([key]))):
        time.sleep(0.05)
    error = found[0].has_error()
    said[name] = "error" if error else unpack_envelope(found[0].content).hex()
"""


@pytest.mark.slow
@pytest.mark.ci
def test_messages_go_there_and_back_whatever_they_are_and_a_kill_loses_none(tmp_path: Path) -> None:
    """One federation for all of it, since starting one takes seconds.

    `make test` has the parts: test_hostile_gateway.py asks real gateways, test_courier.py refuses
    what cannot be carried, and goes on as the same node after a kill.
    """
    with SmallFlower(tmp_path) as flower:
        sites = [flower.site(f"site-{number}") for number in range(3)]
        for site in sites:
            flower.register(site)
            flower.start_agent(site, echo)
        started = {site.name: flower.start_gateway(site)[0] for site in sites}
        said = flower.run(echo_script(3, 10, pause=0.3))
        assert said["failed"] == 0
        seconds = [float(value) for value in said["seconds"]]  # type: ignore[attr-defined]
        assert len(seconds) == 30
        assert statistics.median(seconds) < 2.0, seconds  # 0.2 s on a quiet machine

        victim, others = sites[0], sites[1:]
        for site in others:
            flower.supervisor.stop_one(started[site.name])
        answers = flower.run(HOSTILE)
        reasons = {name: _reason(str(answer)) for name, answer in answers.items() if answer}
        assert reasons == {
            "random": "the agent's answer",
            "large": Reason.TOO_LARGE,
            "medium": Reason.TOO_LARGE,
            "other app": Reason.MALFORMED,
            "empty": Reason.MALFORMED,
            "text": Reason.MALFORMED,
        }
        lines = told(flower, victim.name)
        assert any("more than this study's adapter allows" in line for line in lines), lines
        assert any("is no message of this version" in line for line in lines), lines
        assert peak_megabytes(started[victim.name]) < 600
        _kill_while_it_carries(flower, victim.name, started[victim.name])


def _reason(answer: str) -> Reason | str:
    data = bytes.fromhex(answer)
    if len(data) == 1000:
        return "the agent's answer"
    body = open_envelope(data, limit=1000).body
    assert isinstance(body, Refusal)
    return body.reason


def _kill_while_it_carries(flower: SmallFlower, name: str, gateway: StartedProcess) -> None:
    """Killed with a message in hand; whoever comes back answers it, as the same node, at once."""
    site = flower.site(f"{name}-killed")
    node = flower.register(site)
    arrived, release, asked = threading.Event(), threading.Event(), []

    def slow_at_first(data: bytes) -> bytes:
        asked.append(data)
        arrived.set()
        if len(asked) == 1:
            release.wait(10)
        return data

    flower.supervisor.stop_one(gateway)
    flower.start_agent(site, slow_at_first)
    (first,) = flower.start_gateway(site)
    result = flower.begin(echo_script(1, 1))
    assert arrived.wait(60)
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    killed = time.monotonic()
    flower.start_gateway(site)
    release.set()
    said = flower.wait_for(result)
    assert time.monotonic() - killed < 15  # 2 s on a quiet machine; Flower alone would take 60
    assert said["failed"] == 0
    assert asked[0] == asked[1]
    assert (
        told(flower, site.name).count(f"Connected to localhost:{flower.port} as node {node}.") == 2
    )


def test_what_keeps_a_gateway_away_is_named_and_waited_out(tmp_path: Path) -> None:
    """No key, no agent, no SuperLink, a clock that is off; each ends as soon as its cause does."""
    with SmallFlower(tmp_path) as flower:
        site = flower.site("north")
        flower.start_gateway(site)
        wait_for_line(flower, "north", "does not admit this gateway yet: its key is not registered")
        wait_for_line(flower, "north", f"No agent: {site.socket_path()} does not exist")
        node = flower.register(site)
        wait_for_line(flower, "north", f"as node {node}.", 30)
        flower.start_agent(site, echo)
        wait_for_line(flower, "north", f"The agent listens on {site.socket_path()}")
        _a_clock_that_is_off(flower)
        (superlink,) = [r for r in flower.supervisor._running if r.name == "superlink"]
        flower.supervisor.stop_one(superlink)
        wait_for_line(flower, "north", f"No SuperLink at localhost:{flower.port}", 60)
        flower.start_superlink()
        deadline = time.monotonic() + 30
        while (
            told(flower, "north").count(f"Connected to localhost:{flower.port} as node {node}.") < 2
        ):
            assert time.monotonic() < deadline, told(flower, "north")
            time.sleep(0.1)


def _a_clock_that_is_off(flower: SmallFlower) -> None:
    """Only its own clock is: the SuperLink and its answer are real."""
    for name, ahead, words in (
        ("ahead", "600", "s ahead of the coordinator's, and Flower refuses signatures"),
        ("behind", "-400", "s behind the coordinator's"),
    ):
        site = flower.site(name)
        flower.register(site)
        (command,) = gateway_commands(site, flower.folder / "logs", prefix=f"{name}-")
        words_of = command.argv[command.argv.index("client.gateway") + 1 :]
        argv = (sys.executable, "-P", "-c", OFF, ahead, *words_of)
        flower.supervisor.start(replace(command, argv=argv))
        wait_for_line(flower, name, words)


def certificate(folder: Path, name: str, days: int, authority: ec.EllipticCurvePrivateKey) -> None:
    """`name`.pem and `name`.key for localhost, valid until `days` from now; and ca.pem."""
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    for file, own, signed in (("ca", authority, issuer), (name, key, None)):
        subject = signed or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=20))
            .not_valid_after(now + datetime.timedelta(days=10 if signed else days))
            .add_extension(x509.BasicConstraints(ca=bool(signed), path_length=None), critical=True)
        )
        if not signed:
            names = x509.SubjectAlternativeName([x509.DNSName(name), x509.DNSName("localhost")])
            builder = builder.add_extension(
                names if name != "elsewhere" else x509.SubjectAlternativeName([x509.DNSName(name)]),
                critical=False,
            )
        made = builder.sign(authority, hashes.SHA256())
        (folder / f"{file}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / f"{name}.key").write_bytes(private)


SERVER = """
import http.server as web, ssl, sys
certificate, key, port = sys.argv[1:]
server = web.ThreadingHTTPServer(("127.0.0.1", int(port)), web.BaseHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
# The gateway on a machine whose clock is AHEAD seconds ahead.
OFF = """
import datetime, sys, time
ahead, real_time, Real = float(sys.argv.pop(1)), time.time, datetime.datetime
class Shifted(Real):
    @classmethod
    def now(cls, tz=None):
        return Real.now(tz) + datetime.timedelta(seconds=ahead)
time.time, datetime.datetime = lambda: real_time() + ahead, Shifted
from client.gateway.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as running:
        yield running


@pytest.mark.parametrize(
    "name, days, words",
    [
        ("server", -1, "The certificate of localhost:{port} has expired, or this machine's"),
        ("elsewhere", 5, "The certificate of localhost:{port} is for another name"),
        ("other", 5, "What answers at localhost:{port} is not Flower's Fleet API"),
    ],
    ids=["expired", "other name", "no SuperLink"],
)
def test_a_certificate_that_is_wrong_is_told_and_ends_nothing(
    tmp_path: Path, supervisor: Supervisor, name: str, days: int, words: str
) -> None:
    """Under the loop of `site serve`. Any server will do."""
    flower = SmallFlower(tmp_path)
    certificate(tmp_path, name, days, ec.generate_private_key(ec.SECP256R1()))
    port = str(flower.port)
    argv = (
        sys.executable,
        "-c",
        SERVER,
        str(tmp_path / f"{name}.pem"),
        str(tmp_path / f"{name}.key"),
    )
    supervisor.start(Command("server", (*argv, port), dict(os.environ), tmp_path / "server.log"))
    site = flower.site("north", root_certificates=tmp_path / "ca.pem")
    wanted = words.format(port=port)

    def tick() -> None:
        lines = told(flower, "north")
        if any(wanted in line for line in lines):
            raise Enough
        assert time.monotonic() < deadline, lines

    deadline = time.monotonic() + 30
    (command,) = gateway_commands(site, flower.folder / "logs", prefix="north-")
    with pytest.raises(Enough):
        keep_running([command], supervisor, tick, lambda command: False)
    time.sleep(1.0)
    (running,) = [r for r in supervisor._running if r.name == "north gateway"]
    assert running.exit_code() is None


class Enough(Exception):
    """Ends the loop."""


@pytest.mark.slow
@pytest.mark.ci
def test_a_gateway_that_has_forgotten_its_node_waits_flowers_minute(tmp_path: Path) -> None:
    with SmallFlower(tmp_path) as flower:
        site = flower.site("north")
        node = flower.register(site)
        (first,) = flower.start_gateway(site)
        wait_for_line(flower, "north", f"as node {node}.")
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        (tmp_path / "north" / "gateway" / "node.json").unlink()
        began = time.monotonic()
        flower.start_gateway(site)
        line = wait_for_line(flower, "north", "does not admit this gateway yet")
        assert "less than a minute ago, which Flower waits out" in line
        while (
            told(flower, "north").count(f"Connected to localhost:{flower.port} as node {node}.") < 2
        ):
            assert time.monotonic() - began < 90
            time.sleep(0.2)
        assert time.monotonic() - began > 30


@pytest.mark.slow
def test_two_gateways_with_one_key_are_told_apart_at_the_second_ones_desk(tmp_path: Path) -> None:
    with SmallFlower(tmp_path) as flower:
        site = flower.site("north")
        flower.register(site)
        flower.start_gateway(site)
        wait_for_line(flower, "north", "Connected")
        assert site.gateway is not None
        twin = site.model_copy(
            update={
                "name": "twin",
                "gateway": site.gateway.model_copy(update={"home": tmp_path / "twin"}),
            }
        )
        flower.start_gateway(twin)
        wait_for_line(flower, "twin", "another gateway or SuperNode runs with the same key", 100)
