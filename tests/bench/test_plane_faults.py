"""What `bench.faults plane` counts, and a short version of it on real processes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import plane_long
from bench.plane import Plane
from bench.plane_faults import PLANE_PARTS, Books, measure_plane, rows_of
from bench.plane_long import KillTrial, LongStudy, Pause, counted
from bench.plane_study import PlaneStudy
from server.event_lines import LoggedEvent
from server.events import RoundFailed, SessionOpened


def test_a_row_sums_up_the_kills_of_one_process() -> None:
    trials = [
        KillTrial("serverapp", 0, (2, 1), 1.25, 4.0, resumed=True),
        KillTrial("agent", 4, (5, 1), 0.5, 2.0, resumed=True),
        KillTrial("serverapp", 5, (9, 2), 3.0, None, resumed=False),
    ]
    first, second = rows_of(trials, Books(double={10: 1}, uncaused={3: 2, 1: 1, 7: 4}))
    assert first == {
        "mode": "threshold",
        "fault": "SIGKILL of the serverapp",
        "studies": 1,
        "trials": 2,
        "resumed": 1,
        "double_released": 1,  # in round 10, after the kill in round 9
        "uncaused_charges": 3,
        "lost": 0,
        "sessions": 0,
        "seconds_p95": pytest.approx(4.0 + 0.95 * (120.0 - 4.0), abs=0.01),
        "moments": "0:2.1+1.2 5:9.2+3.0",
    }
    assert (second["fault"], second["uncaused_charges"]) == ("SIGKILL of the agent", 4)


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_whatever_is_killed_the_run_goes_on_and_nothing_is_charged_without_cause() -> None:
    rows = measure_plane(len(PLANE_PARTS))
    assert len(rows) == len(PLANE_PARTS)
    for row in rows:
        assert (row["trials"], row["resumed"]) == (1, 1), row
        assert (row["double_released"], row["uncaused_charges"]) == (0, 0), row
        assert isinstance(row["seconds_p95"], float) and math.isfinite(row["seconds_p95"])
        assert row["seconds_p95"] <= 30, row


def test_what_a_kill_costs_is_counted_until_the_next_one() -> None:
    trials = [
        KillTrial("serverapp", 0, (2, 1), 1.25, 4.0, resumed=True, killed=100.0),
        KillTrial("agent", 4, (5, 1), 0.5, 2.0, resumed=True, killed=200.0),
    ]
    failed = RoundFailed(2, 1, "It was lost.")
    opened = SessionOpened(3, ("east",), 1e9, "east has lost its keys.")
    events = [
        LoggedEvent(time, "1", event)
        for time, event in ((99.0, failed), (100.5, failed), (200.5, failed), (201.0, opened))
    ]
    first, second = counted(trials, events)
    assert (first.lost, first.sessions) == (1, 0)
    assert (second.lost, second.sessions) == (1, 1)


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_sealed_steps_survive_the_same_and_lose_one_step_at_most() -> None:
    rows = measure_plane(len(PLANE_PARTS), mode="pooled")
    assert len(rows) == len(PLANE_PARTS)
    for row in rows:
        assert (row["trials"], row["resumed"]) == (1, 1), row
        assert (row["double_released"], row["uncaused_charges"]) == (0, 0), row
        assert row["lost"] in (0, 1), row
        assert row["sessions"] == (row["fault"] == "SIGKILL of the agent"), row


def test_what_is_opened_after_a_pause_is_no_kills_fault() -> None:
    trials = [KillTrial("gateway", 0, (2, 1), 1.0, 4.0, resumed=True, killed=100.0)]
    opened = SessionOpened(3, ("east",), 1e9, "the run has none.")
    events = [LoggedEvent(time, "1", opened) for time in (120.0, 300.0)]
    assert counted(trials, events)[0].sessions == 2
    assert counted(trials, events, pauses=[50.0, 120.0])[0].sessions == 1


@dataclass
class QuietPlane:
    """Starts nothing; writes down what it was asked for."""

    folder: Path
    study: PlaneStudy
    asked: list[str] = field(default_factory=list)
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(database_url=lambda: "sqlite:///nowhere")
    )

    def start(self) -> None:
        self.asked.append("start")

    def go_on(self) -> None:
        self.asked.append("go on")

    def stop(self) -> None:
        self.asked.append("stop")

    def all_events(self) -> list[LoggedEvent]:
        return [LoggedEvent(70.0, "1", RoundFailed(2, 1, "It was lost."))]


def test_the_kills_of_one_study_are_spread_over_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_long, "Plane", QuietPlane)
    newest = SimpleNamespace(history=[SimpleNamespace(round=9, attempt=2)])
    monkeypatch.setattr(plane_long, "read_status", lambda url: newest)
    interrupt = [6]

    def killed(plane: Plane, seed: int) -> KillTrial:
        if seed in interrupt:
            raise KeyboardInterrupt
        return KillTrial("agent", seed, (seed, 1), 0.5, 1.0, resumed=seed != 6, killed=10.0 * seed)

    def study() -> LongStudy:
        return LongStudy(tmp_path / "long", PlaneStudy(rounds=50))

    seeds = range(3, 10)
    first = study()
    assert first.go_on(seeds, 2, killed) == 2
    second = study()
    assert [trial.seed for trial in second.trials] == [3, 4]
    with pytest.raises(KeyboardInterrupt):
        second.go_on(seeds, 5, killed)
    interrupt.clear()
    third = study()
    assert [trial.seed for trial in third.trials] == [3, 4, 5]
    assert third.pauses == [Pause(70.0, (9, 2))]
    assert third.go_on(seeds, 99, killed) == 1  # the run does not survive seed 6
    assert third.over
    assert third.harmed() == {(3, 1), (4, 1), (5, 1), (6, 1), (9, 2)}
    assert study().go_on(seeds, 99, killed) == 0
    asked = [made.plane.asked for made in (first, second, third)]  # type: ignore[attr-defined]
    assert asked == [["start", "stop"], ["go on", "stop"], ["go on", "stop"]]


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_long_study_goes_on_in_another_call(tmp_path: Path) -> None:
    (row,) = measure_plane(3, keep=tmp_path, now=1)
    assert row["trials"] == 1
    rows = measure_plane(3, keep=tmp_path, now=2)
    assert [(row["studies"], row["trials"], row["resumed"]) for row in rows] == [(1, 1, 1)] * 3
    assert all((row["double_released"], row["uncaused_charges"]) == (0, 0) for row in rows), rows
