import logging
import os
import queue
import shutil
import socket as sockets
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client import forwarder
from client.agent import service
from client.agent.gateways import TOLD_AGAIN_SECONDS, TWO_GATEWAYS, GatewayTurns
from client.agent.progress import ProgressEvent, ProgressSource
from client.agent.service import MAX_CALLS, MAX_PATH_BYTES, MAX_WATCHERS, SERVICE, serve
from client.forwarded import PROCESS_KEY
from client.forwarder import forward as forwarded
from privacy.errors import ConfigError, DeploymentError
from privacy.wire.agent_pb2 import Chunk, ProgressRequest
from privacy.wire.agent_pb2_grpc import AgentStub
from privacy.wire.bodies import Refusal, Running
from privacy.wire.chunks import CHUNK_BYTES, gather, split, target
from privacy.wire.envelope import Envelope, open_envelope, seal, size_limit
from privacy.wire.reasons import Reason

SMALL = size_limit(0)
REQUEST = seal(Envelope(7, 2, 1, Running()))


def forward(request: bytes, socket: str, **options: float) -> bytes:
    """What the forwarder brings back."""
    return forwarded(request, socket, **options).answer


@pytest.fixture
def folder():
    """A short folder: pytest's own are too deep for a socket on some machines."""
    path = Path(tempfile.mkdtemp(prefix="cfl"))
    yield path
    shutil.rmtree(path)


@contextmanager
def serving(handler, path, *, limit=SMALL, progress=None, **options):
    server = serve(handler, progress or ProgressSource(), path, limit=limit, **options)
    try:
        yield server
    finally:
        server.stop(grace=0)


def refusal(data: bytes) -> Refusal:
    body = open_envelope(data, limit=SMALL).body
    assert isinstance(body, Refusal)
    return body


class Recorder:
    """A handler that remembers what it was asked and echoes it."""

    def __init__(self):
        self.requests = []

    def __call__(self, data: bytes) -> bytes:
        self.requests.append(data)
        return data


@pytest.mark.parametrize(
    "length", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
)
def test_bytes_cross_unchanged(folder, length):
    data = os.urandom(length)
    handler = Recorder()
    with serving(handler, folder / "s", limit=length):
        assert forward(data, str(folder / "s")) == data
    assert handler.requests == [data]


def test_50_million_parameters_cross_in_chunks(folder):
    limit = size_limit(50_000_000)
    data = bytes(limit - 1) + b"\1"
    assert all(len(chunk.data) <= CHUNK_BYTES for chunk in split(data))
    with serving(Recorder(), folder / "s", limit=limit):
        assert forward(data, str(folder / "s"), deadline=60) == data


def test_a_message_over_the_limit_never_reaches_the_handler(folder):
    handler = Recorder()
    with serving(handler, folder / "s", limit=1000):
        assert refusal(forward(os.urandom(1001), str(folder / "s"))).reason is Reason.TOO_LARGE
        assert forward(REQUEST, str(folder / "s")) == REQUEST
    assert handler.requests == [REQUEST]


def test_no_more_than_the_limit_is_taken():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Chunk(data=bytes(CHUNK_BYTES))

    assert gather(endless(), 2 * CHUNK_BYTES) is None
    assert taken == 3


SERVER = """
import resource, sys
from pathlib import Path
from client.agent.progress import ProgressSource
from client.agent.service import serve

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

calls = []
server = serve(lambda data: calls.append(data) or data, ProgressSource(), Path(sys.argv[1]),
               limit=1 << 20)
print(peak(), flush=True)
sys.stdin.readline()
server.stop(0)
print(peak(), len(calls))
"""


def test_100_mb_of_random_bytes_take_no_memory(folder):
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder / "s")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        before = int(process.stdout.readline())  # MiB
        reason = refusal(forward(os.urandom(100_000_000), str(folder / "s"))).reason
        out, _ = process.communicate("\n", timeout=30)
    after, calls = map(int, out.split())
    assert reason is Reason.TOO_LARGE
    assert calls == 0
    assert after - before < 40


def test_a_chunk_of_more_than_1_mib_is_refused(folder):
    handler = Recorder()
    with (
        serving(handler, folder / "s", limit=10 * CHUNK_BYTES),
        grpc.insecure_channel(target(folder / "s")) as channel,
    ):
        chunks = iter([Chunk(data=bytes(2 * CHUNK_BYTES))])
        with pytest.raises(grpc.RpcError) as refused:
            list(AgentStub(channel).Exchange(chunks, timeout=5))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert all(request == b"" for request in handler.requests)  # gRPC ends some such streams


