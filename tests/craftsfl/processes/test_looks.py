"""Which looks Flower answers, and which are answered from memory."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse
from flwr.proto.message_pb2 import Message as Flowers
from flwr.proto.message_pb2 import Metadata
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PushAppMessagesRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

from craftsfl.processes.flower import looks
from craftsfl.processes.flower.looks import (
    LOOK,
    OLDEST_SECONDS,
    LookReader,
    QuietLooks,
)
from craftsfl.processes.flower.nodes import (
    has_no_message,
    looking_node,
    nodes_pushed_to,
    shown_node_key,
)

Message = MutableMapping[str, Any]
PUSH = "/v1/runtime/push-messages"
TO_FIVE, TO_SEVEN = (
    PushAppMessagesRequest(
        messages_list=[Flowers(metadata=Metadata(dst_node_id=node))]
    ).SerializeToString()
    for node in (5, 7)
)
KEY = FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode()


class Flower:
    """The app behind: counts what reaches it, and answers looks with its queue, if it has one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reached: list[str] = []
        self.read: list[bytes] = []
        self.queue: dict[bytes, int] = {}
        self.status = 200
        self.during = asyncio.Event()
        self.during.set()
        reader = LookReader(shown_node_key, looking_node, nodes_pushed_to, has_no_message)
        self.front = QuietLooks(self.app, reader, lambda: self.now)

    async def app(self, scope: Message, receive: Any, send: Any) -> None:
        self.reached.append(scope["path"])
        self.read.append((await receive())["body"])
        key = shown_node_key(scope) or b""
        number = self.queue.pop(key, 0) if scope["path"] == LOOK else 0
        await self.during.wait()
        body = PullMessagesResponse(messages_list=[Flowers()] * number).SerializeToString()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def ask(
        self, path: str = LOOK, *keys: bytes, node: int = 5, body: bytes = b"", hold: bool = False
    ) -> int:
        """How many messages the answer has; -1 for one that says that it was held, with none."""
        sent: list[Message] = []
        look = PullMessagesRequest(node=Node(node_id=node)).SerializeToString()

        async def receive() -> Message:
            return {"type": "http.request", "body": body or (look if path == LOOK else TO_FIVE)}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(KEY, key) for key in keys] + [(b"craftsfl-look", b"hold")] * hold
        await self.front({"type": "http", "path": path, "headers": headers}, receive, send)
        assert [message["type"] for message in sent] == [
            "http.response.start",
            "http.response.body",
        ]
        if (b"craftsfl-look", b"held") in sent[0]["headers"]:
            return -1
        return len(PullMessagesResponse.FromString(sent[1]["body"]).messages_list)

    def looks(self) -> int:
        return self.reached.count(LOOK)


def test_a_second_look_is_answered_from_memory_until_it_is_old() -> None:
    async def run() -> None:
        flower = Flower()
        assert [await flower.ask(LOOK, b"a") for _ in range(5)] == [0] * 5
        assert flower.looks() == 1
        flower.now += OLDEST_SECONDS
        await flower.ask(LOOK, b"a")
        assert flower.looks() == 2
        await flower.ask(LOOK, b"b")
        assert flower.looks() == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runtime/push-task-message",
        "/v1/control/stop-run",
        "/v1/control/unregister-node",
        "/x",
    ],
)
def test_what_may_bring_a_message_lets_everybody_look_again(path: str) -> None:
    async def run() -> None:
        flower = Flower()
        await flower.ask(LOOK, b"a")
        flower.queue[b"a"] = 2
        await flower.ask(path)
        assert await flower.ask(LOOK, b"a") == 2
        assert await flower.ask(LOOK, b"a") == 0
        assert flower.looks() == 3

    asyncio.run(run())


def test_what_is_asked_all_the_time_brings_nothing() -> None:
    async def run() -> None:
        flower = Flower()
        for path in ("/v1/runtime/pull-messages", "/v1/fleet/push-messages"):
            await flower.ask(LOOK, b"a")
            await flower.ask(path)
        await flower.ask(LOOK, b"a")
        assert flower.looks() == 1

    asyncio.run(run())


