"""What a stranger on the coordinator's machine gets from a real SuperLink, and what its operator.

The stranger is another Linux user, who sends bytes of any kind to the port and opens what the
coordinator's folder holds.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import certifi
import psutil
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.control_pb2 import ListRunsRequest, RegisterNodeRequest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import (
    generate_key_pairs,
    public_key_to_bytes,
    sign_message,
)
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

from craftsfl.processes.flower import control
from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.connections import FIRST_SECONDS, IDLE_SECONDS
from craftsfl.processes.flower.control import (
    ask_gate,
    flower_run_state,
    flower_runs,
    node_states,
    register_node,
    start_flower_run,
    stop_flower_run,
)
from craftsfl.processes.flower.credentials import make_supernode_key
from craftsfl.processes.flower.gate import BURST, LARGEST_BODY, REQUESTS_A_SECOND, SMALL_BODY
from craftsfl.processes.flower.operator_key import operator_key
from craftsfl.processes.flower.shown_key import KEY_HEADER
from craftsfl.processes.supervisor import Supervisor
from craftsfl.rounds.fab import build, stage
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError
from tests.integration.superlink import Answer, ask, running_superlink, send
from tests.users import attempt, needs_users, open_folder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120), needs_users]

NOBODY = 65534
FLEET = sorted(path for _, path in PROTOBUF_REQUEST_TYPES if path.startswith("/v1/fleet/"))
OTHERS = sorted(path for _, path in PROTOBUF_REQUEST_TYPES if not path.startswith("/v1/fleet/"))
PLAIN = "/v1/fleet/pull-messages"


@pytest.fixture(scope="module")
def link() -> Iterator[SuperLink]:
    with open_folder() as folder, running_superlink(folder) as (made, _):
        yield made


def as_nobody(action: Callable[[], Any]) -> Any:
    result = attempt(NOBODY, action)
    if isinstance(result, Exception):
        raise result
    return result


def key_of(link: SuperLink) -> str:
    return operator_key(link.secret.read_bytes())


def test_a_stranger_gets_401_on_every_path_but_the_fleets(link: SuperLink) -> None:
    pages = ["/", "/docs", "/openapi.json", "/redoc", "/health", "/v1/health", "/nowhere", "*"]
    methods = ("POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE")

    def action() -> dict[tuple[str, str], int]:
        paths = [*OTHERS, *pages]
        return {(m, p): ask(link.port, p, method=m).status for m in methods for p in paths}

    found = as_nobody(action)
    assert len(OTHERS) > 60
    assert set(found.values()) == {401}


def test_a_stranger_starts_no_run_and_admits_nobody(link: SuperLink) -> None:
    """The attack that was done: code as the operator, from any user of the machine."""
    public = public_key_to_bytes(generate_key_pairs()[1])
    bodies = {
        "/v1/control/start-run": b"",
        "/v1/control/list-runs": ListRunsRequest(limit=1).SerializeToString(),
        "/v1/control/register-node": RegisterNodeRequest(public_key=public).SerializeToString(),
        "/v1/runtime/acquire-task": b"",
    }
    nodes, runs = node_states(link), flower_runs(link)
    for path, body in bodies.items():
        answer = as_nobody(lambda path=path, body=body: ask(link.port, path, body=body))
        assert (answer.status, answer.is_the_gates) == (401, True), path
    assert (node_states(link), flower_runs(link)) == (nodes, runs)


ODD_TARGETS = [
    "//v1/fleet/pull-messages",
    "/v1//fleet/pull-messages",
    "/v1/fleet//pull-messages",
    "/v1/fleet/../control/list-runs",
    "/v1/fleet/./pull-messages",
    "/v1/fleet/%2e%2e/control/list-runs",
    "/v1/fleet/..%2fcontrol%2flist-runs",
    "/v1/fleet%2fpull-messages",
    "/v1/fleet/pull%2dmessages",
    "/v1/%66leet/pull-messages",
    "/V1/FLEET/PULL-MESSAGES",
    "/v1/fleet",
    "/v1/fleet/",
    "/v1/fleet/pull-messages/",
    "/v1/fleet/pull-messages?x",
    "/v1/fleet/pull-messages?",
    "/v1/fleet/pull-messages;x",
    "/v1/fleet/pull-messages#x",
    "/v1/fleet/pull-messages%00",
    "/v1/fleet/pull-messages%0a",
    "/v1/fleet/pull_messages",
    "/v1/fleet/-pull",
    "http://127.0.0.1/v1/control/list-runs",
    "https://x/v1/fleet/../control/list-runs",
    "/v1/fleet/\xe9",
    "v1/fleet/pull-messages",
]


@pytest.mark.parametrize("target", ODD_TARGETS)
def test_a_path_that_two_readers_could_read_differently_is_no_fleet_path(
    link: SuperLink, target: str
) -> None:
    answer = as_nobody(lambda: ask(link.port, target))
    if target.endswith(("?", "#x")):  # nothing is left of it when the server has read it
        assert not answer.is_the_gates or answer.status == 401
    elif answer.status != 400:  # the server itself may have refused it
        assert (answer.status, answer.is_the_gates) == (401, True)


ODD_HOSTS = ["x/v1/control/list-runs?", "x#", "a@b", "x y", "", "127.0.0.1/", "x?y", "x\\y", "x:y"]


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_a_host_that_would_change_the_path_is_refused(link: SuperLink, host: str) -> None:
    """Older versions of Starlette put the URL together from it, and Flower asks that URL."""
    answer = as_nobody(lambda: ask(link.port, PLAIN, {"Host": host}))
    assert answer.status in (400, 401)
    assert answer.is_the_gates or answer.status == 400


def test_two_hosts_are_refused(link: SuperLink) -> None:
    answer = as_nobody(lambda: ask(link.port, PLAIN, more="Host: other\r\n"))
    assert answer.status in (400, 401)


def test_the_key_counts_once_and_as_it_is(link: SuperLink) -> None:
    key, path, body = key_of(link), "/v1/control/list-runs", ListRunsRequest().SerializeToString()

    def status(*values: str) -> int:
        more = "".join(f"{KEY_HEADER}: {value}\r\n" for value in values)
        return ask(link.port, path, body=body, more=more).status

    assert status(key) == 200
    wrong = [
        (),
        ("",),
        (key[:-1],),
        (key + "0",),
        (key.upper(),),
        (operator_key(b"other" * 8),),
        (link.secret.read_text(),),
        (key, key),
        (key, "x"),
        ("x", key),
        (f"{key}, {key}",),
    ]
    assert [status(*values) for values in wrong] == [401] * len(wrong)


def test_no_websocket_and_no_other_protocol(link: SuperLink) -> None:
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    targets = ["/v1/control/stream-logs", "/v1/fleet/pull-messages", "/"]
    found = [ask(link.port, target, method="GET", more=upgrade).status for target in targets]
    assert found == [401] * 3
    assert send(link.port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status in (0, 400, 401)
    old = f"POST /v1/control/list-runs HTTP/1.0\r\nHost: 127.0.0.1:{link.port}\r\n\r\n"
    assert send(link.port, old.encode()).status == 401


def test_a_second_request_on_a_connection_is_asked_for_its_key_too(link: SuperLink) -> None:
    """Two requests in one, which a proxy might take for one."""
    hidden = b"POST /v1/control/list-runs HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    head = f"POST {PLAIN} HTTP/1.1\r\nHost: x\r\nContent-Type: application/protobuf\r\n"
    lengths = [
        f"Content-Length: {len(hidden)}\r\nTransfer-Encoding: chunked\r\n\r\n",
        f"Content-Length: 0\r\nContent-Length: {len(hidden)}\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: +0\r\n\r\n",
    ]
    for length in lengths:
        assert send(link.port, (head + length).encode() + hidden).status in (400, 401, 411), length


def test_a_long_body_is_not_read(link: SuperLink) -> None:
    def action() -> Answer:
        return ask(link.port, PLAIN, {"Content-Length": str(LARGEST_BODY + 1)})

    assert as_nobody(action).status == 413
    assert as_nobody(lambda: ask(link.port, "/v1/x", {"Content-Length": "9" * 12})).status == 401


def signed(private: Any, public: Any) -> dict[str, str]:
    """Headers of a SuperNode with these keys."""
    stamp = now().isoformat()
    return {
        FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public_key_to_bytes(public)).decode(),
        TIMESTAMP_HEADER: stamp,
        FLEET_HTTP_SIGNATURE_HEADER: b64encode(sign_message(private, stamp.encode())).decode(),
    }


@pytest.mark.parametrize("path", FLEET)
def test_the_fleet_api_asks_for_a_nodes_key_as_ever(link: SuperLink, path: str) -> None:
    """Behind the gate is Flower, which refuses who has signed nothing."""
    answer = as_nobody(lambda: ask(link.port, path))
    assert answer.status == 401
    assert "Invalid SuperNode authentication" in answer.text


def test_a_key_that_nobody_admitted_is_refused_as_ever(link: SuperLink) -> None:
    private, public = generate_key_pairs()
    key, headers = public_key_to_bytes(public), signed(private, public)
    for path, message in [
        ("/v1/fleet/activate-node", ActivateNodeRequest(public_key=key, heartbeat_interval=30)),
        ("/v1/fleet/register-node", RegisterNodeFleetRequest(public_key=key)),
    ]:
        before = node_states(link)
        body = message.SerializeToString()
        answer = as_nobody(lambda p=path, b=body: ask(link.port, p, headers, body=b))
        assert answer.status != 200, path
        assert not answer.is_the_gates
        assert node_states(link) == before


def test_a_key_is_admitted_once(link: SuperLink, tmp_path: Path) -> None:
    public = make_supernode_key(tmp_path / "north.key")
    node = register_node(link, public)
    assert node in node_states(link)
    with pytest.raises(ConfigError, match="admitted already") as caught:
        register_node(link, public)
    assert caught.value.id == ErrorId.KEY_ADMITTED


def test_a_stranger_reads_no_file_of_the_coordinator(link: SuperLink) -> None:
    files = [path for path in link.folder.rglob("*") if path.is_file()]
    private = [*files, link.secret, link.credentials.key]
    assert {path.name for path in private} >= {"superlink.db", "superlink.log", "server.key"}
    assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in private] == [0] * len(private)
    for path in private:
        with pytest.raises(PermissionError):
            as_nobody(lambda path=path: path.read_bytes())


def own_open_ports() -> set[int]:
    listening = psutil.net_connections(kind="tcp")
    family = {child.pid for child in psutil.Process().children(recursive=True)}
    return {one.laddr.port for one in listening if one.status == "LISTEN" and one.pid in family}


def test_no_other_port_is_open(link: SuperLink) -> None:
    assert own_open_ports() == {link.port}


def test_a_superlink_that_stands_still_is_silent_and_no_other(link: SuperLink) -> None:
    (superlink,) = (
        child
        for child in psutil.Process().children(recursive=True)
        if "superlink_program" in " ".join(child.cmdline())
    )
    ask_gate(link)
    superlink.suspend()
    try:
        with pytest.raises(DeploymentError, match="does not answer: it took too long") as caught:
            ask_gate(link, 0.5)
    finally:
        superlink.resume()
    assert caught.value.id == ErrorId.SUPERLINK_SILENT
    ask_gate(link)
    other = replace(link, credentials=link.credentials._replace(authority=Path(certifi.where())))
    with pytest.raises(DeploymentError, match="has no certificate of this authority"):
        ask_gate(other)
    none = replace(link, credentials=link.credentials._replace(authority=link.secret))
    with pytest.raises(DeploymentError, match="cannot be used"):
        ask_gate(none)


def serverapps() -> list[psutil.Process]:
    family = psutil.Process().children(recursive=True)
    alive = [child for child in family if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "serverapp_program" in " ".join(child.cmdline())]


def command_lines(processes: list[psutil.Process]) -> str:
    """As `ps` shows them; not the whole machine's, where other tests run SuperNodes meanwhile."""
    pids = [f"-p{process.pid}" for process in processes]
    return subprocess.run(["ps", "ww", "-o", "args", *pids], capture_output=True, text=True).stdout