def test_what_is_no_grpc_at_all_does_no_harm(folder):
    with serving(Recorder(), folder / "s"):
        with sockets.socket(sockets.AF_UNIX) as raw:
            raw.connect(str(folder / "s"))
            raw.sendall(os.urandom(100_000))
        assert forward(REQUEST, str(folder / "s")) == REQUEST


def test_an_exception_of_the_handler_never_crosses(folder, caplog):
    def handler(data):
        raise RuntimeError("patient 4711 of tile-12.png")

    with caplog.at_level(logging.DEBUG), serving(handler, folder / "s"):
        answer = forward(REQUEST, str(folder / "s"))
    assert open_envelope(answer, limit=SMALL) == Envelope(7, 2, 1, Refusal(Reason.INTERNAL))
    assert b"4711" not in answer
    assert "RuntimeError" in caplog.text
    assert "4711" not in caplog.text


def test_only_the_owner_may_connect(folder):
    with serving(Recorder(), folder / "deep" / "s"):
        assert stat.S_IMODE((folder / "deep" / "s").stat().st_mode) == 0o600
        assert stat.S_IMODE((folder / "deep").stat().st_mode) == 0o700


def test_a_site_may_let_a_group_connect(folder):
    with serving(Recorder(), folder / "s", mode=0o660):
        assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o660


def test_the_umask_is_as_before(folder):
    before = os.umask(0o022)
    try:
        with serving(Recorder(), folder / "s"):
            assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_a_path_may_hold_any_characters(folder):
    path = folder / "a b%20é#?" / "s"
    with serving(Recorder(), path):
        assert path.is_socket()
        assert forward(REQUEST, str(path)) == REQUEST


def test_a_long_path_is_refused_with_the_fix(folder):
    path = folder / ("x" * MAX_PATH_BYTES)
    with pytest.raises(ConfigError, match=r"at most 100 .* site\.toml"):
        serve(Recorder(), ProgressSource(), path, limit=SMALL)
    assert list(folder.iterdir()) == []


def test_the_longest_path_binds(folder):
    path = folder / ("x" * (MAX_PATH_BYTES - len(str(folder)) - 1))
    with serving(Recorder(), path):
        assert forward(REQUEST, str(path)) == REQUEST


def test_the_socket_of_a_running_agent_is_not_taken_over(folder):
    with serving(Recorder(), folder / "s"):
        with pytest.raises(DeploymentError, match="Another agent"):
            serve(Recorder(), ProgressSource(), folder / "s", limit=SMALL)
        assert forward(REQUEST, str(folder / "s")) == REQUEST


def test_the_socket_of_a_killed_agent_is_replaced(folder):
    with sockets.socket(sockets.AF_UNIX) as left_behind:
        left_behind.bind(str(folder / "s"))
    with serving(Recorder(), folder / "s"):
        assert forward(REQUEST, str(folder / "s")) == REQUEST


def test_a_file_is_never_deleted(folder):
    (folder / "s").write_text("mine")
    with pytest.raises(DeploymentError, match="not a socket"):
        serve(Recorder(), ProgressSource(), folder / "s", limit=SMALL)
    assert (folder / "s").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(folder):
    (folder / "file").write_text("")
    with pytest.raises(DeploymentError, match="cannot listen"):
        serve(Recorder(), ProgressSource(), folder / "file" / "s", limit=SMALL)


def test_stop_removes_the_socket(folder):
    serve(Recorder(), ProgressSource(), folder / "s", limit=SMALL).stop(grace=0)
    assert not (folder / "s").exists()


