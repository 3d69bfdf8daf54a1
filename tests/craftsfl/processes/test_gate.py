"""What the gate does with keys, paths and bodies; on a real SuperLink: tests/integration."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

from craftsfl.processes.flower import gate
from craftsfl.processes.flower.gate import (
    ALL_BODIES,
    BURST,
    LARGEST_BODY,
    REQUESTS_A_SECOND,
    SMALL_BODY,
    OperatorGate,
)
from craftsfl.processes.flower.nodes import sender_of
from craftsfl.processes.flower.rates import TokenBuckets
from craftsfl.processes.flower.shown_key import KEY_HEADER

KEY = "ab" * 32
Message = MutableMapping[str, Any]


def scope(
    length: object, *more: tuple[bytes, bytes], path: str = "/v1/fleet/push-object"
) -> Message:
    headers = [(b"host", b"x"), (b"content-length", str(length).encode()), *more]
    raw = path.encode()
    return {"type": "http", "method": "POST", "path": path, "raw_path": raw, "headers": headers}


class Site:
    """Asks the gate; the app behind it reads the body until it is told to answer."""

    def __init__(self, *, signed: bool = True) -> None:
        self.signed = signed
        self.seen: list[Message] = []
        self.go_on = asyncio.Event()
        self.gate = OperatorGate(self._app, KEY, self._is_signed)

    async def _is_signed(self, scope: Message) -> bool:
        return self.signed

    async def _app(self, scope: Message, receive: Any, send: Any) -> None:
        self.seen.append(await receive())
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(self, request: Message, body: float | bytes = b"") -> int:
        """The status; `body` as a number: it never comes, and this is how long it is waited for."""
        answers: list[Message] = []

        async def receive() -> Message:
            if not isinstance(body, bytes):
                await asyncio.sleep(60)
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            answers.append(message)

        await self.gate(request, receive, send)
        return int(answers[0]["status"])


async def asked(site: Site, *requests: Message) -> list[int]:
    site.go_on.set()
    return [await site.ask(request) for request in requests]


def test_much_is_read_only_from_who_has_signed() -> None:
    async def run() -> None:
        small, large = scope(SMALL_BODY), scope(SMALL_BODY + 1)
        stranger = Site(signed=False)
        assert await asked(stranger, small, large, scope(LARGEST_BODY + 1)) == [200, 401, 413]
        assert len(stranger.seen) == 1
        assert await asked(Site(), small, large, scope(LARGEST_BODY)) == [200] * 3

    asyncio.run(run())


@pytest.mark.parametrize("length", ["", "-1", "+1", "1 ", "0x1", "9" * 13, "1,1"])
def test_a_length_that_is_none_is_asked_for(length: str) -> None:
    assert asyncio.run(asked(Site(), scope(length))) == [411]


def test_a_length_that_is_told_twice_is_none() -> None:
    assert asyncio.run(asked(Site(), scope(1, (b"content-length", b"1")))) == [411]


def test_all_together_have_a_bound_that_is_given_back() -> None:
    async def run() -> None:
        site, most = Site(), ALL_BODIES // LARGEST_BODY
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(site.ask(scope(LARGEST_BODY))) for _ in range(most)]
            while len(site.seen) < most:
                await asyncio.sleep(0)
            assert await site.ask(scope(LARGEST_BODY)) == 503
            site.go_on.set()
        assert [task.result() for task in waiting] == [200] * most
        assert await site.ask(scope(LARGEST_BODY)) == 200

    asyncio.run(run())


def test_who_never_sends_the_body_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.05)

    async def run() -> None:
        site = Site()
        site.go_on.set()
        assert await site.ask(scope(SMALL_BODY + 1), body=1.0) == 200
        assert site.seen == [{"type": "http.disconnect"}]

    asyncio.run(run())


def test_the_operator_may_send_as_much_as_a_bundle_takes() -> None:
    key = (KEY_HEADER.encode(), KEY.encode())
    bundle = scope(2 * LARGEST_BODY, key, path="/v1/control/start-run")
    assert asyncio.run(asked(Site(signed=False), bundle)) == [200]


NEARLY = KEY[:-1] + "c"


@pytest.mark.parametrize(
    "shown", [(), ("",), (NEARLY,), (KEY.upper(),), (KEY + " ",), (KEY, KEY), (NEARLY, KEY)]
)
def test_only_the_whole_key_shown_once_opens_the_rest(shown: tuple[str, ...]) -> None:
    headers = [(KEY_HEADER.encode(), value.encode()) for value in shown]
    site = Site()
    assert asyncio.run(asked(site, scope(1, *headers, path="/v1/control/start-run"))) == [401]
    assert site.seen == []


@pytest.mark.parametrize(
    "path",
    [
        "//v1/fleet/x",
        "/v1/fleet/",
        "/v1/fleet/../control/x",
        "/V1/fleet/x",
        "/v1/fleet/x/",
        "/v1/fleet/%78",
        "/",
    ],
)
def test_what_only_looks_like_the_fleets_stays_shut(path: str) -> None:
    site = Site()
    assert asyncio.run(asked(site, scope(1, path=path))) == [401]
    assert site.seen == []


def test_nobody_asks_more_often_than_a_gateway_ever_would() -> None:
    now = [0.0]

    async def run() -> None:
        site = Site()
        buckets = TokenBuckets(REQUESTS_A_SECOND, BURST, lambda: now[0])
        site.gate = OperatorGate(site._app, KEY, site._is_signed, sender_of, buckets)
        site.go_on.set()
        first = scope(1, (FLEET_HTTP_PUBLIC_KEY_HEADER.encode(), b"one"))
        other = scope(1, (FLEET_HTTP_PUBLIC_KEY_HEADER.encode(), b"two"))
        elsewhere = {**first, "client": ("192.0.2.7", 5)}
        answers = await asked(site, *[first] * (int(BURST) + 5))
        assert answers == [200] * int(BURST) + [429] * 5
        assert await asked(site, other, elsewhere) == [200, 200]
        assert await asked(site, scope(1, (KEY_HEADER.encode(), KEY.encode()))) == [200]
        now[0] = 1.0
        answers = await asked(site, *[first] * int(REQUESTS_A_SECOND + 1))
        assert answers == [200] * int(REQUESTS_A_SECOND) + [429]

    asyncio.run(run())


def test_a_hundred_gateways_that_look_ten_times_a_second_are_all_let_in() -> None:
    now = [0.0]
    buckets = TokenBuckets(REQUESTS_A_SECOND, BURST, lambda: now[0])
    for tick in range(600):
        now[0] = tick / 10
        assert all(buckets.takes(("one proxy's address", node)) for node in range(100))


def test_so_many_senders_are_remembered_and_no_more() -> None:
    buckets = TokenBuckets(1.0, 1.0, lambda: 0.0)
    for sender in range(3 * 10_000):
        assert buckets.takes(sender)
    assert len(buckets._left) == 10_000
    assert not buckets.takes(3 * 10_000 - 1)
