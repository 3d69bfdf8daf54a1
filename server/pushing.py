"""Sending messages to a SuperLink, so that no node can spoil another's.

Flower's own `push_messages` raises an error for all messages of a push as soon as one part of one
of them is refused, and a node has several ways to bring that about: it confirms its message before
all of it has arrived, it sends a part that it can guess, or it registers a part that it has seen
before with other children. Here a message of which a part is refused is sent again by itself, and
only what is refused then has no id.

Of every message the parts go from the outermost to the innermost: the record, which is what a
gateway fetches, is there last. To a gateway that takes it so, the record goes alone
(`privacy.wire.carriage`).
"""

# Why: docs/adr/0031-gateway.md. Flower's own lines: HttpGrid.push_messages, 1.41 and 1.42.

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.runtime_pb2 import PushAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.superlink.grid.http_grid import HttpGrid

from privacy.wire.enclosed import enclose

_RECORD_DEPTHS: Final = (1, 3)  # the record alone, or in a message's contents
_AT_A_TIME: Final = 2  # parts: more would only wait for the SuperLink's one processor
# Messages: a gateway that is told of one asks for its record until that is there, which keeps the
# SuperLink from taking the records of a hundred others.
_ANNOUNCED: Final = 8
_ANNOUNCED_WITH_CONTENTS: Final = 25  # of a SuperLink that takes contents with announcements
# A SuperLink that fails at a message, or finds it too large; its other answers are about the run.
_REFUSALS: Final = frozenset(
    {httpx.codes.INTERNAL_SERVER_ERROR, httpx.codes.REQUEST_ENTITY_TOO_LARGE}
)


@dataclass(slots=True)
class Enclosing:
    """Whether the SuperLink takes contents with what announces them: None before it was tried."""

    taken: bool | None = None

    def of(self, parcels: Sequence[_Parcel]) -> dict[str, bytes]:
        """What is enclosed with `parcels`: all parts of the small ones."""
        small = [one for one in parcels if self.taken is not False and only_record(one.tree)]
        return {name: one.parts[name].deflate() for one in small for name in one.names()}

    def answered(self, enclosed: Mapping[str, bytes], wanted: Container[str]) -> None:
        """Note that the SuperLink still wants `wanted` after it got `enclosed`."""
        if enclosed and self.taken is None:
            self.taken = not any(name in wanted for name in enclosed)


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A message as it is announced, the tree of its parts, and at least those."""

    proto: ProtoMessage
    tree: ObjectTree
    parts: dict[str, InflatableObject]

    def names(self) -> Iterator[str]:
        """The parts' names."""
        return (part.object_id for part in iterate_object_tree(self.tree))


def push_all(
    grid: HttpGrid,
    messages: Sequence[Message],
    gateways: Container[int] = (),
    enclosing: Enclosing | None = None,
) -> list[str]:
    """The ids of `messages`, in order; "" for one that was refused. Raises httpx's errors.

    `gateways`: the nodes that take a record alone; `enclosing`: what was found out before.
    """
    enclosing = enclosing or Enclosing()
    with no_object_id_recompute():
        parcels = [
            _parcel(message, message.metadata.dst_node_id in gateways) for message in messages
        ]
        keys: list[str] = []
        while len(keys) < len(parcels):
            most = _ANNOUNCED_WITH_CONTENTS if enclosing.taken else _ANNOUNCED
            keys += _pushed(grid, parcels[len(keys) : len(keys) + most], enclosing)
        # Again even if there was only one: parts that somebody else has sent are there by now, and
        # Flower closes the session of one that never came, with which it would one day delete the
        # other messages of the same push.
        return [
            key or _pushed(grid, [parcel], enclosing)[0]
            for key, parcel in zip(keys, parcels, strict=True)
        ]


def _parcel(message: Message, alone: bool) -> _Parcel:
    tree, parts = get_object_tree(message), get_all_nested_objects(message)
    if alone and (record := only_record(tree)) is not None:
        tree = ObjectTree(object_id=record)
    message.metadata.__dict__["_message_id"] = tree.object_id
    return _Parcel(message_to_proto(remove_content_from_message(message)), tree, parts)


def only_record(tree: ObjectTree) -> str | None:
    """The id of the one object at the end of a message's chain, if it can be a record's."""
    depth = 1
    while len(tree.children) == 1:
        tree, depth = tree.children[0], depth + 1
    return tree.object_id if depth in _RECORD_DEPTHS and not tree.children else None


def _pushed(grid: HttpGrid, parcels: Sequence[_Parcel], enclosing: Enclosing) -> list[str]:
    announcement = PushAppMessagesRequest(
        messages_list=[parcel.proto for parcel in parcels],
        message_object_trees=[parcel.tree for parcel in parcels],
    )
    enclosed = enclosing.of(parcels)
    try:
        answer = grid._runtime_client.PushMessages(enclose(announcement, enclosed))
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in _REFUSALS:
            raise
        return [""] * len(parcels)
    wanted = set(answer.objects_to_push)
    enclosing.answered(enclosed, wanted)
    refused = _push_parts(grid, parcels, wanted, answer.session_id)
    return [
        "" if refused.intersection(parcel.names()) else key
        for key, parcel in zip(answer.message_ids, parcels, strict=True)
    ]


def _push_parts(
    grid: HttpGrid, parcels: Sequence[_Parcel], wanted: set[str], session: str
) -> set[str]:
    """Push the parts that are `wanted`; those that the SuperLink did not take."""
    parts: dict[str, InflatableObject] = {}
    for parcel in parcels:
        parts.update(parcel.parts)
    client, run = grid._runtime_client, grid.run.run_id

    def push(name: str, content: bytes) -> str | None:
        stored = client.PushObject(
            PushObjectRequest(
                node=grid.node,
                run_id=run,
                object_id=name,
                object_content=content,
                session_id=session,
            )
        ).stored
        return None if stored else name

    refused: set[str] = set()
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for level in _levels([parcel.tree for parcel in parcels]):
            names = [name for name in level if name in wanted]
            under_way = [pool.submit(push, name, parts[name].deflate()) for name in names]
            refused.update(name for one in under_way if (name := one.result()))
    return refused


def _levels(trees: Sequence[ObjectTree]) -> Iterator[dict[str, None]]:
    """The names in `trees`, each once, from the roots inwards."""
    while trees:
        yield dict.fromkeys(tree.object_id for tree in trees)
        trees = [child for tree in trees for child in tree.children]
