"""Replies are fetched each by itself; the SuperLink is a stand-in, all else is Flower's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ObjectTree, PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from privacy.errors import WireError
from privacy.wire.carriage import ANSWER_GROUP
from server.messages import pack_envelope, unpack_envelope
from server.replies import MOST_PARTS, ReplyFetcher
from tests.waiting import eventually

RUN = 7


@dataclass
class StandIn:
    """A SuperLink's Runtime API, as far as replies go. `missing`: parts that have not arrived."""

    replies: dict[str, Message] = field(default_factory=dict)
    trees: dict[str, ObjectTree] = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    confirmed: list[str] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)
    error: httpx.HTTPError | None = None

    def announce(
        self, request: str, envelope: bytes, *, whole: bool, group: str = "", forged: str = ""
    ) -> Message:
        """A reply to the message `request` is announced; `whole`: its parts are there."""
        asked = Message(pack_envelope(b"?"), dst_node_id=5, message_type="query.x", ttl=900.0)
        asked.metadata.__dict__["_message_id"] = request
        reply = Message(pack_envelope(envelope), reply_to=asked)
        reply.metadata.__dict__["_group_id"] = group
        if forged:
            reply.metadata.__dict__["_reply_to_message_id"] = forged
        reply.metadata.__dict__["_message_id"] = reply.object_id
        found = {key: part.deflate() for key, part in get_all_nested_objects(reply).items()}
        self.parts |= found
        if not whole:
            self.missing |= set(found)
        self.trees[request] = get_object_tree(reply)
        reply.metadata.__dict__["_reply_to_message_id"] = request
        self.replies[request] = reply
        return reply

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:
        self.asked.append(list(request.message_ids))
        keys = [key for key in request.message_ids if key in self.replies]
        found = [self.replies.pop(key) for key in keys]
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(remove_content_from_message(m)) for m in found],
            message_object_trees=[self.trees[key] for key in keys],
        )

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:
        if self.error is not None:
            raise self.error
        key = request.object_id
        there = key in self.parts and key not in self.missing
        content = self.parts[key] if there else b""
        return PullObjectResponse(object_found=True, object_available=there, object_content=content)

    def ConfirmMessageReceived(self, request: Any) -> None:
        self.confirmed.append(request.message_object_id)

    def close(self) -> None:
        """As a client."""


@pytest.fixture
def superlink() -> StandIn:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN, 1
    return StandIn()


@pytest.fixture
def make(superlink: StandIn) -> Iterator[Callable[..., ReplyFetcher]]:
    made = []

    def fetcher(longest: float = 60.0) -> ReplyFetcher:
        grid = HttpGrid(token="t")
        grid._client = superlink  # type: ignore[assignment]
        grid.set_run(Run.create_empty(RUN))
        made.append(ReplyFetcher(grid, longest))
        return made[-1]

    yield fetcher
    for one in made:
        one.close()


def fetched(fetcher: ReplyFetcher, keys: list[str], count: int) -> list[Message]:
    found: list[Message] = []
    end = time.monotonic() + 20
    while len(found) < count and time.monotonic() < end:
        found += fetcher.fetch(keys)
        time.sleep(0.01)
    return found


def test_a_reply_whose_parts_do_not_come_holds_up_no_other(
    superlink: StandIn, make: Callable[..., ReplyFetcher]
) -> None:
    """As left by a gateway that was killed while it pushed, or announced by a hostile node."""
    superlink.announce("a", b"never", whole=False)
    superlink.announce("b", b"whole", whole=True)
    fetcher = make()
    began = time.monotonic()
    (reply,) = fetched(fetcher, ["a", "b"], 1)
    assert time.monotonic() - began < 5
    assert unpack_envelope(reply.content) == b"whole"
    assert reply.metadata.reply_to_message_id == "b"
    assert fetcher.fetch(["a"]) == []
    assert superlink.asked[-1] != ["a"]  # it is on its way already
    assert eventually(lambda: superlink.confirmed == [reply.metadata.message_id])


def test_a_reply_is_forgotten_only_when_all_of_it_has_arrived(
    superlink: StandIn, make: Callable[..., ReplyFetcher]
) -> None:
    """Except for a gateway of ours, which sends last what is fetched."""
    reply = superlink.announce("a", b"whole", whole=True)
    superlink.missing = {reply.object_id}
    ours = superlink.announce("b", b"whole", whole=True, group=ANSWER_GROUP)
    superlink.missing.add(ours.object_id)
    fetcher = make()
    assert len(fetched(fetcher, ["a", "b"], 2)) == 2
    assert eventually(lambda: bool(superlink.confirmed))
    time.sleep(1.2)  # time for another look
    assert superlink.confirmed == [ours.object_id]
    superlink.missing.clear()
    assert eventually(lambda: superlink.confirmed == [ours.object_id, reply.object_id])


