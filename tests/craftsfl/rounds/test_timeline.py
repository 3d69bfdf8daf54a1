"""The live display and the timeline read the coordinator's events as they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from craftsfl.processes.agent_watch import AgentState
from craftsfl.rounds.run_display import EventTail, RunDisplay
from craftsfl.rounds.timeline import Timeline


def test_the_tail_gives_whole_new_lines_only(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"event": "old"}\n')
    tail = EventTail(file)
    assert tail.read() == []
    with file.open("a") as stream:
        stream.write('{"event": "a"}\n{"event"')
    assert tail.read() == [{"event": "a"}]
    with file.open("a") as stream:
        stream.write(': "b"}\n')
    assert tail.read() == [{"event": "b"}]


def test_the_tail_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    tail = EventTail(tmp_path / "events.jsonl")
    assert tail.read() == []
    (tmp_path / "events.jsonl").write_text('{"event": "a"}\n')
    assert tail.read() == [{"event": "a"}]


def test_a_round_is_split_into_training_aggregation_and_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeline = Timeline()
    timeline.see_event({"event": "round-started", "round": 1, "time": 100.0})
    for at in (104.0, 110.0):
        monkeypatch.setattr("craftsfl.rounds.timeline.time.time", lambda at=at: at)
        timeline.see_agent("north", AgentState("training", 1, 1, 4))
    timeline.see_event({"event": "site-finished", "round": 1, "site": "north", "time": 112.0})
    timeline.see_event({"event": "round-finished", "round": 1, "time": 113.0})
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
    timeline.see_event({"event": "round-started", "round": 1, "time": 100.0})
    exchanges = {"advertise": 5.0, "share": 4.0, "masked input": 6.0, "consistency": 3.0}
    for exchange, seconds in {**exchanges, "unmask": 2.5}.items():
        event = {"event": "exchange-finished", "exchange": exchange, "seconds": seconds}
        ended = 109.0 if exchange == "share" else 0.0
        timeline.see_event({**event, "round": 1, "time": ended})
        if exchange == "masked input":
            timeline.see_event({"event": "site-finished", "round": 1, "site": "a", "time": 115.0})
    timeline.see_event({"event": "round-finished", "round": 1, "time": 121.0})
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
        {"event": "round-started", "round": 1, "rounds": 3, "time": 1.0},
        {
            "event": "site-dropped",
            "round": 1,
            "site": "harbour",
            "reason": "no answer",
            "time": 2.0,
        },
        {
            "event": "site-dropped",
            "round": 1,
            "site": "north",
            "reason": "It refused.",
            "exchange": "unmask",
            "in_sum": True,
            "time": 3.0,
        },
        {
            "event": "round-finished",
            "round": 1,
            "rounds": 3,
            "updates": 2,
            "seconds": 9.0,
            "time": 10.0,
        },
        {"event": "run-failed", "reason": "too few sites", "hint": "wait", "time": 11.0},
    ]
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    with display:
        display.refresh()
    text = capsys.readouterr().out
    assert "round 1 of 3" in text
    assert "harbour dropped: no answer" in text
    assert "north dropped at the exchange 'unmask', its update is in the sum: It refused." in text
    assert "2 updates, 9 s, about 18 s left" in text
    assert display.failed is not None and display.failed["reason"] == "too few sites"
