"""The live display and the timeline read the coordinator's events as they are written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from craftsfl.processes.agent_watch import AgentState
from craftsfl.rounds.run_display import EventTail, RunDisplay, ShownRun
from craftsfl.rounds.timeline import Timeline
from privacy.errors import WireError
from server.event_lines import LoggedEvent, encode_event
from server.events import (
    ExchangeFinished,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunFailed,
    RunStarted,
    RunWaiting,
    SiteDropped,
    SiteFinished,
    Warned,
)

IN_ROUND_1 = (1, 3, 1)  # round, of how many, attempt


def line(event: RunEvent, time: float = 0.0) -> bytes:
    return encode_event(LoggedEvent(time, "7", event))


def test_the_tail_gives_whole_new_lines_only(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(line(Warned("old")))
    tail = EventTail(file)
    assert tail.read() == []
    first, second = line(Warned("a")), line(Warned("b"))
    with file.open("ab") as stream:
        stream.write(first + second[:20])
    assert [logged.event for logged in tail.read()] == [Warned("a")]
    with file.open("ab") as stream:
        stream.write(second[20:])
    assert [logged.event for logged in tail.read()] == [Warned("b")]


def test_the_tail_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    tail = EventTail(tmp_path / "events.jsonl")
    assert tail.read() == []
    (tmp_path / "events.jsonl").write_bytes(line(Warned("a"), 3.0))
    assert tail.read() == [LoggedEvent(3.0, "7", Warned("a"))]


def test_the_tail_leaves_out_what_a_newer_coordinator_writes(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    tail = EventTail(file)
    file.write_bytes(b'{"time":1.0,"event":"moon-risen","run":"7"}\n' + line(Warned("a")))
    assert [logged.event for logged in tail.read()] == [Warned("a")]


def test_a_line_that_is_not_an_event_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    tail = EventTail(file)
    file.write_bytes(b'{"time":1.0,"ev\n')
    with pytest.raises(WireError, match="craftsfl rounds status"):
        tail.read()


def see(timeline: Timeline, at: float, event: RunEvent) -> None:
    timeline.see_event(LoggedEvent(at, "7", event))


def finished(seconds: float) -> RoundFinished:
    return RoundFinished(
        *IN_ROUND_1, updates=2, adapter_norm=1.0, seconds=seconds, sites=("a", "b"), masked=True
    )


def test_a_round_is_split_into_training_aggregation_and_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeline = Timeline()
    see(timeline, 100.0, RoundStarted(*IN_ROUND_1, ("north",)))
    for at in (104.0, 110.0):
        monkeypatch.setattr("craftsfl.rounds.timeline.time.time", lambda at=at: at)
        timeline.see_agent("north", AgentState("training", 1, 1, 4))
    see(timeline, 112.0, SiteFinished(*IN_ROUND_1, "north", epsilon=None, seconds=12.0))
    see(timeline, 113.0, finished(13.0))
    (timing,) = timeline.rounds
    assert (timing.total, timing.training, timing.aggregation) == (13.0, 6.0, 1.0)
    assert timing.waiting == 6.0


@pytest.mark.parametrize(
    ("trained_until", "added"), [(None, 9.5), (104.0, 9.5), (107.0, 7.5), (112.0, 5.5)]
)
def test_a_masked_round_is_split_into_its_exchanges(
    monkeypatch: pytest.MonkeyPatch, trained_until: float | None, added: float
) -> None:
    """Shares travel from 105 to 109; what of that falls into training is not added."""
    timeline = Timeline()
    if trained_until is not None:
        monkeypatch.setattr("craftsfl.rounds.timeline.time.time", lambda: trained_until)
        timeline.see_agent("a", AgentState("training", 1, 1, 4))
    see(timeline, 100.0, RoundStarted(*IN_ROUND_1, ("a",)))
    exchanges = {"advertise": 5.0, "share": 4.0, "masked input": 6.0, "consistency": 3.0}
    for exchange, seconds in {**exchanges, "unmask": 2.5}.items():
        ended = 109.0 if exchange == "share" else 0.0
        see(timeline, ended, ExchangeFinished(*IN_ROUND_1, exchange, seconds, 1, 1))
        if exchange == "masked input":
            see(timeline, 115.0, SiteFinished(*IN_ROUND_1, "a", epsilon=None, seconds=15.0))
    see(timeline, 121.0, finished(21.0))
    (timing,) = timeline.rounds
    assert timing.exchanges == {**exchanges, "unmask": 2.5}
    assert timing.masking == added
    assert timing.aggregation == 0.5


def test_the_display_says_who_dropped_out_and_how_long_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "events.jsonl"
    display = RunDisplay(file)
    events = [
        RoundStarted(*IN_ROUND_1, ("harbour", "north")),
        SiteDropped(*IN_ROUND_1, "harbour", "no answer", exchange="", in_sum=False),
        SiteDropped(*IN_ROUND_1, "north", "It refused.", exchange="unmask", in_sum=True),
        finished(9.0),
        RunFailed("too few sites", "wait"),
    ]
    file.write_bytes(b"".join(line(event) for event in events))
    with display:
        display.refresh()
    text = capsys.readouterr().out
    assert "round 1 of 3" in text
    assert "harbour dropped: no answer" in text
    assert "north dropped at the exchange 'unmask', its update is in the sum: It refused." in text
    assert "2 updates, 9 s, about 18 s left" in text
    assert display.failed == RunFailed("too few sites", "wait")


def test_only_the_run_that_is_shown_is_shown_and_from_its_beginning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another study's run of the same number, an earlier run, and the one that is watched."""
    monkeypatch.setenv("COLUMNS", "200")
    file, began = tmp_path / "events.jsonl", time.time() - 100.0
    lines = [
        LoggedEvent(began - 50.0, "2", RunFailed("of another study", "")),
        LoggedEvent(began - 20.0, "1", RunFailed("of an earlier run", "")),
        LoggedEvent(began + 5.0, "2", RunStarted(3, ("harbour",), resumed=True)),
        LoggedEvent(began + 30.0, "2", RunWaiting("harbour (2 of 3 are there).")),
        LoggedEvent(began + 40.0, "1", RunFailed("of an earlier run", "")),
    ]
    file.write_bytes(b"".join(encode_event(logged) for logged in lines))
    display = RunDisplay(file, run=ShownRun(2, began))
    with display:
        display.refresh()
    text = capsys.readouterr().out
    assert display.failed is None
    assert "[  5.0 s] a new ServerApp goes on with the run" in text
    assert "[ 30.0 s] waiting for harbour (2 of 3 are there)." in text
