"""Flower's state of a SuperLink, of which the ordinary cases are answered in plain SQL.

For the handlers that `direct.py` calls. A method of this class does in the same tables what
Flower's of its name does, and says the same, where nothing is unusual. Where anything is (a message
that is expired, twice there, or of a run that has ended; a node that is away; a part that is not
what its name says; a database that is locked or full), nothing is changed, and Flower's own method
answers. So does it for every method that is not here, and for a Flower that is not known.

Guarantee, tested: what a conversation leaves in the tables, and what it is told, is the same either
way.
"""

# Why: docs/adr/0074-the-ordinary-message.md

from __future__ import annotations

import hashlib
import importlib
from datetime import datetime, timedelta
from logging import WARNING
from pathlib import Path
from typing import Any, Final, cast
from uuid import uuid4

from flwr.app import Message
from flwr.common.constant import HEARTBEAT_PATIENCE, Status
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.linkstate import LinkState
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore import log
from flwr.supercore.constant import OBJECT_PUSH_SESSION_TTL_SECONDS
from flwr.supercore.corestate.sql_corestate import task_from_row
from flwr.supercore.date import now
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from flwr.supercore.run import RunStatus
from flwr.supercore.utils import int64_to_uint64, uint64_to_int64
from flwr.superlink.federation.noop_federation_manager import NoOpFederationManager
from sqlalchemy import make_url

from craftsfl.processes.flower.plain_messages import (
    claim_replies,
    claim_waiting,
    store_instruction,
    store_reply,
)
from craftsfl.processes.flower.plain_objects import PlainObjects, fill_object, register_tree
from craftsfl.processes.flower.plain_sql import NotOrdinary, PlainSql, one_statement, reads, writes

# The code beside which this one stands, by the SHA-256 of its files; of flwr 1.41.0 and 1.42.0.
KNOWN_CODE: Final = {
    "flwr.server.superlink.linkstate.sql_linkstate": (
        "13ffbda489594bf716d2e3fb5755f88333f510fde16bfd62d30476870b5735c2",
        "4c8fc659b3170d10e2a8a6474842929aa66cc7aa202002001b5e76978b79dee5",
    ),
    "flwr.supercore.corestate.sql_corestate": (
        "14f5c7e10a150cd289fb825c966aeb4d27e325be75ccca8bca2cffd284d58560",
        "f13e3eed21ca7614cd2a13375fa778050d7c15aa758ecc303fddc2f21fea5215",
    ),
    "flwr.supercore.object_store.sql_object_store": (
        "7f8942a607e4e0bc4e30dd8e4e7de00a3046492b652d35f0179fa0f56a57e08a",
    ),
    "flwr.supercore.sql_mixin": (
        "871b74395cd7be08b7168e2a885aff230fb00b71d1bae34e37d2f4b74d710f66",
    ),
}
_NODE_OF: Final = "SELECT node_id FROM node WHERE public_key = ? AND status != 'unregistered'"
_ALIVE: Final = (
    "UPDATE node SET online_until = ?, heartbeat_interval = ?, last_activated_at = "
    "CASE WHEN status != 'online' THEN ? ELSE last_activated_at END, status = 'online' "
    "WHERE node_id = ? AND status != 'unregistered'"
)
_TASK: Final = (
    *("task_id", "type", "run_id", "fab_hash", "model_ref", "connector_ref", "connector_id"),
    *("pending_at", "starting_at", "running_at", "finished_at", "sub_status", "details"),
)
_TASK_OF: Final = (
    f"SELECT {', '.join(_TASK)} FROM task "
    "WHERE token = ? AND finished_at IS NULL AND active_until >= ?"
)
# Nothing for a run that does not run, and while some task's time is up: Flower ends that one first.
_RUNNING: Final = (
    "SELECT 1 FROM run JOIN task ON task.task_id = run.primary_task_id WHERE run.run_id = ? "
    "AND task.starting_at IS NOT NULL AND task.running_at IS NOT NULL "
    "AND task.finished_at IS NULL AND NOT EXISTS "
    "(SELECT 1 FROM task WHERE token IS NOT NULL AND active_until < ?)"
)
_TRAFFIC: Final = (
    "UPDATE run SET bytes_sent = bytes_sent + ?, bytes_recv = bytes_recv + ? WHERE run_id = ?"
)
_RUNTIME: Final = "UPDATE run SET clientapp_runtime = clientapp_runtime + ? WHERE run_id = ?"
_SESSION: Final = (
    "INSERT INTO object_push_sessions (session_id, run_id, expires_at, pending_count) "
    "VALUES (?, ?, ?, 0)"
)
_SESSION_OF: Final = "SELECT run_id FROM object_push_sessions WHERE session_id = ?"
_OTHER_OWNER: Final = "SELECT 1 FROM object_push_session_roots WHERE root_object_id = ?"
_OWN: Final = "INSERT INTO object_push_session_roots (session_id, root_object_id) VALUES (?, ?)"
_PENDING: Final = (
    "INSERT INTO object_push_session_pending (session_id, object_id) VALUES (?, ?) "
    "ON CONFLICT (session_id, object_id) DO NOTHING"
)
_COUNT_PENDING: Final = (
    "UPDATE object_push_sessions SET pending_count = (SELECT count(*) FROM "
    "object_push_session_pending WHERE session_id = ?1) WHERE session_id = ?1"
)
_CLAIM: Final = "DELETE FROM object_push_session_pending WHERE session_id = ? AND object_id = ?"
_OPEN: Final = (
    "SELECT pending_count FROM object_push_sessions "
    "WHERE session_id = ? AND run_id = ? AND expires_at > ?"
)
_ONE_LESS: Final = (
    "UPDATE object_push_sessions SET pending_count = pending_count - 1, expires_at = ? "
    "WHERE session_id = ?"
)
_CLOSE: Final = "DELETE FROM object_push_sessions WHERE session_id = ?"
_CONTENT: Final = "SELECT content FROM objects WHERE object_id = ?"
_FORGET: Final = (
    "DELETE FROM message_ins WHERE message_id = ?",
    "DELETE FROM message_res WHERE reply_to_message_id = ?",
)


