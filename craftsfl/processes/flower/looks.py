"""Looks for messages that need no answer of Flower's: nothing has come since the last one.

A hospital looks for messages several times a second, and each look that reaches Flower costs 2 ms
of its one processor or more. While nothing that could bring a message has passed, a node's last
answer, "nothing", is given again. To a gateway that says so, it is given only after `HOLD_SECONDS`,
or Flower's next one as soon as something has passed: a message is there at once, however many
hospitals there are.

What a hospital gets in this way is old by `OLDEST_SECONDS` at most, and never older than the last
request that could have brought it a message: of messages that are pushed, those to its own node.
Only what Flower itself answered to a node's key is kept for that key and that node, and only when
it is "nothing": whoever shows another's key learns no more.
"""

# Why: docs/adr/0036-the-operators-plane.md

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from craftsfl.processes.flower.gate import App, Receive, Scope, Send
from privacy.wire.carriage import HELD, HOLD, LOOK_HEADER

OLDEST_SECONDS: Final = 10.0
HOLD_SECONDS: Final = 3.0
LOOK: Final = "/v1/fleet/pull-messages"
PUSH: Final = "/v1/runtime/push-messages"
# Asked all the time by ServerApp, SuperExec and display. Every other request of theirs may bring a
# message, or take a node away; of the hospitals' own, none does that to another hospital.
_BRINGS_NOTHING: Final = frozenset(
    {
        "/v1/runtime/acquire-task",
        "/v1/runtime/confirm-message-received",
        "/v1/runtime/get-nodes",
        "/v1/runtime/pull-messages",
        "/v1/runtime/pull-object",
        "/v1/runtime/push-logs",
        "/v1/runtime/push-object",  # of a message that can be seen already
        "/v1/runtime/send-task-heartbeat",
        "/v1/control/list-nodes",
        "/v1/control/list-runs",
    }
)
_MOST: Final = 10_000  # answers that are kept
_Message = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Nothing:
    """Flower's answer to a look that found nothing, and when it was asked."""

    node: Hashable
    changes: tuple[int, int]  # of all nodes, and of this one
    since: float
    answer: tuple[_Message, ...]


@dataclass(frozen=True, slots=True)
class LookReader:
    """What has to be understood of requests and answers."""

    key_of: Callable[[Scope], Hashable | None]  # the node's key; None for none or several
    node_of: Callable[[bytes], Hashable | None]  # who looks, by the body; None where it is not said
    nodes_of: Callable[[bytes], Collection[Hashable] | None]  # whom a push is for; None: anybody
    is_nothing: Callable[[bytes], bool]  # whether the body of an answer holds no message


class QuietLooks:
    """An ASGI app around Flower's."""

    def __init__(
        self,
        app: App,
        read: LookReader,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` is monotonic, in seconds."""
        self._app, self._read, self._clock = app, read, clock
        self._changes = 0  # that may concern any node
        self._changes_of: Counter[Hashable] = Counter()
        self._held: dict[Hashable, set[asyncio.Future[None]]] = {}
        self._kept: OrderedDict[Hashable, _Nothing] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a look from memory, or let the app answer."""
        path = scope["path"] if scope["type"] == "http" else ""
        if path == LOOK:
            await self._look(scope, receive, send)
        elif path == PUSH:
            body = await _body(receive)
            if body is not None:
                await self._push(scope, body, _again(body, receive), send)
        elif not path or path in _BRINGS_NOTHING or path.startswith("/v1/fleet/"):
            await self._app(scope, receive, send)
        else:
            await self._push(scope, b"", receive, send, anybody=True)

    async def _push(
        self, scope: Scope, body: bytes, receive: Receive, send: Send, *, anybody: bool = False
    ) -> None:
        nodes = None if anybody else self._read.nodes_of(body)
        # Before and after: a look that Flower answers meanwhile may have missed the message.
        self._changed(nodes)
        try:
            await self._app(scope, receive, send)
        finally:
            self._changed(nodes)
            self._let_go(nodes)

    def _let_go(self, nodes: Collection[Hashable] | None) -> None:
        for node in list(self._held) if nodes is None else nodes:
            for passed in self._held.get(node, ()):
                if not passed.done():
                    passed.set_result(None)

    def _changed(self, nodes: Collection[Hashable] | None) -> None:
        if nodes is None:
            self._changes += 1
        else:
            self._changes_of.update(set(nodes))
        if len(self._changes_of) > _MOST:
            self._changes += 1
            self._changes_of.clear()

    async def _look(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if body is None:
            return
        key, node = self._read.key_of(scope), self._read.node_of(body)

        async def ask() -> _Nothing | None:
            return await self._ask(key, node, scope, _again(body, receive), send)

        known = self._kept.get(key)
        if known is None or known.node != node or not self._holds(known):
            known = await ask()
        held = False
        if known is not None and node is not None and _may_be_held(scope):
            held = self._holds(known) and not await self._changes_within(HOLD_SECONDS, node)
            if not held:
                known = await ask()
        if known is not None:
            for message in _said(known.answer, held):
                await send(message)

    async def _ask(
        self, key: Hashable, node: Hashable, scope: Scope, receive: Receive, send: Send
    ) -> _Nothing | None:
        """Flower's "nothing"; any other answer is sent, and None returned."""
        changes, since, sent = self._changes_for(node), self._clock(), list[_Message]()

        async def kept(message: _Message) -> None:
            sent.append(message)

        self._kept.pop(key, None)
        await self._app(scope, receive, kept)
        if _status(sent) != 200 or not self._read.is_nothing(_sent_body(sent)):
            for message in sent:
                await send(message)
            return None
        nothing = _Nothing(node, changes, since, tuple(sent))
        if key is not None and node is not None:
            self._kept[key] = nothing
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return nothing

    async def _changes_within(self, seconds: float, node: Hashable) -> bool:
        """Whether something that may bring `node` a message passes within so many seconds."""
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held.setdefault(node, set()).add(passed)
        try:
            async with asyncio.timeout(seconds):
                await passed
        except TimeoutError:
            return False
        finally:
            self._held[node].discard(passed)
            if not self._held[node]:
                del self._held[node]
        return True

    def _changes_for(self, node: Hashable | None) -> tuple[int, int]:
        return self._changes, self._changes_of[node]

    def _holds(self, known: _Nothing) -> bool:
        fresh = self._clock() - known.since < OLDEST_SECONDS
        return fresh and known.changes == self._changes_for(known.node)


async def _body(receive: Receive) -> bytes | None:
    """The request's body; None if the client is gone before all of it is there."""
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
    return None


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive` from the beginning, for whoever reads the body next."""
    given: list[_Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> _Message:
        return given.pop() if given else await receive()

    return received


def _may_be_held(scope: Scope) -> bool:
    return (LOOK_HEADER.encode("ascii"), HOLD.encode("ascii")) in scope["headers"]


def _said(answer: tuple[_Message, ...], held: bool) -> Iterator[_Message]:
    """`answer`, which says whether it was held."""
    header = (LOOK_HEADER.encode("ascii"), HELD.encode("ascii"))
    for message in answer:
        if held and "status" in message:
            yield {**message, "headers": [*message["headers"], header]}
        else:
            yield message


def _status(sent: list[_Message]) -> int:
    return next((message["status"] for message in sent if "status" in message), 0)


def _sent_body(sent: list[_Message]) -> bytes:
    return b"".join(message.get("body", b"") for message in sent)
