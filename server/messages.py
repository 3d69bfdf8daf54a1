"""Envelopes over a Flower `Grid`: pushed immediately, replies pulled by the id of their request.

Flower's own `send_and_receive` polls every 3 s and waits for the slowest node; here the caller
decides when to poll. When a SuperNode is gone, the error reply comes from the SuperLink (node 1),
so a reply is attributed to the node of its request, never to its sender.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeAlias

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from privacy.errors import WireError
from privacy.wire.bodies import Body, Refusal
from privacy.wire.carriage import (
    ACTION,
    ARRAY,
    ARRAY_TYPE,
    ONE_RECORD,
    RECORD,
    SALT,
    SALT_BYTES,
    SALTED_ARRAY_TYPE,
    group_of,
)
from privacy.wire.envelope import Envelope, open_envelope, seal, size_limit
from privacy.wire.offer import TrainMasked

SMALL = size_limit(0)  # bytes: enough for every answer except an update
LIFETIME = 900.0  # seconds until Flower forgets a message that was not fetched

PUSH_BYTES, PUSH_MESSAGES = 1 << 20, 50  # of one push, unless a single message is larger

# How often gateways are asked to look for messages: each look that reaches Flower costs the
# SuperLink 2 to 7 ms of a core, so all of them together make at most this many a second.
LOOKS_A_SECOND = 60.0
FASTEST_LOOK, SLOWEST_LOOK = 0.1, 3.0  # seconds between two looks of one site

# Flower's ErrorCode (flwr.common.constant), in words for an operator. The text of an error reply
# is never used: it could hold anything.
NODE_UNAVAILABLE = 5
NOT_ACCEPTED = -1
NOT_UNDERSTOOD = -2
_CODES = {
    1: "its SuperNode could not load the ClientApp",
    2: "its ClientApp failed",
    3: "Flower lost the message",
    4: "Flower lost the reply",
    NODE_UNAVAILABLE: "its SuperNode is gone",
    7: "its SuperNode refused the app bundle",
    8: "its ClientApp crashed",
    NOT_ACCEPTED: "the SuperLink did not accept the message",
    NOT_UNDERSTOOD: "its reply is not a message of this protocol",
}
_FINAL = frozenset({NODE_UNAVAILABLE, 7, NOT_UNDERSTOOD})


@dataclass(frozen=True, slots=True)
class Request:
    """A message to a node; an answer longer than `limit` bytes is refused unread."""

    node: int
    envelope: Envelope
    limit: int = SMALL


@dataclass(frozen=True, slots=True)
class FlowerFailure:
    """The site did not answer: Flower's error code, or one of the negative ones above."""

    code: int

    @property
    def final(self) -> bool:
        """Whether sending the same message again is pointless."""
        return self.code in _FINAL

    def explain(self) -> str:
        """What happened; reads well after the site's name."""
        return _CODES.get(self.code, f"Flower reports error {self.code}")


SiteAnswer: TypeAlias = Body | FlowerFailure


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for `request`."""

    request: Request
    answer: SiteAnswer


class Exchange:
    """Requests under way on one grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._known: set[int] = set()  # nodes that were asked something
        self._pending: dict[str, Request] = {}
        self._failed: list[Reply] = []

    def nodes(self) -> list[int]:
        """The nodes that are connected now, in the grid's order."""
        return list(self._grid.get_node_ids())

    def send(self, requests: Sequence[Request]) -> None:
        """Push all `requests`; `receive` returns a failure for each that is not accepted."""
        self._known.update(request.node for request in requests)
        look = look_for(len(self._known))
        for batch in _batches([(request, seal(request.envelope)) for request in requests]):
            messages = [_message(request, sealed, look) for request, sealed in batch]
            keys = list(self._grid.push_messages(messages))  # none at all if the push is too large
            for (request, sealed), key in zip_longest(batch, keys[: len(batch)]):
                accepted = key or self._again(request, sealed, look)
                if accepted:
                    self._pending[accepted] = request
                else:
                    self._failed.append(Reply(request, FlowerFailure(NOT_ACCEPTED)))

    def _again(self, request: Request, sealed: bytes, look: float) -> str | None:
        """Push once more, as another message, by itself; the site may thus get it twice."""
        message = _message(request, sealed, look, salted=True)
        return next(iter(self._grid.push_messages([message])), None)

    def receive(self) -> list[Reply]:
        """The replies since the last call, without duplicates and replies to unknown requests."""
        replies, self._failed = self._failed, []
        if not self._pending:
            return replies
        for message in self._grid.pull_messages(list(self._pending)):
            request = self._pending.pop(message.metadata.reply_to_message_id, None)
            if request is not None:
                replies.append(Reply(request, _answer(message, request)))
        return replies


