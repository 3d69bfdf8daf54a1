"""Looks for messages that need no answer of Flower's: nothing has come since the last one.

A hospital looks for messages several times a second, and each look costs Flower about 7 ms of its
one processor. While nothing that could bring a message has passed, a node's last answer, "nothing",
is given again.

What a hospital gets in this way is old by `OLDEST_SECONDS` at most, and never older than the last
request that could have brought it a message. Only what Flower itself answered to a node's key is
kept for that key, and only when it is "nothing": whoever shows another's key learns no more.
"""

# Why: docs/adr/0036-the-operators-plane.md

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from craftsfl.processes.flower.gate import App, Receive, Scope, Send

OLDEST_SECONDS: Final = 10.0
LOOK: Final = "/v1/fleet/pull-messages"
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

    changes: int
    since: float
    answer: tuple[_Message, ...]


class QuietLooks:
    """An ASGI app around Flower's."""

    def __init__(
        self,
        app: App,
        key_of: Callable[[Scope], Hashable | None],
        is_nothing: Callable[[bytes], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`key_of`: the node's key that a request shows, None for none or several; `is_nothing`:
        whether the body of an answer holds no message; `clock` is monotonic, in seconds.
        """
        self._app, self._key_of, self._is_nothing, self._clock = app, key_of, is_nothing, clock
        self._changes = 0
        self._kept: OrderedDict[Hashable, _Nothing] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a look from memory, or let the app answer."""
        path = scope["path"] if scope["type"] == "http" else ""
        if path == LOOK:
            await self._look(scope, receive, send)
        elif not path or path in _BRINGS_NOTHING or path.startswith("/v1/fleet/"):
            await self._app(scope, receive, send)
        else:
            # Before and after: a look that Flower answers meanwhile may have missed the message.
            self._changes += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._changes += 1

    async def _look(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = self._key_of(scope)
        known = self._kept.get(key)
        if known is not None and self._holds(known):
            await _read(receive)
            for message in known.answer:
                await send(message)
            return
        changes, since, sent = self._changes, self._clock(), list[_Message]()

        async def kept(message: _Message) -> None:
            sent.append(message)
            await send(message)

        self._kept.pop(key, None)
        await self._app(scope, receive, kept)
        if key is not None and _status(sent) == 200 and self._is_nothing(_body(sent)):
            self._kept[key] = _Nothing(changes, since, tuple(sent))
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)

    def _holds(self, known: _Nothing) -> bool:
        return known.changes == self._changes and self._clock() - known.since < OLDEST_SECONDS


async def _read(receive: Receive) -> None:
    """The request's body, which is thrown away, so that the connection stays in step."""
    while (message := await receive()).get("more_body"):
        if message["type"] != "http.request":
            return


def _status(sent: list[_Message]) -> int:
    return next((message["status"] for message in sent if "status" in message), 0)


def _body(sent: list[_Message]) -> bytes:
    return b"".join(message.get("body", b"") for message in sent)
