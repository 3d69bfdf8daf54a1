"""Messages that come while the agent still loads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

import client.agent.__main__ as agent_main
from client.agent.__main__ import Gate
from privacy.wire.bodies import Hello, Refusal
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.reasons import Reason

HELLO = seal(Envelope(7, 0, 0, Hello(bytes(32))))


class Echo:
    """Answers like an agent."""

    def handle(self, data: bytes) -> bytes:
        return b"answer to " + data


def test_a_message_waits_for_the_agent() -> None:
    gate = Gate()
    with ThreadPoolExecutor() as pool:
        early = pool.submit(gate.handle, HELLO)
        gate.open(Echo())  # type: ignore[arg-type]
        assert early.result(agent_main.PATIENCE_SECONDS / 2) == b"answer to " + HELLO
    assert gate.handle(HELLO) == b"answer to " + HELLO


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_main, "PATIENCE_SECONDS", 0.01)
    answer = open_envelope(Gate().handle(HELLO), limit=1000)
    assert answer.body == Refusal(Reason.NOT_READY)
