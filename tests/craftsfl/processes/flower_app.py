"""Flower's real SuperLink app in this process: a run that is under way, and nodes with keys.

Each request is as a gateway or a ServerApp sends it. Nothing listens on a port.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from base64 import b64encode
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.recorddict_pb2 import RecordDict
from flwr.proto.runtime_pb2 import PushAppMessagesRequest
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    NOOP_FEDERATION_ID,
    TASK_TOKEN_HEADER,
    TaskType,
)
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from craftsfl.processes.flower.direct import DirectCalls, direct_calls

Scope = MutableMapping[str, Any]


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    body: bytes
    kind: str


class FlowerApp:
    """`direct`: the app with direct calls before it; `plain`: the app alone. Two nodes."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("FLWR_TELEMETRY_ENABLED", "0")
        from flwr.superlink import main

        patch.setattr(main, "get_ee_linkstate_db", lambda: str(folder / "superlink.db"))
        self.plain = main.create_app()
        self.plain.state.enable_supernode_auth = True
        self.calls = direct_calls(self.plain)
        self.direct = DirectCalls(self.plain, self.calls)
        state = self.plain.state.linkstate_factory.state()
        self._keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(2)]
        public = [public_key_to_bytes(key.public_key()) for key in self._keys]
        self.nodes = [state.create_node("operator", "operator", key, 60) for key in public]
        for node in self.nodes:
            state.activate_node(node, 60)
        fab = ("a/b", "1", "h", {}, NOOP_FEDERATION_ID, None, "operator")
        self.run = state.create_run(*fab, TaskType.SERVER_APP)
        (info,) = state.get_run_info(run_ids=[self.run])
        token = state.claim_task(info.primary_task_id)
        state.activate_task(info.primary_task_id)
        self.token = {TASK_TOKEN_HEADER: str(token)}
        self.state = state

    def signed(self, number: int = 0) -> dict[str, str]:
        """Headers of a request of the node `number`."""
        key, stamp = self._keys[number], now().isoformat()
        return {
            FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public_key_to_bytes(key.public_key())).decode(),
            FLEET_HTTP_SIGNATURE_HEADER: b64encode(sign_message(key, stamp.encode())).decode(),
            TIMESTAMP_HEADER: stamp,
        }

    def ask(
        self, path: str, body: bytes, headers: Mapping[str, str], *, direct: bool = True
    ) -> Said:
        """One request."""
        return asyncio.run(self._ask(self.direct if direct else self.plain, path, body, headers))

    async def _ask(self, app: Any, path: str, body: bytes, headers: Mapping[str, str]) -> Said:
        sent: list[Scope] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Scope:
            if not waiting:
                await asyncio.sleep(3600)
            return waiting.pop()

        async def send(message: Scope) -> None:
            sent.append(message)

        given = {"host": "localhost:1", "content-type": "application/protobuf", **headers}
        pairs = [(name.lower().encode(), value.encode()) for name, value in given.items()]
        await app(
            {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": "POST",
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "root_path": "",
                "scheme": "https",
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 1),
                "headers": pairs,
                "state": {},
            },
            receive,
            send,
        )
        kinds = dict(sent[0]["headers"])
        content = b"".join(message.get("body", b"") for message in sent)
        return Said(sent[0]["status"], content, kinds.get(b"content-type", b"").decode())

    def to_node(self, record: str, number: int = 0) -> PushAppMessagesRequest:
        """A push of a message to a node."""
        return PushAppMessagesRequest(
            messages_list=[self._message(record, 1, self.nodes[number], "")],
            message_object_trees=[ObjectTree(object_id=record)],
        )

    def reply(self, record: str, to: str, number: int = 0) -> PushMessagesRequest:
        """A push of a node's reply."""
        return PushMessagesRequest(
            node=Node(node_id=self.nodes[number]),
            messages_list=[self._message(record, self.nodes[number], 1, to)],
            message_object_trees=[ObjectTree(object_id=record)],
        )

    def look(self, number: int = 0) -> PullMessagesRequest:
        """A node's look for messages."""
        return PullMessagesRequest(node=Node(node_id=self.nodes[number]))

    def heartbeat(self, number: int = 0) -> SendNodeHeartbeatRequest:
        """A node's sign of life."""
        node = Node(node_id=self.nodes[number])
        return SendNodeHeartbeatRequest(node=node, heartbeat_interval=60)

    def _message(self, record: str, source: int, to: int, replies_to: str) -> Message:
        metadata = Metadata(
            run_id=self.run,
            message_id=record,
            src_node_id=source,
            dst_node_id=to,
            reply_to_message_id=replies_to,
            group_id="1",
            ttl=800 if replies_to else 900,
            message_type="query.craftsfl",
            created_at=now().timestamp(),
        )
        return Message(metadata=metadata, content=RecordDict())


def small_record() -> tuple[str, bytes]:
    """A record's name and content."""
    content = ConfigRecord({"bytes": secrets.token_bytes(300)}).deflate()
    return hashlib.sha256(content).hexdigest(), content
