"""What a SuperLink, or whoever answers in its place, cannot do to the process that asks."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import httpx
import pytest

from client.gateway.answers import ANSWER_SECONDS, LARGEST_ANSWER, bind_answers
from client.gateway.trouble import FleetTrouble, Trouble


def asked(answer: httpx.Response, now: list[float] | None = None) -> httpx.Response:
    """What a client makes of `answer`; `now`: the clock, each moment once."""
    times = iter(now) if now else None
    transport = httpx.MockTransport(lambda request: answer)
    with httpx.Client(transport=transport, follow_redirects=True) as client:
        bind_answers(client, clock=(lambda: next(times)) if times else lambda: 0.0)
        found = client.get("https://superlink")
        assert len(client.cookies) == 0
        assert found.request.headers["accept-encoding"] == "identity"
        return found


def test_an_answer_within_bounds_is_taken_whole_and_no_cookie_is_kept() -> None:
    found = asked(httpx.Response(200, content=b"ab" * 1000, headers={"Set-Cookie": "a=b; Path=/"}))
    assert found.content == b"ab" * 1000


@pytest.mark.parametrize("kind", ["gzip", " GZIP ", "deflate", "br", "identity, gzip"])
def test_a_packed_answer_is_not_unpacked(kind: str) -> None:
    bomb = gzip.compress(bytes(1_000_000))
    with pytest.raises(FleetTrouble, match="packed") as caught:
        asked(httpx.Response(200, stream=Pieces([bomb]), headers={"Content-Encoding": kind}))
    assert caught.value.trouble is Trouble.STRANGE_ANSWER


class Pieces(httpx.SyncByteStream):
    """A body that is sent piece by piece."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.sent, self.closed, self._pieces = 0, False, pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.sent += 1
            yield piece

    def close(self) -> None:
        self.closed = True


def test_an_answer_without_end_is_given_up() -> None:
    megabyte = bytes(1 << 20)
    body = Pieces([megabyte] * 1000)
    with pytest.raises(FleetTrouble, match="more than 32 MB") as caught:
        asked(httpx.Response(200, stream=body))
    assert caught.value.trouble is Trouble.STRANGE_ANSWER
    assert body.closed
    assert body.sent == LARGEST_ANSWER // len(megabyte) + 1


def test_so_is_one_that_says_beforehand_that_it_is_too_long() -> None:
    body = Pieces([b"a"])
    headers = {"Content-Length": str(LARGEST_ANSWER + 1)}
    with pytest.raises(FleetTrouble, match="more than 32 MB"):
        asked(httpx.Response(200, stream=body, headers=headers))
    assert body.sent == 0


def test_one_that_comes_byte_by_byte_is_not_waited_for() -> None:
    body = Pieces([b"a"] * 1000)
    with pytest.raises(FleetTrouble, match="120 s"):
        asked(httpx.Response(200, stream=body), [0.0, 1.0, ANSWER_SECONDS, ANSWER_SECONDS + 0.1])
    assert (body.sent, body.closed) == (3, True)


def test_a_redirection_is_bound_too() -> None:
    body = Pieces([bytes(1 << 20)] * 100)
    with pytest.raises(FleetTrouble, match="more than 32 MB"):
        asked(httpx.Response(302, stream=body, headers={"Location": "https://elsewhere"}))
