"""One envelope to the site agent's Unix socket, one envelope back, within a deadline.

The resident gateway and Flower's ClientApp both forward with this. It sees no data, no key and no
model, imports nothing heavy, and always answers: if the agent does not, with a `Refusal`.
"""

from __future__ import annotations

import errno
import secrets
import socket as sockets
from pathlib import Path

import grpc

from client.forwarded import DEADLINE, PROCESS_KEY, AtTheSocket, Forwarded
from privacy.wire.agent_pb2_grpc import AgentStub
from privacy.wire.chunks import split, target
from privacy.wire.envelope import refuse
from privacy.wire.reasons import Reason

_KNOCK_SECONDS = 2.0
_NAME = ((PROCESS_KEY, secrets.token_hex(8)),)  # so that an agent notices two gateways

_REASONS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.AGENT_SILENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.AGENT_SILENT,  # all its places are taken
    grpc.StatusCode.OUT_OF_RANGE: Reason.TOO_LARGE,  # what client/agent/service.py answers
}


def forward(request: bytes, socket: str, *, deadline: float = DEADLINE) -> Forwarded:
    """The agent's answer to `request`, or a sealed `Refusal`, within `deadline` seconds.

    `socket` is the path of the agent's Unix socket.
    """
    try:
        return Forwarded(_exchange(request, socket, deadline))
    except grpc.RpcError as error:
        reason = _REASONS.get(error.code(), Reason.AGENT_UNREACHABLE)
    return Forwarded(refuse(request, reason), reason)


def knock(socket: str) -> AtTheSocket:
    """Whether somebody listens on the Unix socket at the path `socket`; says nothing to them."""
    with sockets.socket(sockets.AF_UNIX) as visitor:
        visitor.settimeout(_KNOCK_SECONDS)
        try:
            visitor.connect(socket)
        except FileNotFoundError:
            return AtTheSocket.NO_FILE
        except PermissionError:
            return AtTheSocket.NO_PERMISSION
        except ConnectionRefusedError:
            return AtTheSocket.NO_LISTENER
        except OSError as error:
            full = error.errno == errno.EAGAIN  # it listens, and its queue is full for a moment
            return AtTheSocket.LISTENING if full else AtTheSocket.UNUSABLE
    return AtTheSocket.LISTENING


def _exchange(request: bytes, socket: str, deadline: float) -> bytes:
    # A proxy named in the environment is for reaching the server, never for this socket.
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target(Path(socket)), options=options) as channel:
        replies = AgentStub(channel).Exchange(split(request), timeout=deadline, metadata=_NAME)
        return b"".join(chunk.data for chunk in replies)
