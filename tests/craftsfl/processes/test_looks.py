"""Which looks Flower answers, and which are answered from memory."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import Message as Flowers
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

from craftsfl.processes.flower.looks import LOOK, OLDEST_SECONDS, QuietLooks
from craftsfl.processes.flower.nodes import has_no_message, shown_node_key

Message = MutableMapping[str, Any]
PUSH = "/v1/runtime/push-messages"
KEY = FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode()


class Flower:
    """The app behind: counts what reaches it, and answers looks with its queue, if it has one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reached: list[str] = []
        self.queue: dict[bytes, int] = {}
        self.status = 200
        self.during = asyncio.Event()
        self.during.set()
        self.front = QuietLooks(self.app, shown_node_key, has_no_message, lambda: self.now)

    async def app(self, scope: Message, receive: Any, send: Any) -> None:
        self.reached.append(scope["path"])
        await receive()
        key = shown_node_key(scope) or b""
        number = self.queue.pop(key, 0) if scope["path"] == LOOK else 0
        await self.during.wait()
        body = PullMessagesResponse(messages_list=[Flowers()] * number).SerializeToString()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def ask(self, path: str = LOOK, *keys: bytes) -> int:
        """How many messages the answer has."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"x"}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(KEY, key) for key in keys]
        await self.front({"type": "http", "path": path, "headers": headers}, receive, send)
        assert [message["type"] for message in sent] == [
            "http.response.start",
            "http.response.body",
        ]
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
        PUSH,
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