def test_a_look_while_a_message_comes_is_not_remembered() -> None:
    """Flower answered before the message was there, and the push ended after that."""

    async def run() -> None:
        flower = Flower()
        flower.during.clear()
        push = asyncio.create_task(flower.ask(PUSH))
        await asyncio.sleep(0)
        look = asyncio.create_task(flower.ask(LOOK, b"a"))
        await asyncio.sleep(0)
        flower.during.set()
        await asyncio.gather(push, look)
        flower.queue[b"a"] = 1
        assert await flower.ask(LOOK, b"a") == 1

    asyncio.run(run())


def test_only_nothing_is_remembered() -> None:
    """Neither a refusal nor an answer to a request that shows no key, or two."""

    async def run() -> None:
        flower = Flower()
        flower.status = 401
        await flower.ask(LOOK, b"a")
        flower.status = 200
        for keys in ((), (b"a", b"b"), (b"k" * 600,)):
            await flower.ask(LOOK, *keys)
            await flower.ask(LOOK, *keys)
        assert flower.looks() == 7
        await flower.ask(LOOK, b"a")
        assert flower.looks() == 8

    asyncio.run(run())


def test_an_answer_that_is_none_has_messages() -> None:
    assert has_no_message(b"")
    assert not has_no_message(b"\xff")
    assert not has_no_message(PullMessagesResponse(messages_list=[Flowers()]).SerializeToString())


def test_a_push_lets_those_look_again_for_whom_it_is() -> None:
    async def run() -> None:
        flower = Flower()
        for _ in range(2):
            await flower.ask(LOOK, b"a", node=5)
            await flower.ask(LOOK, b"b", node=7)
        assert flower.looks() == 2
        await flower.ask(PUSH, body=TO_SEVEN)
        assert flower.read[-1] == TO_SEVEN
        flower.queue[b"b"] = 1
        assert await flower.ask(LOOK, b"b", node=7) == 1
        await flower.ask(LOOK, b"a", node=5)
        assert flower.looks() == 3

    asyncio.run(run())


def test_a_push_that_nobody_understands_is_for_everybody() -> None:
    async def run() -> None:
        flower = Flower()
        await flower.ask(LOOK, b"a")
        await flower.ask(PUSH, body=b"\xff")
        await flower.ask(LOOK, b"a")
        assert flower.looks() == 2

    asyncio.run(run())


def test_what_is_kept_for_a_key_is_for_the_node_that_flower_answered() -> None:
    async def run() -> None:
        flower = Flower()
        await flower.ask(LOOK, b"a", node=5)
        await flower.ask(LOOK, b"a", node=7)
        assert flower.looks() == 2

    asyncio.run(run())


def test_a_held_look_is_answered_when_a_message_comes() -> None:
    async def run() -> None:
        flower = Flower()
        looks = [
            asyncio.create_task(flower.ask(LOOK, key, node=node, hold=True))
            for key, node in ((b"a", 5), (b"b", 7))
        ]
        while flower.looks() < 2:
            await asyncio.sleep(0)
        flower.queue[b"b"] = 1
        await flower.ask(PUSH, body=TO_SEVEN)
        assert await looks[1] == 1
        assert not looks[0].done()
        looks[0].cancel()

    asyncio.run(run())


def test_a_look_is_held_for_a_while_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "HOLD_SECONDS", 0.01)

    async def run() -> None:
        flower = Flower()
        assert await flower.ask(LOOK, b"a", hold=True) == -1
        assert await flower.ask(LOOK, b"a", hold=True) == -1
        assert await flower.ask(LOOK, b"a") == 0
        assert flower.looks() == 1
        flower.queue[b"a"] = 1
        await flower.ask("/v1/control/start-run")
        assert await flower.ask(LOOK, b"a", hold=True) == 1

    asyncio.run(run())


def test_a_message_that_comes_while_flower_answers_is_not_waited_for() -> None:
    async def run() -> None:
        flower = Flower()
        flower.during.clear()
        look = asyncio.create_task(flower.ask(LOOK, b"b", node=7, hold=True))
        await asyncio.sleep(0)
        push = asyncio.create_task(flower.ask(PUSH, body=TO_SEVEN))
        await asyncio.sleep(0)
        flower.during.set()
        flower.queue[b"b"] = 1
        await push
        assert await asyncio.wait_for(look, 1) == 1

    asyncio.run(run())


@pytest.mark.parametrize("status", [401, 500])
def test_a_refusal_is_never_held(status: int) -> None:
    async def run() -> None:
        flower = Flower()
        flower.status = status
        assert await asyncio.wait_for(flower.ask(LOOK, b"a", hold=True), 1) == 0

    asyncio.run(run())