def test_who_is_a_gateway_is_learnt_from_its_answers(
    superlink: StandIn, make: Callable[..., ReplyFetcher]
) -> None:
    fetcher = make()
    superlink.announce("a", b"x", whole=True, group=ANSWER_GROUP)
    fetched(fetcher, ["a"], 1)
    assert fetcher.gateways == {5}
    superlink.announce("b", b"x", whole=True)
    fetched(fetcher, ["b"], 1)
    assert fetcher.gateways == set()


def test_a_reply_answers_what_the_superlink_says_it_does(
    superlink: StandIn, make: Callable[..., ReplyFetcher]
) -> None:
    """Not what a hostile node wrote into it: `forged` says that it answers another's message."""
    for size in (10, 600_000):
        superlink.announce("a", bytes(size), whole=True, forged="b")
        (reply,) = fetched(make(), ["a", "b"], 1)
        assert reply.metadata.reply_to_message_id == "a"
        assert unpack_envelope(reply.content) == bytes(size)


def test_late_parts_complete_a_reply(superlink: StandIn, make: Callable[..., ReplyFetcher]) -> None:
    superlink.announce("a", b"late", whole=False)
    fetcher = make()
    assert fetcher.fetch(["a"]) == []
    superlink.missing.clear()
    (reply,) = fetched(fetcher, ["a"], 1)
    assert unpack_envelope(reply.content) == b"late"


def test_after_a_while_missing_parts_are_an_error_of_flower_s(
    superlink: StandIn, make: Callable[..., ReplyFetcher]
) -> None:
    superlink.announce("a", b"never", whole=False)
    (reply,) = fetched(make(longest=0.3), ["a"], 1)
    assert reply.has_error()
    assert reply.error.code == ErrorCode.MESSAGE_UNAVAILABLE
    assert reply.metadata.reply_to_message_id == "a"


@pytest.mark.parametrize(
    "size, part, kind",
    [
        (10, 0, "ConfigRecord"),
        (10, 1, "RecordDict"),
        (10, 2, "Message"),
        (600_000, 1, "Array"),
        (600_000, 2, "ArrayRecord"),
        (600_000, 4, "Message"),
        (600_000, 4, "ConfigRecord"),
    ],
)
def test_parts_that_are_no_message_carry_nothing(
    superlink: StandIn, make: Callable[..., ReplyFetcher], size: int, part: int, kind: str
) -> None:
    """The SuperLink checks the head of a part alone. Of a small reply only the record is read."""
    reply = superlink.announce("a", bytes(size), whole=True)
    name = list(get_all_nested_objects(reply))[part]
    superlink.parts[name] = kind.encode() + b"  8\x00nonsense"
    (answer,) = fetched(make(), ["a"], 1)
    assert not answer.has_error()
    if size == 10 and part:
        assert unpack_envelope(answer.content) == bytes(size)
    else:
        with pytest.raises(WireError):
            unpack_envelope(answer.content)


def test_a_reply_of_too_many_parts_is_not_fetched(
    superlink: StandIn, make: Callable[..., ReplyFetcher]
) -> None:
    superlink.announce("a", b"x", whole=True)
    many = [ObjectTree(object_id=f"{number:064x}") for number in range(MOST_PARTS)]
    superlink.trees["a"] = ObjectTree(object_id="f" * 64, children=many)
    (reply,) = fetched(make(), ["a"], 1)
    assert reply.has_error()


def test_a_lost_superlink_is_told(superlink: StandIn, make: Callable[..., ReplyFetcher]) -> None:
    superlink.announce("a", b"x", whole=True)
    superlink.error = httpx.ConnectError("refused")
    with pytest.raises(httpx.ConnectError):
        fetched(make(), ["a"], 1)


def test_what_is_given_up_leaves_no_thread(
    superlink: StandIn, make: Callable[..., ReplyFetcher]
) -> None:
    superlink.announce("a", bytes(600_000), whole=False)
    fetcher = make()
    fetcher.fetch(["a"])
    assert any(thread.name == "reply" for thread in threading.enumerate())
    fetcher.close()
    assert eventually(lambda: all(thread.name != "reply" for thread in threading.enumerate()))