def wait_for(ready: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def test_a_run_is_started_and_its_token_is_nobodys_to_read(link: SuperLink, tmp_path: Path) -> None:
    """And a ServerApp that is killed is told to the SuperLink at once, not after a minute."""
    bundle = build(stage(tmp_path))
    with Supervisor() as supervisor:
        supervisor.start(link.superexec(link.folder / "logs" / "superexec.log"))
        run = start_flower_run(link, bundle, {"settings": str(tmp_path / "none.toml")})
        (process,) = wait_for(serverapps, 20)
        family = psutil.Process().children(recursive=True)
        seen = as_nobody(lambda: command_lines(family))
        assert "serverapp_program" in seen
        assert "--token" not in seen
        assert key_of(link) not in seen
        assert key_of(link) not in " ".join(process.environ().values())
        with pytest.raises(PermissionError):
            as_nobody(lambda: Path(f"/proc/{process.pid}/environ").read_bytes())
        process.kill()
        state = wait_for(lambda: ended(link, run), 5)
        assert (state.sub_status, state.details) == (
            "failed",
            "The ServerApp ended with status -9.",
        )
        assert stop_flower_run(link, run) is False
        running = replace(state, status="running")  # as it was a moment before
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(control, "flower_run_state", lambda link, run: running)
            assert stop_flower_run(link, run) is False


def ended(link: SuperLink, run: int) -> Any:
    state = flower_run_state(link, run)
    return state if state is not None and state.ended else None


def test_an_unknown_run_is_none(link: SuperLink) -> None:
    assert flower_run_state(link, 5) is None
    assert os.geteuid() == 0


def test_much_is_read_only_from_an_admitted_node(link: SuperLink, tmp_path: Path) -> None:
    """A stranger, and a stranger with a key, are answered before their body is read."""
    body = b"\0" * (SMALL_BODY + 1)
    path = "/v1/fleet/push-object"
    length = {"Content-Length": str(len(body))}
    assert "admitted node" in ask(link.port, path, length).text
    private, public = generate_key_pairs()
    assert "admitted node" in ask(link.port, path, {**length, **signed(private, public)}).text
    (tmp_path / "north.pub").write_bytes(
        public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    )
    register_node(link, tmp_path / "north.pub")
    answer = ask(link.port, path, signed(private, public), body=body)
    assert "Invalid protobuf payload" in answer.text or answer.status == 400
    stale = {**signed(private, public), TIMESTAMP_HEADER: "2020-01-01T00:00:00+00:00"}
    assert "admitted node" in ask(link.port, path, {**length, **stale}).text


@pytest.mark.slow
def test_an_admitted_node_that_asks_all_the_time_is_let_in_so_often(
    link: SuperLink, tmp_path: Path
) -> None:
    """Thousands of signed requests in one go, and meanwhile those of another node."""

    def looks(name: str) -> tuple[bytes, dict[str, str]]:
        private, public = generate_key_pairs()
        file = tmp_path / f"{name}.pub"
        file.write_bytes(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        node = Node(node_id=register_node(link, file))
        return PullMessagesRequest(node=node).SerializeToString(), signed(private, public)

    (body, headers), (others, other) = looks("hostile"), looks("honest")
    length = {"Host": "localhost", "Content-Length": str(len(body))}
    given = {**length, "Content-Type": "application/protobuf", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    request = f"POST {PLAIN} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began, said = time.monotonic(), b""
    plain = socket.create_connection(("127.0.0.1", link.port), timeout=60)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        while b" 429 " not in said and said.count(b"HTTP/1.1 200") < 4 * BURST:
            connection.sendall(request * 20)
            answered = said.count(b"HTTP/1.1")
            while b" 429 " not in said and said.count(b"HTTP/1.1") < answered + 20:
                said += connection.recv(65536)
        assert ask(link.port, PLAIN, other, body=others).status == 200
    let_in = said.count(b"HTTP/1.1 200")
    assert b" 429 " in said
    assert BURST <= let_in <= BURST + REQUESTS_A_SECOND * (time.monotonic() - began) + 1


def test_endless_headers_and_idle_connections_are_closed(link: SuperLink) -> None:
    endless = b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000
    assert send(link.port, endless).status in (0, 400)
    assert FIRST_SECONDS < IDLE_SECONDS < 120
    begin = time.monotonic()
    half = b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\n"
    assert send(link.port, half, patience=FIRST_SECONDS + 10).status == 0
    assert FIRST_SECONDS - 1 < time.monotonic() - begin < FIRST_SECONDS + 8


@pytest.mark.slow
def test_both_families_are_served_where_the_operator_says_so(tmp_path: Path) -> None:
    """host = "::": hospitals come over IPv6 and IPv4, and the operator over 127.0.0.1 as before."""
    with running_superlink(tmp_path, host="::") as (link, _):
        assert link.address == f"127.0.0.1:{link.port}"
        assert flower_runs(link) == []
        for host in ("127.0.0.1", "::1"):
            plain = socket.create_connection((host, link.port), timeout=10)
            context = ssl.create_default_context(cafile=str(link.credentials.authority))
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 401"), host