@pytest.mark.parametrize("name", ["", SERVICE])
def test_health_tells_when_the_agent_is_ready(folder, name):
    states = health_pb2.HealthCheckResponse
    request = health_pb2.HealthCheckRequest(service=name)
    with (
        serving(Recorder(), folder / "s") as server,
        grpc.insecure_channel(target(folder / "s")) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(request, timeout=5).status == states.NOT_SERVING
        server.set_ready(True)
        assert stub.Check(request, timeout=5).status == states.SERVING
        server.set_ready(False)
        assert stub.Check(request, timeout=5).status == states.NOT_SERVING


def test_encoding_is_told_in_quarters(folder):
    progress = ProgressSource()
    progress.publish(ProgressEvent(0, 0, 0, "encoding", 0, 8))
    with (
        serving(Recorder(), folder / "s", progress=progress),
        grpc.insecure_channel(target(folder / "s")) as channel,
    ):
        events = AgentStub(channel).Progress(ProgressRequest(), timeout=10)
        seen = [next(events)]
        for done in (1, 2):  # one tile is no quarter: it is not told
            progress.publish(ProgressEvent(0, 0, 0, "encoding", done, 8))
        seen.append(next(events))
        progress.publish(ProgressEvent(0, 0, 0, "encoding", 8, 8))
        seen.append(next(events))
    assert [(event.done, event.total) for event in seen] == [(0, 4), (1, 4), (4, 4)]


def test_of_an_attempt_only_beginning_and_answer_are_told(folder):
    """When steps end, when training ends and how: all of that tells of the draw."""
    progress = ProgressSource()
    progress.publish(ProgressEvent(7, 2, 1, "training", 0, 1))
    with (
        serving(Recorder(), folder / "s", progress=progress),
        grpc.insecure_channel(target(folder / "s")) as channel,
    ):
        events = AgentStub(channel).Progress(ProgressRequest(), timeout=10)
        seen = [next(events)]
        news: queue.Queue[ProgressEvent] = queue.Queue()
        threading.Thread(target=lambda: news.put(next(events)), daemon=True).start()
        for phase in ("training", "trained", "failed", "cancelled", "anything else"):
            progress.publish(ProgressEvent(7, 2, 1, phase, 1, 1))
            with pytest.raises(queue.Empty):
                news.get(timeout=0.1)
        progress.publish(ProgressEvent(7, 2, 1, "answered", 0, 0))
        seen.append(news.get(timeout=10))
    assert [(event.phase, event.done, event.total) for event in seen] == [
        ("training", 0, 0),
        ("answered", 0, 0),
    ]
    assert {(event.run, event.round, event.attempt) for event in seen} == {(7, 2, 1)}


def test_a_watcher_that_hangs_up_frees_its_place(folder):
    with serving(Recorder(), folder / "s", progress=ProgressSource()):
        for _ in range(2 * MAX_CALLS):
            with grpc.insecure_channel(target(folder / "s")) as channel:
                AgentStub(channel).Progress(ProgressRequest()).cancel()
        assert forward(REQUEST, str(folder / "s")) == REQUEST


def test_a_second_gateway_is_refused_in_words_and_not_mistaken_for_a_large_message(
    folder, monkeypatch, caplog
):
    monkeypatch.setattr(service, "PLACE_SECONDS", 0.2)
    arrived, release = threading.Semaphore(0), threading.Event()

    def handler(data):
        arrived.release()
        release.wait(30)
        return data

    with (
        serving(handler, folder / "s"),
        grpc.insecure_channel(target(folder / "s")) as channel,
    ):
        first = AgentStub(channel).Exchange(split(REQUEST))
        assert arrived.acquire(timeout=10)
        assert refusal(forward(REQUEST, str(folder / "s"))).reason is Reason.AGENT_SILENT
        with pytest.raises(grpc.RpcError) as refused:
            list(AgentStub(channel).Exchange(split(REQUEST), timeout=10))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.value.details() == service.SECOND_GATEWAY
        assert "Another gateway is being served" in caplog.text
        assert not arrived.acquire(blocking=False)
        # A gateway in its place leaves the watchers theirs.
        progress = AgentStub(channel).Progress(ProgressRequest(), timeout=1)
        with pytest.raises(grpc.RpcError) as quiet:
            next(progress)
        assert quiet.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        release.set()
        assert list(first)


def test_a_gateway_that_comes_back_waits_for_the_place_of_the_one_before(folder):
    """Which is free as soon as that one is gone, or its message is answered."""
    release = threading.Event()
    with (
        serving(lambda data: release.wait(30) and data, folder / "s"),
        grpc.insecure_channel(target(folder / "s")) as channel,
    ):
        first = AgentStub(channel).Exchange(split(REQUEST))
        threading.Timer(0.3, release.set).start()
        assert forward(REQUEST, str(folder / "s")) == REQUEST
        assert list(first)
        hanging = AgentStub(channel).Exchange(iter(lambda: release.wait(30) and None, 0))
        hanging.cancel()
        assert forward(REQUEST, str(folder / "s")) == REQUEST


def test_stop_ends_the_progress_stream(folder):
    progress = ProgressSource()
    progress.publish(ProgressEvent(7, 1, 1, "encoding", 1, 2))
    server = serve(Recorder(), progress, folder / "s", limit=SMALL)
    with grpc.insecure_channel(target(folder / "s")) as channel:
        events = AgentStub(channel).Progress(ProgressRequest(), timeout=10)
        assert next(events).phase == "encoding"
        threading.Thread(target=server.stop).start()
        assert list(events) == []


def test_a_watcher_that_hung_up_before_it_was_served_frees_its_place():
    """gRPC then takes no callback: nothing would ever end the subscription."""

    class Gone:
        def add_callback(self, callback):
            return False

    agent = service._Agent(Recorder(), ProgressSource(), SMALL)
    thread = threading.Thread(target=lambda: list(agent.Progress(None, Gone())), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_watchers_leave_places_to_the_forwarder(folder):
    progress = ProgressSource()
    progress.publish(ProgressEvent(7, 2, 1, "training", 0, 8))
    with (
        serving(Recorder(), folder / "s", progress=progress),
        grpc.insecure_channel(target(folder / "s")) as channel,
    ):
        watchers = [AgentStub(channel).Progress(ProgressRequest()) for _ in range(MAX_WATCHERS)]
        assert all(next(watcher) for watcher in watchers)
        with pytest.raises(grpc.RpcError) as refused:
            next(AgentStub(channel).Progress(ProgressRequest(), timeout=10))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert forward(REQUEST, str(folder / "s")) == REQUEST
        watchers[0].cancel()


def test_an_exchange_that_never_ends_loses_its_place(folder, monkeypatch):
    monkeypatch.setattr(service, "EXCHANGE_SECONDS", 0.2)
    hang = threading.Event()

    def endless():
        yield Chunk(data=REQUEST)
        hang.wait(30)

    with (
        serving(Recorder(), folder / "s"),
        grpc.insecure_channel(target(folder / "s")) as channel,
    ):
        calls = [AgentStub(channel).Exchange(endless()) for _ in range(MAX_CALLS)]
        for call in calls:
            with pytest.raises(grpc.RpcError) as ended:
                list(call)
            assert ended.value.code() is grpc.StatusCode.CANCELLED
        assert forward(REQUEST, str(folder / "s")) == REQUEST
        hang.set()


def test_health_is_asked_not_watched(folder):
    """Watchers of the health service would pile up: no limit of calls counts them."""
    with serving(Recorder(), folder / "s"), grpc.insecure_channel(target(folder / "s")) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=10))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_limit_follows_the_adapter_once_it_is_known(folder):
    with serving(Recorder(), folder / "s", limit=1 << 20) as server:
        assert len(forward(bytes(2000), str(folder / "s"))) == 2000
        server.set_limit(1999)
        assert refusal(forward(bytes(2000), str(folder / "s"))).reason is Reason.TOO_LARGE


