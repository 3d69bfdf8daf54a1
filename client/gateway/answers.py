"""What an answer of a SuperLink may be: not larger, not longer under way, not other than it looks.

Whoever answers may lie: without bounds an answer without end, or one that unpacks to a thousand
times its size, would fill the memory of the hospital's machine, and one that comes byte by byte
would keep this process busy in silence. An answer that breaks a bound is given up, and the desk is
told.
"""

from __future__ import annotations

import http.cookiejar
import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx

from client.gateway.trouble import FleetTrouble, Trouble

# An object has at most 5 MiB, or 16 MiB in envelopes of older versions.
LARGEST_ANSWER: Final = 32 * 1024 * 1024
ANSWER_SECONDS: Final = 120.0  # from its first line on
_PLAIN: Final = ("", "identity")


def bind_answers(client: httpx.Client, clock: Callable[[], float] = time.monotonic) -> None:
    """Let `client` take only answers within bounds; it raises `FleetTrouble` for others.

    It also keeps no cookies: a server could add to them for ever.
    """

    def bound(response: httpx.Response) -> None:
        if response.headers.get("content-encoding", "").strip().lower() not in _PLAIN:
            raise FleetTrouble(Trouble.STRANGE_ANSWER, "it is packed")
        if int(response.headers.get("content-length") or 0) > LARGEST_ANSWER:
            raise _too_long()
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _Bounded(response.stream, clock)

    client.headers["accept-encoding"] = "identity"
    client.event_hooks = {"response": [bound]}
    nobody = http.cookiejar.DefaultCookiePolicy(allowed_domains=[])
    client.cookies = http.cookiejar.CookieJar(nobody)


class _Bounded(httpx.SyncByteStream):
    """`stream`, up to the largest answer and for so long."""

    def __init__(self, stream: httpx.SyncByteStream, clock: Callable[[], float]) -> None:
        self._stream, self._clock = stream, clock
        self._end = clock() + ANSWER_SECONDS

    def __iter__(self) -> Iterator[bytes]:
        length = 0
        for part in self._stream:
            length += len(part)
            if length > LARGEST_ANSWER:
                raise _too_long()
            if self._clock() > self._end:
                raise FleetTrouble(Trouble.STRANGE_ANSWER, f"it took {ANSWER_SECONDS:.0f} s")
            yield part

    def close(self) -> None:
        self._stream.close()


def _too_long() -> FleetTrouble:
    return FleetTrouble(Trouble.STRANGE_ANSWER, f"it has more than {LARGEST_ANSWER >> 20} MB")
