"""What the desk reads: who has to do what, for everything that can happen."""

from __future__ import annotations

import pytest

from client.forwarder import AtTheSocket, Forwarded
from client.gateway.desk import Desk
from client.gateway.trouble import FleetTrouble, Trouble
from privacy.wire.bodies import Refusal, Running
from privacy.wire.envelope import Envelope, seal
from privacy.wire.reasons import Reason
from tests.client.gateway.fakes import NAMES, Clock, FakeLink


def desk(lines: list[str], clock: Clock | None = None) -> Desk:
    return Desk(NAMES, lines.append, clock=clock or Clock())


@pytest.mark.parametrize("trouble", Trouble)
def test_every_trouble_has_a_sentence_and_something_to_do(trouble: Trouble) -> None:
    lines: list[str] = []
    desk(lines).trouble(FleetTrouble(trouble, "600"))
    (line,) = lines
    assert "{" not in line
    assert any(
        word in line
        for word in ("operator", "Check", "Synchronise", "again", "Compare", "clock is wrong")
    )


@pytest.mark.parametrize("ahead, words", [("600", "600 s ahead of"), ("-400", "400 s behind")])
def test_a_clock_that_is_off_is_told_with_its_figure(ahead: str, words: str) -> None:
    lines: list[str] = []
    desk(lines).trouble(FleetTrouble(Trouble.CLOCK, ahead))
    assert words in lines[0]
    assert "Synchronise the clock" in lines[0]


@pytest.mark.parametrize("found", AtTheSocket)
def test_every_way_not_to_reach_the_agent_names_the_socket(found: AtTheSocket) -> None:
    lines: list[str] = []
    desk(lines).at_the_socket(found)
    assert "/run/agent.sock" in lines[0]


@pytest.mark.parametrize("reason", Reason)
def test_every_refusal_of_the_agent_is_told(reason: Reason) -> None:
    lines: list[str] = []
    answer = seal(Envelope(1, 1, 1, Refusal(reason)))
    desk(lines).answered(Forwarded(answer), lambda: AtTheSocket.LISTENING)
    assert lines[0] == "desk: The agent listens on /run/agent.sock."
    assert len(lines) == 2
    assert len(lines[1]) > 40


def test_the_all_clear_is_given_once_and_only_after_a_refusal() -> None:
    lines: list[str] = []
    told = desk(lines)
    answers = [Running(), Refusal(Reason.NOT_READY), Running(), Running()]
    for body in answers:
        told.answered(Forwarded(seal(Envelope(1, 1, 1, body))), lambda: AtTheSocket.LISTENING)
    assert [line.removeprefix("desk: ") for line in lines[1:]] == [
        "The agent is still loading; the coordinator asks again.",
        "The agent answers the coordinator again.",
    ]


@pytest.mark.parametrize("answer", [b"", b"\xff" * 100, bytes(10_000)])
def test_an_answer_that_is_none_is_not_for_the_desk(answer: bytes) -> None:
    lines: list[str] = []
    desk(lines).answered(Forwarded(answer), lambda: AtTheSocket.LISTENING)
    assert lines == ["desk: The agent listens on /run/agent.sock."]


def test_what_the_other_side_says_cannot_move_the_terminal() -> None:
    lines: list[str] = []
    desk(lines).trouble(FleetTrouble(Trouble.VERSION, "\x1b[2J\n" + "x" * 5000))
    assert "\x1b" not in lines[0]
    assert "\n" not in lines[0]
    assert len(lines[0]) < 600


def test_versions_and_clocks_that_nearly_go_together_are_told_while_it_goes_on() -> None:
    lines: list[str] = []
    link = FakeLink(node=5, version="expected 1.41, got 1.42", ahead=3.5)
    desk(lines).connected(link)
    assert [line.split()[1] for line in lines] == ["Connected", "The", "This"]
    assert "expected 1.41, got 1.42" in lines[1]


def test_a_state_that_lasts_is_said_again_from_time_to_time() -> None:
    lines: list[str] = []
    clock = Clock()
    told = desk(lines, clock)
    for _ in range(70):
        told.at_the_socket(AtTheSocket.NO_FILE)
        clock.now += 10
    assert len(lines) == 2


def test_a_time_in_the_words_makes_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock's seconds are not exact, and a clock goes on: neither is a line for the desk."""
    lines: list[str] = []
    told = desk(lines)
    for ahead in ("600", "601", "599", "600"):
        told.trouble(FleetTrouble(Trouble.CLOCK, ahead))
    assert len(lines) == 1
    told.trouble(FleetTrouble(Trouble.CLOCK, "-600"))
    assert "behind" in lines[1]
    for minute in range(3):
        monkeypatch.setattr("time.strftime", lambda form, minute=minute: f"12:0{minute}")
        told.trouble(FleetTrouble(Trouble.CERTIFICATE_EXPIRED, "has expired"))
    assert len(lines) == 3
    told.trouble(FleetTrouble(Trouble.CLOCK, "-600"))
    assert len(lines) == 4
