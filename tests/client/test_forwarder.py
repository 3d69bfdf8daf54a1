import os
import shutil
import socket as sockets
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.task_identity import TaskIdentity

from client.agent.progress import ProgressSource
from client.agent.service import serve
from client.app import SOCKET_KEY, SOCKET_VARIABLE, app
from client.forwarder import AtTheSocket, Forwarded, forward, knock
from client.packing import pack, unpack
from privacy.errors import WireError
from privacy.wire.bodies import Hello, Refusal, Running
from privacy.wire.carriage import ARRAY, ARRAY_TYPE, ONE_RECORD, RECORD
from privacy.wire.envelope import Envelope, open_envelope, seal, size_limit
from privacy.wire.reasons import Reason
from server import messages
from tests.users import SUPERNODE, attempt, needs_users

LIMIT = size_limit(0)
REQUEST = seal(Envelope(7, 2, 1, Hello(bytes(32))))
ANSWER = seal(Envelope(7, 2, 1, Running()))


@pytest.fixture
def folder():
    """A short folder: pytest's own are too deep for a socket on some machines."""
    path = Path(tempfile.mkdtemp(prefix="cfl"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def agent(folder):
    server = serve(lambda data: ANSWER, ProgressSource(), folder / "s", limit=LIMIT)
    yield str(folder / "s")
    server.stop(grace=0)


def message(content: RecordDict, message_type: str = "query.craftsfl") -> Message:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1
    return Message(content, dst_node_id=5, message_type=message_type)


def context(**node_config) -> Context:
    return Context(run_id=7, node_id=5, node_config=node_config, state=RecordDict(), run_config={})


def refused(data: bytes) -> Envelope:
    envelope = open_envelope(data, limit=LIMIT)
    assert isinstance(envelope.body, Refusal)
    return envelope


@pytest.mark.parametrize("message_type", ["query.craftsfl", "train.craftsfl"])
def test_flower_messages_reach_the_agent_and_come_back(agent, message_type):
    reply = app(message(pack(REQUEST), message_type), context(**{SOCKET_KEY: agent}))
    assert unpack(reply.content) == ANSWER
    assert reply.metadata.message_type == message_type


def test_the_environment_names_the_socket_too(agent, monkeypatch):
    monkeypatch.setenv(SOCKET_VARIABLE, agent)
    assert unpack(app(message(pack(REQUEST)), context()).content) == ANSWER


def test_the_node_configuration_goes_first(agent, monkeypatch):
    monkeypatch.setenv(SOCKET_VARIABLE, "/nowhere")
    reply = app(message(pack(REQUEST)), context(**{SOCKET_KEY: agent}))
    assert unpack(reply.content) == ANSWER


@pytest.mark.parametrize("config", [{}, {SOCKET_KEY: "/nowhere/s"}, {SOCKET_KEY: "x" * 300}])
def test_no_agent_is_a_refusal(config, monkeypatch):
    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    reply = app(message(pack(REQUEST)), context(**config))
    assert refused(unpack(reply.content)) == Envelope(7, 2, 1, Refusal(Reason.AGENT_UNREACHABLE))


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"other": ConfigRecord({"bytes": b"x"})}),
        RecordDict({RECORD: ConfigRecord({ARRAY: "text"})}),
        RecordDict({RECORD: ConfigRecord({ARRAY: REQUEST, "more": b"x"})}),
        RecordDict({RECORD: MetricRecord({ARRAY: 1})}),
        RecordDict({RECORD: ArrayRecord()}),
        RecordDict({RECORD: ArrayRecord({ARRAY: Array("uint8", (1,), "numpy.ndarray", b"x")})}),
        RecordDict({**pack(REQUEST), "more": ConfigRecord()}),
    ],
    ids=["empty", "other", "text", "more in it", "metric", "no array", "numpy", "more"],
)
def test_a_flower_message_without_an_envelope_is_refused(agent, content):
    reply = app(message(content), context(**{SOCKET_KEY: agent}))
    assert refused(unpack(reply.content)).body == Refusal(Reason.MALFORMED)


