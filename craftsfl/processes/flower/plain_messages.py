"""Messages in the SuperLink's tables: what is stored, claimed and answered in the ordinary case.

Functions within a transaction. Where a message is not valid, or anything beside it is not as it
should be, they raise `NotOrdinary` before they change anything.
"""

# Why: docs/adr/0074-the-ordinary-message.md

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from flwr.app import Message
from flwr.common.constant import MESSAGE_TTL_TOLERANCE, SUPERLINK_NODE_ID
from flwr.server.superlink.linkstate.utils import (
    convert_sint64_values_in_dict_to_uint64,
    convert_uint64_values_in_dict_to_sint64,
    dict_to_message,
    message_to_dict,
)
from flwr.server.utils.validator import validate_message
from flwr.supercore.date import now
from flwr.supercore.utils import int64_to_uint64
from flwr.superlink.federation import FederationManager

from craftsfl.processes.flower.plain_sql import NotOrdinary, PlainSql, SqlRow

_COLUMNS: Final = (
    *("message_id", "group_id", "run_id", "src_node_id", "dst_node_id", "reply_to_message_id"),
    *("created_at", "delivered_at", "ttl", "message_type", "content", "error"),
)
_IDS: Final = ("run_id", "src_node_id", "dst_node_id")  # unsigned in messages, signed in tables
_NAMES: Final = ", ".join(_COLUMNS)
_PLACES: Final = ", ".join("?" * len(_COLUMNS))
_FEDERATION: Final = (
    "SELECT federation_id FROM run WHERE run_id = ? AND EXISTS (SELECT 1 FROM task "
    "WHERE task.task_id = run.primary_task_id AND task.finished_at IS NULL)"
)
_NODE: Final = "SELECT 1 FROM node WHERE node_id = ? AND status IN ('online', 'offline')"
_STORE: Final = f"INSERT INTO message_ins ({_NAMES}) VALUES ({_PLACES})"
_STORE_REPLY: Final = f"INSERT INTO message_res ({_NAMES}) VALUES ({_PLACES})"
_ASKED: Final = (
    "SELECT m.message_id, m.run_id, m.src_node_id, m.dst_node_id, m.created_at, m.ttl, "
    "run.federation_id, node.online_until FROM json_each(?) AS asked "
    "JOIN message_ins AS m ON m.message_id = asked.value "
    "LEFT JOIN run ON run.run_id = m.run_id "
    "LEFT JOIN node ON node.node_id = m.dst_node_id AND node.status != 'unregistered'"
)
_REPLIES: Final = (
    f"SELECT {_NAMES} FROM message_res WHERE delivered_at = '' "
    "AND reply_to_message_id IN (SELECT value FROM json_each(?))"
)
_GIVE_REPLIES: Final = (
    "UPDATE message_res SET delivered_at = ? WHERE message_id IN (SELECT value FROM json_each(?))"
)
_WAITING: Final = (
    f"SELECT {_NAMES} FROM message_ins WHERE dst_node_id = ?1 AND delivered_at = '' "
    "AND created_at + ttl > ?2 AND (?3 IS NULL OR run_id = ?3) "
    "ORDER BY created_at, message_id LIMIT ?4"
)
_GIVE: Final = (
    "UPDATE message_ins SET delivered_at = ? WHERE message_id IN (SELECT value FROM json_each(?))"
)


def store_instruction(sql: PlainSql, manager: FederationManager, message: Message) -> None:
    """Store a message of a run that goes on for a node that is admitted."""
    if any(validate_message(message, is_reply_message=False)):
        raise NotOrdinary
    metadata, values = message.metadata, _values(message)
    if metadata.src_node_id != SUPERLINK_NODE_ID or metadata.dst_node_id == SUPERLINK_NODE_ID:
        raise NotOrdinary
    (federation,) = sql.row(_FEDERATION, (values["run_id"],))
    sql.row(_NODE, (values["dst_node_id"],))
    if not manager.has_node(metadata.dst_node_id, federation):
        raise NotOrdinary
    sql.change(_STORE, (values[name] for name in _COLUMNS))