class PlainState:
    """Flower's state; what is not a method of this class is Flower's. One caller at a time."""

    def __init__(self, flowers: SqlLinkState, sql: PlainSql) -> None:
        self.flowers, self.sql = flowers, sql
        self.object_store = PlainObjects(cast(SqlObjectStore, flowers.object_store), sql)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever Flower's has
        return getattr(self.flowers, name)

    @reads
    def get_node_id_by_public_key(self, public_key: bytes) -> int:
        """The node with a key."""
        return int64_to_uint64(self.sql.row(_NODE_OF, (public_key,))[0])

    @one_statement
    def acknowledge_node_heartbeat(self, node_id: int, heartbeat_interval: float) -> bool:
        """A node is there, and will be for some intervals, in seconds."""
        moment = now()
        until = moment.timestamp() + HEARTBEAT_PATIENCE * heartbeat_interval
        values = (until, heartbeat_interval, moment.isoformat(), uint64_to_int64(node_id))
        return self._one(_ALIVE, *values)

    @reads
    def get_task_by_token(self, token: str) -> Task:
        """The task that a ServerApp works on."""
        row = self.sql.row(_TASK_OF, (token, _text(now())))
        return task_from_row(dict(zip(_TASK, row, strict=True)))

    @reads
    def get_run_status(self, run_ids: set[int]) -> dict[int, RunStatus]:
        """That a run is running."""
        if len(run_ids) != 1:
            raise NotOrdinary
        (run,) = run_ids
        self.sql.row(_RUNNING, (uint64_to_int64(run), _text(now())))
        return {run: RunStatus(status=Status.RUNNING, sub_status="", details="")}

    @one_statement
    def store_traffic(self, run_id: int, *, bytes_sent: int, bytes_recv: int) -> None:
        """Count what has passed."""
        if min(bytes_sent, bytes_recv) < 0 or bytes_sent == bytes_recv == 0:
            raise NotOrdinary
        self._one(_TRAFFIC, bytes_sent, bytes_recv, uint64_to_int64(run_id))

    @one_statement
    def add_clientapp_runtime(self, run_id: int, runtime: float) -> None:
        """Count how long a hospital took, in seconds."""
        self._one(_RUNTIME, runtime, uint64_to_int64(run_id))

    @one_statement
    def start_session(self, run_id: int) -> str:
        """Begin to push objects of a run."""
        session = str(uuid4())
        self.sql.change(_SESSION, (session, uint64_to_int64(run_id), _expiry()))
        return session

    @writes
    def store_message_and_object_tree(
        self, message: Message, object_tree: ObjectTree, session_id: str
    ) -> tuple[bool, list[str]]:
        """Store a message, and say which of its objects are wanted."""
        store = store_reply if message.metadata.reply_to_message_id else store_instruction
        store(self.sql, self.flowers.federation_manager, message)
        (run,) = self.sql.row(_SESSION_OF, (session_id,))
        missing = register_tree(self.sql, run, object_tree)
        if self.sql.rows(_OTHER_OWNER, (object_tree.object_id,)):
            raise NotOrdinary
        self.sql.change(_OWN, (session_id, object_tree.object_id))
        for name in missing:
            self.sql.change(_PENDING, (session_id, name))
        self.sql.change(_COUNT_PENDING, (session_id,))
        return True, missing

    @writes
    def store_object(
        self, run_id: int, session_id: str, object_id: str, object_content: bytes
    ) -> bool:
        """Store an object that a session wants."""
        of_run = (session_id, uint64_to_int64(run_id), _text(now()))
        (pending,) = self.sql.row(_OPEN, of_run)
        self._one(_CLAIM, session_id, object_id)
        fill_object(self.sql, object_id, object_content)
        if pending == 1:
            self.sql.change(_CLOSE, (session_id,))
        else:
            self.sql.change(_ONE_LESS, (_expiry(), session_id))
        return True

    @reads
    def get_object(self, run_id: int, object_id: str) -> bytes:
        """An object's content."""
        (content,) = self.sql.row(_CONTENT, (object_id,))
        if not content:
            raise NotOrdinary
        return bytes(content)

    @writes
    def get_message_ins(
        self, node_id: int, limit: int | None, *, run_id: int | None = None
    ) -> list[Message]:
        """Messages for a node, handed out once."""
        if limit is not None and limit < 1:
            raise NotOrdinary
        run = None if run_id is None else uint64_to_int64(run_id)
        manager = self.flowers.federation_manager
        return claim_waiting(self.sql, manager, uint64_to_int64(node_id), limit, run)

    @writes
    def get_message_res(self, message_ids: set[str], run_id: int) -> list[Message]:
        """Replies to messages, handed out once."""
        manager = self.flowers.federation_manager
        return claim_replies(self.sql, manager, message_ids, uint64_to_int64(run_id))

    @writes
    def delete_messages(self, message_ins_ids: set[str]) -> None:
        """Forget messages and what was replied to them."""
        for name in message_ins_ids:
            for statement in _FORGET:
                self.sql.change(statement, (name,))

    def _one(self, statement: str, *values: object) -> bool:
        """Change exactly one row."""
        if self.sql.change(statement, values) != 1:
            raise NotOrdinary
        return True