def test_two_gateways_that_take_turns_are_told_at_the_desk(folder, monkeypatch, caplog):
    """They never overlap, so each is served; with one node's key or two makes no difference."""

    def carry(name):
        monkeypatch.setattr(forwarder, "_NAME", ((PROCESS_KEY, name),))
        assert forward(REQUEST, str(folder / "s")) == REQUEST

    with serving(Recorder(), folder / "s"):
        for restarted in ("one", "one", "two", "two", "three"):
            carry(restarted)
        assert TWO_GATEWAYS not in caplog.text
        carry("two")
        assert caplog.text.count(TWO_GATEWAYS) == 1
        for name in ("three", "two", "three"):
            carry(name)
        assert caplog.text.count(TWO_GATEWAYS) == 1


def test_two_that_go_on_are_told_again_and_names_that_cannot_be_count_for_nothing(caplog):
    now = 0.0
    turns = GatewayTurns(lambda: now)
    for name in ("", "a", "", "a", "x" * 65, "a"):
        turns.heard(name)
    assert not caplog.records
    for _ in range(20):
        turns.heard("b")
        turns.heard("a")
    assert len(caplog.records) == 1
    now = TOLD_AGAIN_SECONDS
    turns.heard("b")
    assert len(caplog.records) == 2


def test_processes_that_each_carry_one_message_are_no_two_gateways(caplog):
    turns = GatewayTurns()
    for number in range(1000):  # a SuperNode's
        turns.heard(f"process {number}")
    assert not caplog.records