def store_reply(sql: PlainSql, manager: FederationManager, message: Message) -> None:
    """Store the first reply to a message that is still valid, from the node that it was for."""
    if any(validate_message(message, is_reply_message=True)):
        raise NotOrdinary
    metadata, values = message.metadata, _values(message)
    sql.row(_FEDERATION, (values["run_id"],))
    (asked,) = asked_messages(sql, [metadata.reply_to_message_id])
    _check_valid(asked, values["run_id"], manager, now().timestamp())
    left = asked["created_at"] + asked["ttl"] - metadata.created_at
    if asked["dst_node_id"] != values["src_node_id"] or metadata.ttl - left > MESSAGE_TTL_TOLERANCE:
        raise NotOrdinary
    sql.change(_STORE_REPLY, (values[name] for name in _COLUMNS))


def claim_waiting(
    sql: PlainSql, manager: FederationManager, node: int, limit: int | None, run: int | None
) -> list[Message]:
    """Messages for a node that were not handed out yet, oldest first; ids signed."""
    moment = now()
    most = -1 if limit is None else limit
    rows = sql.rows(_WAITING, (node, moment.timestamp(), run, most))
    if not rows:
        return []
    names = [row[0] for row in rows]
    for asked in asked_messages(sql, names):
        _check_valid(asked, None, manager, moment.timestamp())
    sql.change(_GIVE, (moment.isoformat(), json.dumps(names)))
    return [_message(row, moment.isoformat()) for row in rows]


def claim_replies(
    sql: PlainSql, manager: FederationManager, names: Collection[str], run: int
) -> list[Message]:
    """Replies to messages of a run that are all valid, to nodes that are all online; id signed."""
    moment = now()
    for asked in asked_messages(sql, names):
        _check_valid(asked, run, manager, moment.timestamp())
        if asked["online_until"] is None or asked["online_until"] < moment.timestamp():
            raise NotOrdinary
    rows = sql.rows(_REPLIES, (json.dumps(list(names)),))
    replies = [_message(row, moment.isoformat()) for row in rows]
    for reply in replies:
        if reply.metadata.created_at + reply.metadata.ttl < moment.timestamp():
            raise NotOrdinary
    if rows:
        sql.change(_GIVE_REPLIES, (moment.isoformat(), json.dumps([row[0] for row in rows])))
    return replies


def asked_messages(sql: PlainSql, names: Collection[str]) -> list[Mapping[str, Any]]:
    """What has to be known of messages, in any order; ids signed."""
    columns = ("message_id", "run_id", "src_node_id", "dst_node_id", "created_at", "ttl")
    rows = sql.rows(_ASKED, (json.dumps(list(names)),))
    if len(rows) != len(names):
        raise NotOrdinary
    return [dict(zip((*columns, "federation", "online_until"), row, strict=True)) for row in rows]


def _check_valid(
    asked: Mapping[str, Any], run: int | None, manager: FederationManager, moment: float
) -> None:
    """As Flower's `_check_stored_messages`: of this run, not too old, both ends in the study."""
    if run is not None and asked["run_id"] != run:
        raise NotOrdinary
    if asked["created_at"] + asked["ttl"] <= moment or not asked["federation"]:
        raise NotOrdinary
    ends = {int64_to_uint64(asked["src_node_id"]), int64_to_uint64(asked["dst_node_id"])}
    if len(ends) == 2 and len(manager.filter_nodes(ends, asked["federation"])) != 2:
        raise NotOrdinary


def _values(message: Message) -> dict[str, Any]:
    values = message_to_dict(message)
    convert_uint64_values_in_dict_to_sint64(values, list(_IDS))
    return values


def _message(row: SqlRow, delivered_at: str) -> Message:
    values: dict[str, Any] = dict(zip(_COLUMNS, row, strict=True))
    values["delivered_at"] = delivered_at
    convert_sint64_values_in_dict_to_uint64(values, list(_IDS))
    return dict_to_message(values)
