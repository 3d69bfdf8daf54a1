"""The ClientApp, for hospitals that run Flower's SuperNode in place of the gateway.

Flower starts a new process for every message and runs whatever code the coordinator's bundle
carries, so this process sees no data, no key and no model, and imports nothing heavy. It passes the
bytes of one envelope to the agent's socket and the bytes of one envelope back.
"""

# Why: docs/adr/0001-airlock.md; the gateway: docs/adr/0031-gateway.md

from __future__ import annotations

import logging
import os

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.forwarder import forward
from client.packing import pack, unpack
from privacy.errors import WireError
from privacy.wire.carriage import ACTION
from privacy.wire.envelope import refuse
from privacy.wire.reasons import Reason, explain

SOCKET_KEY = "agent-socket"  # in the SuperNode's --node-config
SOCKET_VARIABLE = "CRAFTSFL_AGENT_SOCKET"

app = ClientApp()
_log = logging.getLogger("craftsfl.forwarder")


@app.query(ACTION)
def query(message: Message, context: Context) -> Message:
    """Forward `Hello` and every exchange except the first."""
    return _answer(message, context)


@app.train(ACTION)
def train(message: Message, context: Context) -> Message:
    """Forward `TrainMasked`; the agent answers at once and trains in the background."""
    return _answer(message, context)


def _answer(message: Message, context: Context) -> Message:
    try:
        request = unpack(message.content)
    except WireError as error:
        _log.warning("%s", error)
        reply = refuse(b"", Reason.MALFORMED)
    else:
        found = forward(request, _socket(context))
        if found.silent is not None:
            _log.warning("The site agent gave no answer: %s", explain(found.silent))
        reply = found.answer
    return Message(pack(reply), reply_to=message)


def _socket(context: Context) -> str:
    """The agent's socket: from the node configuration, else the environment, else none ("")."""
    configured = context.node_config.get(SOCKET_KEY) or os.environ.get(SOCKET_VARIABLE, "")
    return str(configured)
