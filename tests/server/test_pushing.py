"""What is refused of one message costs no other; the SuperLink is a stand-in, all else Flower's."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import httpx
import pytest
from flwr.app import Message
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest, PushObjectResponse
from flwr.proto.runtime_pb2 import PushAppMessagesRequest, PushAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_object_id, iterate_object_tree
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from privacy.wire.enclosed import enclosed_in
from server.messages import pack_envelope
from server.pushing import Enclosing, push_all

RUN = 7


@dataclass
class StandIn:
    """A SuperLink's Runtime API, as far as pushes go."""

    announced: list[list[ObjectTree]] = field(default_factory=list)
    came: list[str] = field(default_factory=list)  # the kinds of the parts, in order
    parts: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)  # each once
    fails: int = 0  # pushes of more than so many messages are answered with `status`
    status: int = 500
    takes: bool = False  # contents with what announces them
    offered: list[int] = field(default_factory=list)  # how many, push by push
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def PushMessages(self, request: PushAppMessagesRequest) -> PushAppMessagesResponse:
        trees = list(request.message_object_trees)
        self.announced.append(trees)
        if self.fails and len(trees) > self.fails:
            answer = httpx.Response(self.status, request=httpx.Request("POST", "https://x"))
            answer.raise_for_status()
        enclosed = enclosed_in(request)
        self.offered.append(len(enclosed))
        self.parts.update(enclosed if self.takes else ())
        names = [part.object_id for tree in trees for part in iterate_object_tree(tree)]
        return PushAppMessagesResponse(
            message_ids=[message.metadata.message_id for message in request.messages_list],
            objects_to_push=[name for name in names if name not in self.parts],
            session_id="s",
        )

    def PushObject(self, request: PushObjectRequest) -> PushObjectResponse:
        with self._lock:
            if request.object_id in self.refused:
                self.refused.discard(request.object_id)
                return PushObjectResponse(stored=False)
            assert get_object_id(request.object_content) == request.object_id
            self.came.append(request.object_content.split(b" ")[0].decode())
            self.parts.add(request.object_id)
        return PushObjectResponse(stored=True)


@pytest.fixture
def superlink() -> StandIn:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN, 1
    return StandIn()


@pytest.fixture
def grid(superlink: StandIn) -> HttpGrid:
    made = HttpGrid(token="t")
    made._client = superlink  # type: ignore[assignment]
    made.set_run(Run.create_empty(RUN))
    return made


def message(node: int, size: int = 10) -> Message:
    return Message(pack_envelope(bytes(size)), dst_node_id=node, message_type="query.x", ttl=900.0)


def test_the_record_is_sent_last(superlink: StandIn, grid: HttpGrid) -> None:
    """Who has it knows that the rest is there. The messages of one push are sent together."""
    keys = push_all(grid, [message(5), message(6)])
    assert [tree.object_id for tree in superlink.announced[0]] == keys
    assert superlink.came == ["Message"] * 2 + ["RecordDict"] * 2 + ["ConfigRecord"] * 2


def test_to_a_gateway_a_small_record_goes_alone(superlink: StandIn, grid: HttpGrid) -> None:
    keys = push_all(grid, [message(5), message(6), message(6, 600_000)], {6})
    assert len(set(keys)) == 3
    assert [len(list(iterate_object_tree(tree))) for tree in superlink.announced[0]] == [3, 1, 5]


@pytest.mark.parametrize("part", [0, 1, 2], ids=["record", "contents", "message"])
def test_a_message_of_which_a_part_is_refused_is_sent_again_by_itself(
    superlink: StandIn, grid: HttpGrid, part: int
) -> None:
    """As when its node confirms it too early, or has sent that part itself."""
    messages = [message(5), message(6), message(7)]
    content = messages[1].content
    names = [content["envelope"].object_id, content.object_id, messages[1].object_id]
    superlink.refused = {names[part]}
    keys = push_all(grid, messages)
    assert all(keys)
    assert [len(trees) for trees in superlink.announced] == [3, 1]


def test_what_is_refused_twice_has_no_id(superlink: StandIn, grid: HttpGrid) -> None:
    messages = [message(5), message(6), message(7)]
    hostile = messages[1].object_id
    superlink.refused = {hostile}
    push = superlink.PushObject

    def refuse(request: PushObjectRequest) -> PushObjectResponse:
        superlink.refused.add(hostile)
        return push(request)

    superlink.PushObject = refuse  # type: ignore[method-assign]
    assert [bool(key) for key in push_all(grid, messages)] == [True, False, True]


@pytest.mark.parametrize("status", [413, 500])
def test_a_push_that_the_superlink_fails_at_is_sent_one_by_one(
    superlink: StandIn, grid: HttpGrid, status: int
) -> None:
    """As when a node has registered one of the parts with other children."""
    superlink.fails, superlink.status = 1, status
    assert all(push_all(grid, [message(5), message(6)]))
    superlink.fails, superlink.status = 1, 403  # that is about the run
    with pytest.raises(httpx.HTTPStatusError):
        push_all(grid, [message(5), message(6)])


def test_contents_go_with_what_announces_them(superlink: StandIn, grid: HttpGrid) -> None:
    """Small ones; and as soon as they are known to be taken, more messages go at a time."""
    superlink.takes = True
    enclosing = Enclosing()
    gateways = set(range(60))
    assert all(push_all(grid, [message(n) for n in range(60)], gateways, enclosing))
    assert superlink.offered == [8, 25, 25, 2]
    assert superlink.came == []
    assert all(push_all(grid, [message(5, 600_000)], gateways, enclosing))
    assert superlink.offered[-1] == 0
    assert len(superlink.came) == 5


def test_a_superlink_that_takes_none_is_offered_them_once(
    superlink: StandIn, grid: HttpGrid
) -> None:
    enclosing = Enclosing()
    for _ in range(2):
        assert all(push_all(grid, [message(n) for n in range(10)], (), enclosing))
    assert superlink.offered == [24, 0, 0, 0]
    assert len(superlink.came) == 60
