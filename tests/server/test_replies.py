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
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from server.messages import pack_envelope, unpack_envelope
from server.replies import ReplyFetcher

RUN = 7


@dataclass
class StandIn:
    """A SuperLink's Runtime API, as far as replies go. `missing`: parts that have not arrived."""

    replies: dict[str, Message] = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    confirmed: list[str] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)
    error: httpx.HTTPError | None = None

    def announce(self, request: str, envelope: bytes, *, whole: bool) -> Message:
        """A reply to the message `request` is announced; `whole`: its parts are there."""
        asked = Message(pack_envelope(b"?"), dst_node_id=5, message_type="query.x", ttl=900.0)
        asked.metadata.__dict__["_message_id"] = request
        reply = Message(pack_envelope(envelope), reply_to=asked)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        found = {key: part.deflate() for key, part in get_all_nested_objects(reply).items()}
        self.parts |= found
        if not whole:
            self.missing |= set(found)
        self.replies[request] = reply
        return reply

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:
        self.asked.append(list(request.message_ids))
        found = [self.replies.pop(key) for key in request.message_ids if key in self.replies]
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(remove_content_from_message(m)) for m in found],
            message_object_trees=[get_object_tree(message) for message in found],
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
    assert superlink.confirmed == [reply.metadata.message_id]
    assert fetcher.fetch(["a"]) == []
    assert superlink.asked[-1] != ["a"]  # it is on its way already


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_parts_that_are_no_message_are_an_error_too(
    superlink: StandIn, make: Callable[..., ReplyFetcher]
) -> None:
    reply = superlink.announce("a", b"x", whole=True)
    superlink.parts[reply.object_id] = b"nonsense"
    (answer,) = fetched(make(), ["a"], 1)
    assert answer.has_error()


def test_a_lost_superlink_is_told(superlink: StandIn, make: Callable[..., ReplyFetcher]) -> None:
    superlink.announce("a", b"x", whole=True)
    superlink.error = httpx.ConnectError("refused")
    with pytest.raises(httpx.ConnectError):
        fetched(make(), ["a"], 1)


def test_what_is_given_up_leaves_no_thread(
    superlink: StandIn, make: Callable[..., ReplyFetcher]
) -> None:
    superlink.announce("a", b"never", whole=False)
    fetcher = make()
    fetcher.fetch(["a"])
    assert any(thread.name == "reply" for thread in threading.enumerate())
    fetcher.close()
    end = time.monotonic() + 10
    while any(thread.name == "reply" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.05)
