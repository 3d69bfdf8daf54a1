"""The ClientApp: a forwarder between Flower's messages and the site agent's Unix socket.

Flower starts a new process for every message and runs whatever code the coordinator's bundle
carries, so this process sees no data, no key and no model, and imports nothing heavy. It passes the
bytes of one envelope to the agent and the bytes of one envelope back. It always answers, after
`DEADLINE` seconds at the latest: if the agent does not, with a `Refusal` of its own.

The envelope travels as one raw `Array` in an `ArrayRecord`, because Flower cuts arrays, and only
arrays, into objects of 5 MB. Measured with 200 MB on two cores (Flower 1.41): deflating a
`ConfigRecord` with the bytes took 18 s and 1.2 GB of memory and resulted in one object of 200 MB,
which has to fit into one HTTP request, whatever a proxy on the way permits; the raw array took
0.7 s and 0.8 GB and resulted in 40 objects, each pushed and retried separately. A NumPy array would
cost more copies.
"""

# Why: docs/adr/0001-airlock.md

from __future__ import annotations

import logging
import os
from pathlib import Path

import grpc
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from privacy.errors import WireError
from privacy.wire.agent_pb2_grpc import AgentStub
from privacy.wire.chunks import split, target
from privacy.wire.envelope import ACTION, ARRAY, ARRAY_TYPE, RECORD, refuse
from privacy.wire.reasons import Reason, explain

DEADLINE = 15.0  # seconds for the whole exchange; the server expects an answer within 20
SOCKET_KEY = "agent-socket"  # in the SuperNode's --node-config
SOCKET_VARIABLE = "CRAFTSFL_AGENT_SOCKET"

app = ClientApp()
_log = logging.getLogger("craftsfl.forwarder")

_REASONS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.AGENT_SILENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.AGENT_SILENT,  # all its places are taken
    grpc.StatusCode.OUT_OF_RANGE: Reason.TOO_LARGE,  # what client/agent/service.py answers
}


@app.query(ACTION)
def query(message: Message, context: Context) -> Message:
    """Forward `Hello` and every exchange except the first."""
    return _answer(message, context)


@app.train(ACTION)
def train(message: Message, context: Context) -> Message:
    """Forward `TrainMasked`; the agent answers at once and trains in the background."""
    return _answer(message, context)


def pack(envelope: bytes) -> RecordDict:
    """The Flower content that carries `envelope`."""
    array = Array("uint8", (len(envelope),), ARRAY_TYPE, envelope)
    return RecordDict({RECORD: ArrayRecord({ARRAY: array})})


def unpack(content: RecordDict) -> bytes:
    """The envelope in `content`; raises `WireError` unless there is exactly one."""
    record = content.get(RECORD)
    if len(content) != 1 or not isinstance(record, ArrayRecord) or list(record) != [ARRAY]:
        raise WireError("A Flower message carries no envelope.", "Check the server's version.")
    array = record[ARRAY]
    if array.stype != ARRAY_TYPE:
        raise WireError("A Flower message has another encoding.", "Check the server's version.")
    return array.data


def forward(request: bytes, socket: str, *, deadline: float = DEADLINE) -> bytes:
    """The agent's answer to `request`, or a sealed `Refusal`, within `deadline` seconds.

    `socket` is the path of the agent's Unix socket.
    """
    try:
        return _exchange(request, socket, deadline)
    except grpc.RpcError as error:
        reason = _REASONS.get(error.code(), Reason.AGENT_UNREACHABLE)
    _log.warning("The site agent gave no answer: %s", explain(reason))
    return refuse(request, reason)


def _answer(message: Message, context: Context) -> Message:
    try:
        request = unpack(message.content)
    except WireError as error:
        _log.warning("%s", error)
        reply = refuse(b"", Reason.MALFORMED)
    else:
        reply = forward(request, _socket(context))
    return Message(pack(reply), reply_to=message)


def _socket(context: Context) -> str:
    """The agent's socket: from the node configuration, else the environment, else none ("")."""
    configured = context.node_config.get(SOCKET_KEY) or os.environ.get(SOCKET_VARIABLE, "")
    return str(configured)


def _exchange(request: bytes, socket: str, deadline: float) -> bytes:
    # A proxy named in the environment is for reaching the server, never for this socket.
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target(Path(socket)), options=options) as channel:
        replies = AgentStub(channel).Exchange(split(request), timeout=deadline)
        return b"".join(chunk.data for chunk in replies)
