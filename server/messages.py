"""Envelopes over a Flower `Grid`: pushed at once, replies pulled by the id of what they answer.

Flower's own `send_and_receive` looks every 3 s and waits for the slowest; here the caller looks
when it likes. An error reply comes from the SuperLink (node 1) when a SuperNode is gone, so a
reply belongs to the node of the message that it answers, never to its sender.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from privacy.errors import WireError
from privacy.wire.bodies import Body, Refusal, StartTraining
from privacy.wire.envelope import (
    ACTION,
    ARRAY,
    ARRAY_TYPE,
    RECORD,
    Envelope,
    open_envelope,
    seal,
    size_limit,
)
from privacy.wire.offer import TrainMasked

SMALL = size_limit(0)  # bytes: every answer but an update
LIFETIME = 900.0  # seconds after which Flower forgets a message that nobody fetched

# Flower's ErrorCode (flwr.common.constant), in words for an operator. The text that an error
# reply carries is never used: it could hold anything.
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
    NOT_UNDERSTOOD: "its reply is no message of this protocol",
}
_FINAL = frozenset({NODE_UNAVAILABLE, 7, NOT_UNDERSTOOD})


@dataclass(frozen=True, slots=True)
class Request:
    """A message to a node; an answer of more than `limit` bytes is refused unread."""

    node: int
    envelope: Envelope
    limit: int = SMALL


@dataclass(frozen=True, slots=True)
class FlowerFailure:
    """No answer of the site: Flower's error code, or one of the negative ones above."""

    code: int

    @property
    def final(self) -> bool:
        """Whether sending the same message again is pointless."""
        return self.code in _FINAL

    def explain(self) -> str:
        """What happened, to be read after the site's name."""
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
        self._pending: dict[str, Request] = {}
        self._failed: list[Reply] = []

    def nodes(self) -> list[int]:
        """The nodes that are connected now, in the grid's order."""
        return list(self._grid.get_node_ids())

    def send(self, requests: Sequence[Request]) -> None:
        """Push all `requests`; one that is not accepted comes back from `receive` as a failure."""
        # One push each: Flower limits the size of a push, and adapters may be large.
        for request in requests:
            accepted = [key for key in self._grid.push_messages([_message(request)]) if key]
            if accepted:
                self._pending[accepted[0]] = request
            else:
                self._failed.append(Reply(request, FlowerFailure(NOT_ACCEPTED)))

    def receive(self) -> list[Reply]:
        """The replies that have come since the last call; duplicates and strangers are dropped."""
        replies, self._failed = self._failed, []
        if not self._pending:
            return replies
        for message in self._grid.pull_messages(list(self._pending)):
            request = self._pending.pop(message.metadata.reply_to_message_id, None)
            if request is not None:
                replies.append(Reply(request, _answer(message, request)))
        return replies


def pack_envelope(envelope: bytes) -> RecordDict:
    """The Flower content that carries `envelope`: a raw array, which Flower sends in pieces."""
    array = Array("uint8", (len(envelope),), ARRAY_TYPE, envelope)
    return RecordDict({RECORD: ArrayRecord({ARRAY: array})})


def unpack_envelope(content: RecordDict) -> bytes:
    """The envelope that `content` carries; raises `WireError` where there is not exactly one."""
    record = content.get(RECORD)
    if len(content) != 1 or not isinstance(record, ArrayRecord) or list(record) != [ARRAY]:
        raise WireError("A Flower message carries no envelope.", "Check the site's version.")
    array = record[ARRAY]
    if array.stype != ARRAY_TYPE:
        raise WireError("A Flower message has another encoding.", "Check the site's version.")
    return array.data


def _message(request: Request) -> Message:
    envelope = request.envelope
    trains = isinstance(envelope.body, StartTraining | TrainMasked)
    category = "train" if trains else "query"
    return Message(
        pack_envelope(seal(envelope)),
        dst_node_id=request.node,
        message_type=f"{category}.{ACTION}",
        ttl=LIFETIME,
        group_id=str(envelope.round),
    )


def _answer(message: Message, request: Request) -> SiteAnswer:
    if message.has_error():
        return FlowerFailure(message.error.code)
    try:
        answer = open_envelope(unpack_envelope(message.content), limit=request.limit)
    except WireError:
        return FlowerFailure(NOT_UNDERSTOOD)
    # A forwarder that could not read the request refuses it without knowing the round.
    if isinstance(answer.body, Refusal) or _address(answer) == _address(request.envelope):
        return answer.body
    return FlowerFailure(NOT_UNDERSTOOD)


def _address(envelope: Envelope) -> tuple[int, int, int]:
    return envelope.run, envelope.round, envelope.attempt