def look_for(sites: int) -> float:
    """Seconds between two looks for messages that are wished of each of so many sites."""
    return min(max(sites / LOOKS_A_SECOND, FASTEST_LOOK), SLOWEST_LOOK)


def pack_envelope(envelope: bytes, *, salted: bool = False) -> RecordDict:
    """The Flower content for `envelope`: a salted record, or a raw array, which Flower cuts up.

    `salted`: the array too, which then shares no piece with any other.
    """
    salt = secrets.token_bytes(SALT_BYTES)
    if len(envelope) <= ONE_RECORD:
        return RecordDict({RECORD: ConfigRecord({ARRAY: envelope, SALT: salt})})
    kind, data = (SALTED_ARRAY_TYPE, salt + envelope) if salted else (ARRAY_TYPE, envelope)
    array = Array("uint8", (len(data),), kind, data)
    return RecordDict({RECORD: ArrayRecord({ARRAY: array})})


def unpack_envelope(content: RecordDict) -> bytes:
    """The envelope in `content`, in either packing. `WireError` unless there is exactly one."""
    record = content.get(RECORD)
    if len(content) != 1 or record is None or set(record) - {SALT} != {ARRAY}:
        raise WireError("A Flower message does not carry an envelope.", "Check the site's version.")
    packed = record[ARRAY]
    if isinstance(packed, bytes):
        return packed
    if not isinstance(packed, Array) or packed.stype not in (ARRAY_TYPE, SALTED_ARRAY_TYPE):
        raise WireError("A Flower message has an unknown encoding.", "Check the site's version.")
    return packed.data[SALT_BYTES if packed.stype == SALTED_ARRAY_TYPE else 0 :]


def _batches(
    requests: Sequence[tuple[Request, bytes]],
) -> Iterator[list[tuple[Request, bytes]]]:
    """Requests that are pushed at once: Flower limits a push, and adapters may be large."""
    batch: list[tuple[Request, bytes]] = []
    size = 0
    for request, sealed in requests:
        if batch and (size + len(sealed) > PUSH_BYTES or len(batch) == PUSH_MESSAGES):
            yield batch
            batch, size = [], 0
        batch.append((request, sealed))
        size += len(sealed)
    if batch:
        yield batch


def _message(request: Request, sealed: bytes, look: float, *, salted: bool = False) -> Message:
    envelope = request.envelope
    trains = isinstance(envelope.body, TrainMasked)
    category = "train" if trains else "query"
    return Message(
        pack_envelope(sealed, salted=salted),
        dst_node_id=request.node,
        message_type=f"{category}.{ACTION}",
        ttl=LIFETIME,
        group_id=group_of(envelope.round, look),
    )


def _answer(message: Message, request: Request) -> SiteAnswer:
    if message.has_error():
        return FlowerFailure(message.error.code)
    try:
        answer = open_envelope(unpack_envelope(message.content), limit=request.limit)
    except WireError:
        return FlowerFailure(NOT_UNDERSTOOD)
    # A forwarder that could not read the request does not know its round, but may refuse it.
    if isinstance(answer.body, Refusal) or _address(answer) == _address(request.envelope):
        return answer.body
    return FlowerFailure(NOT_UNDERSTOOD)


def _address(envelope: Envelope) -> tuple[int, int, int]:
    return envelope.run, envelope.round, envelope.attempt