def plain_state(state: LinkState) -> LinkState:
    """`state` with its ordinary cases in plain SQL, if it is Flower's own in a file; or `state`."""
    if type(state) is not SqlLinkState:
        return state
    if not is_known_code():
        log(
            WARNING,
            "This Flower keeps its state otherwise: each message takes its own, slower way.",
        )
        return state
    store, manager = state.object_store, state.federation_manager
    if type(store) is not SqlObjectStore or type(manager) is not NoOpFederationManager:
        return state
    path = make_url(state.database_url).database
    one_file = state.database_backend == "sqlite" and store.database_url == state.database_url
    if not one_file or not store.verify or path is None or not Path(path).is_file():
        return state
    return cast(LinkState, PlainState(state, PlainSql(path)))


def is_known_code() -> bool:
    """Whether the installed Flower keeps its state as those do that were read."""
    for name, known in KNOWN_CODE.items():
        path = importlib.import_module(name).__file__
        if path is None or hashlib.sha256(Path(path).read_bytes()).hexdigest() not in known:
            return False
    return True


def _expiry() -> str:
    return _text(now() + timedelta(seconds=OBJECT_PUSH_SESSION_TTL_SECONDS))


def _text(moment: datetime) -> str:
    """As Flower writes a moment into its tables."""
    return moment.isoformat(sep=" ")