def test_a_silent_agent_is_a_refusal_within_the_deadline(folder):
    release = threading.Event()
    server = serve(
        lambda data: release.wait(30) and data, ProgressSource(), folder / "s", limit=LIMIT
    )
    try:
        answer = forward(REQUEST, str(folder / "s"), deadline=0.3)
    finally:
        release.set()
        server.stop(grace=1)
    assert refused(answer.answer) == Envelope(7, 2, 1, Refusal(Reason.AGENT_SILENT))
    assert answer.silent is Reason.AGENT_SILENT


def test_a_socket_that_never_speaks_is_a_refusal_within_the_deadline(folder):
    with sockets.socket(sockets.AF_UNIX) as mute:
        mute.bind(str(folder / "s"))
        mute.listen()
        answer = forward(REQUEST, str(folder / "s"), deadline=0.3)
    assert refused(answer.answer).body == Refusal(Reason.AGENT_SILENT)


def test_an_agent_that_hangs_up_is_a_refusal(folder):
    with sockets.socket(sockets.AF_UNIX) as rude:
        rude.bind(str(folder / "s"))
        rude.listen()
        threading.Thread(target=lambda: rude.accept()[0].close(), daemon=True).start()
        answer = forward(REQUEST, str(folder / "s"), deadline=2)
    assert refused(answer.answer).body.reason in (Reason.AGENT_UNREACHABLE, Reason.AGENT_SILENT)


def test_a_proxy_in_the_environment_is_not_asked(agent, monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert forward(REQUEST, agent) == Forwarded(ANSWER)


def test_random_bytes_go_through_as_they_are(folder):
    server = serve(lambda data: data, ProgressSource(), folder / "s", limit=LIMIT)
    data = os.urandom(1000)
    try:
        assert forward(data, str(folder / "s")).answer == data
    finally:
        server.stop(grace=0)


def test_unpack_reverses_pack_and_the_server_packs_alike():
    assert unpack(pack(REQUEST)) == REQUEST
    assert unpack(messages.pack_envelope(REQUEST)) == REQUEST
    assert messages.unpack_envelope(pack(REQUEST)) == REQUEST


def test_both_ends_take_either_packing():
    for size in (0, 1, ONE_RECORD, ONE_RECORD + 1):
        data = os.urandom(size)
        one = RecordDict({RECORD: ConfigRecord({ARRAY: data})})
        pieces = RecordDict(
            {RECORD: ArrayRecord({ARRAY: Array("uint8", (size,), ARRAY_TYPE, data)})}
        )
        for content in (one, pieces, pack(data), messages.pack_envelope(data)):
            assert unpack(content) == messages.unpack_envelope(content) == data


def test_a_small_envelope_is_three_objects_and_a_large_one_is_cut_up():
    small, large = message(pack(bytes(ONE_RECORD))), message(pack(bytes(ONE_RECORD + 1)))
    assert len(get_all_nested_objects(small)) == 3
    assert len(get_all_nested_objects(large)) == 5


def test_a_knock_says_why_nobody_can_be_reached(folder, agent):
    assert knock(agent) is AtTheSocket.LISTENING
    assert knock("/nowhere/s") is AtTheSocket.NO_FILE
    assert knock("x" * 300) is AtTheSocket.UNUSABLE
    with sockets.socket(sockets.AF_UNIX) as gone:
        gone.bind(str(folder / "gone"))
    assert knock(str(folder / "gone")) is AtTheSocket.NO_LISTENER
    (folder / "file").touch()
    assert knock(str(folder / "file")) is AtTheSocket.NO_LISTENER


@needs_users
def test_a_knock_at_a_socket_that_this_user_may_not_open(agent):
    assert attempt(SUPERNODE, lambda: knock(agent)) is AtTheSocket.NO_PERMISSION


def test_a_large_envelope_is_cut_into_objects():
    record = pack(bytes(12_000_000))[RECORD]
    array = record[ARRAY]
    assert array.stype == ARRAY_TYPE
    assert len(array.slice_array()) == 3


def test_unpack_refuses_other_content():
    with pytest.raises(WireError):
        unpack(RecordDict())


def test_the_forwarder_imports_nothing_heavy():
    code = (
        "import sys, client.app;"
        "print([m for m in ('torch', 'diffusers', 'pandas', 'client.agent') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
