"""The SuperLink's objects: the ordinary cases of Flower's store in plain SQL, the rest its own.

The names of methods, and what they say and leave in the tables, are Flower's
(`flwr.supercore.object_store.sql_object_store`).
"""

# Why: docs/adr/0074-the-ordinary-message.md

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    UnexpectedObjectContentError,
    get_object_id,
    is_valid_sha256_hash,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from flwr.supercore.object_store.sql_object_store import SqlObjectStore

from craftsfl.processes.flower.plain_sql import NotOrdinary, PlainSql, reads, writes

_HELD: Final = "SELECT is_available FROM objects WHERE object_id = ?"
_CHILDREN: Final = "SELECT child_id FROM object_children WHERE parent_id = ?"
_NEW: Final = (
    "INSERT INTO objects (object_id, content, is_available, ref_count) VALUES (?, x'', 0, 0)"
)
_NEW_CHILD: Final = "INSERT INTO object_children (parent_id, child_id) VALUES (?, ?)"
_HELD_BY_ONE_MORE: Final = "UPDATE objects SET ref_count = ref_count + 1 WHERE object_id = ?"
_OF_RUN: Final = "INSERT INTO run_objects (run_id, object_id) VALUES (?, ?) ON CONFLICT DO NOTHING"
_FILL: Final = (
    "UPDATE objects SET content = ?, is_available = 1 WHERE object_id = ? AND is_available = 0"
)
_HELD_BY_NOBODY: Final = "SELECT 1 FROM objects WHERE object_id = ? AND ref_count = 0"
_DELETE: Final = "DELETE FROM objects WHERE object_id = ?"
_HELD_BY_ONE_LESS: Final = (
    "UPDATE objects SET ref_count = ref_count - 1 WHERE object_id = ? AND ref_count > 0"
)


class PlainObjects:
    """Flower's object store; what is not a method of this class is Flower's."""

    def __init__(self, flowers: SqlObjectStore, sql: PlainSql) -> None:
        self.flowers, self.sql = flowers, sql

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever Flower's has
        return getattr(self.flowers, name)

    @reads
    def get_object_tree(self, object_id: str) -> ObjectTree:
        """The tree of an object that is registered."""

        def tree(name: str) -> ObjectTree:
            self.sql.row(_HELD, (name,))
            below = [tree(child) for (child,) in self.sql.rows(_CHILDREN, (name,))]
            return ObjectTree(object_id=name, children=below)

        return tree(object_id)

    @writes
    def delete(self, object_id: str) -> None:
        """Forget an object that no other holds, and of its parts those that nothing else does."""
        forget_object(self.sql, object_id)


def forget_object(sql: PlainSql, object_id: str) -> None:
    """Delete it unless it is a part of another, then its parts; within a transaction."""
    if not sql.rows(_HELD_BY_NOBODY, (object_id,)):
        return
    children = [child for (child,) in sql.rows(_CHILDREN, (object_id,))]
    sql.change(_DELETE, (object_id,))
    for child in children:
        sql.change(_HELD_BY_ONE_LESS, (child,))
    for child in children:
        forget_object(sql, child)


def register_tree(sql: PlainSql, run_id: int, tree: ObjectTree) -> list[str]:
    """Register a tree's objects for a run; those of which the content is missing.

    `run_id` is signed, as in the tables. Within a transaction.
    """
    missing = []
    for node in iterate_object_tree(tree):
        name = node.object_id
        children = [child.object_id for child in node.children]
        if not is_valid_sha256_hash(name) or len(set(children)) < len(children):
            raise NotOrdinary
        held = sql.rows(_HELD, (name,))
        if held:
            _check_children(sql, name, children)
        else:
            _register(sql, name, children)
        if not held or held[0][0] == 0:
            missing.append(name)
        sql.change(_OF_RUN, (run_id, name))
    return missing


def _check_children(sql: PlainSql, name: str, children: Sequence[str]) -> None:
    if {child for (child,) in sql.rows(_CHILDREN, (name,))} != set(children):
        raise NotOrdinary


def _register(sql: PlainSql, name: str, children: Sequence[str]) -> None:
    sql.change(_NEW, (name,))
    for child in children:
        sql.change(_NEW_CHILD, (name, child))
        sql.change(_HELD_BY_ONE_MORE, (child,))


def fill_object(sql: PlainSql, object_id: str, content: bytes) -> None:
    """Store the content of a registered object, once; within a transaction."""
    if get_object_id(content) != object_id:
        raise NotOrdinary
    try:
        validate_object_content(content)
    except UnexpectedObjectContentError:
        raise NotOrdinary from None
    if not sql.change(_FILL, (content, object_id)):
        sql.row(_HELD, (object_id,))
