"""The gate in front of a SuperLink's app: hospitals reach the Fleet API, the operator everything.

Guarantees, each with a test on a real SuperLink:

- Without the operator's key, a request reaches the app only as a POST to a path that is, byte for
  byte and before any decoding, `/v1/fleet/` and one word of small letters and hyphens, with one
  plain Host and without a query. Everything else is answered with 401, whatever is or is not there.
- The key counts only if it is there exactly once; it is compared in constant time.
- No body is read before that, and none of a hospital's that is longer than `LARGEST_BODY`, or whose
  length is not told beforehand. One above `SMALL_BODY` is read only from an admitted node that has
  signed the request, of all together at most `ALL_BODIES` at a time, each within `BODY_SECONDS`.

- Nobody without the key is let in more often than `REQUESTS_A_SECOND`, after `BURST` at once. What
  counts is an address and the node's key that it shows: whoever shows another's key, from
  elsewhere, takes nothing from that other.

Flower's own authentication of nodes and tasks is behind the gate and stays as it is.
"""

# Why: docs/adr/0036-the-operators-plane.md

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Hashable, MutableMapping
from typing import Any, Final

from craftsfl.processes.flower.rates import TokenBuckets
from craftsfl.processes.flower.shown_key import KEY_HEADER

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# A message travels as objects of at most 5 MiB (`FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE`), each of them
# in a request of its own, but older envelopes hold one object of up to 16 MiB.
LARGEST_BODY: Final = 32 * 1024 * 1024
SMALL_BODY: Final = 64 * 1024
ALL_BODIES: Final = 16 * LARGEST_BODY
BODY_SECONDS: Final = 300.0
# An honest gateway looks at most ten times a second, and a message there and back is nine requests;
# the objects of a large one add some.
REQUESTS_A_SECOND: Final = 60.0
BURST: Final = 1200.0
_FLEET: Final = re.compile(rb"/v1/fleet/[a-z]+(?:-[a-z]+)*")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")


def address_of(scope: Scope) -> Hashable:
    """The address that a request comes from."""
    client = scope.get("client")
    return client[0] if client else ""


class OperatorGate:
    """An ASGI app around another one, which it guards."""

    def __init__(
        self,
        app: App,
        key: str,
        signed: Callable[[Scope], Awaitable[bool]],
        sender: Callable[[Scope], Hashable] = address_of,
        buckets: TokenBuckets | None = None,
    ) -> None:
        """`signed`: whether an admitted node has signed the request; `sender`: who is counted."""
        self._sender = sender
        self._buckets = buckets or TokenBuckets(REQUESTS_A_SECOND, BURST)
        self._app = app
        self._key = key.encode("ascii")
        self._signed = signed
        self._under_way = 0  # bytes of large bodies that were let in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket: the app has none
            await send({"type": "websocket.close", "code": 1008})
            return
        if self._is_operators(scope):
            await self._app(scope, receive, send)
        elif (refusal := refusal_of(scope)) is not None:
            await _answer(send, *refusal)
        elif not self._buckets.takes(self._sender(scope)):
            await _answer(send, 429, "Too many requests of this node. Ask again in a moment.")
        elif (length := _length(scope)) <= SMALL_BODY:
            await self._app(scope, _in_time(receive), send)
        else:
            await self._large(scope, receive, send, length)

    async def _large(self, scope: Scope, receive: Receive, send: Send, length: int) -> None:
        if not await self._signed(scope):
            await _answer(send, 401, "Only an admitted node may send this much.")
        elif self._under_way + length > ALL_BODIES:
            await _answer(send, 503, "Too much at a time. Send it again.")
        else:
            self._under_way += length
            try:
                await self._app(scope, _in_time(receive), send)
            finally:
                self._under_way -= length

    def _is_operators(self, scope: Scope) -> bool:
        shown = _values(scope, KEY_HEADER.encode("ascii"))
        return len(shown) == 1 and hmac.compare_digest(shown[0], self._key)


def refusal_of(scope: Scope) -> tuple[int, str] | None:
    """Status and words for a request without the key, or None if anybody may send it."""
    if not _is_fleet(scope):
        return 401, "Only the operator of this SuperLink may do this."
    lengths = _values(scope, b"content-length")
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        return 411, "Content-Length is required."
    if _length(scope) > LARGEST_BODY:
        return 413, f"At most {LARGEST_BODY} bytes."
    return None


def _is_fleet(scope: Scope) -> bool:
    """Whether this is a request for the Fleet API, for whoever reads it after us too.

    Flower's middlewares look at the path of a URL that is put together from Host and path, its
    router at the path alone: only a request in which both are plain means the same to all.
    """
    path: bytes = scope.get("raw_path") or b""
    hosts = _values(scope, b"host")
    return (
        scope["method"] == "POST"
        and _FLEET.fullmatch(path) is not None
        and scope["path"].encode() == path
        and not scope.get("root_path")
        and not scope.get("query_string")
        and len(hosts) == 1
        and _HOST.fullmatch(hosts[0]) is not None
        and not _values(scope, b"transfer-encoding")
    )


def _in_time(receive: Receive) -> Receive:
    """`receive`, for which the client is gone when a body is not there in time."""
    deadline: list[float] = []

    async def received() -> MutableMapping[str, Any]:
        loop = asyncio.get_running_loop()
        if not deadline:
            deadline.append(loop.time() + BODY_SECONDS)
        try:
            async with asyncio.timeout_at(deadline[0]):
                return await receive()
        except TimeoutError:
            return {"type": "http.disconnect"}

    return received


def _length(scope: Scope) -> int:
    return int(_values(scope, b"content-length")[0])


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


async def _answer(send: Send, status: int, detail: str) -> None:
    """Answer without reading the body, and hang up."""
    body = json.dumps({"detail": detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", KEY_HEADER.encode("ascii")))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
