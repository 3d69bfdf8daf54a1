"""What `bench.faults plane` counts, and a short version of it on real processes."""

from __future__ import annotations

import math

import pytest

from bench.plane_faults import PLANE_PARTS, Books, KillTrial, counted, measure_plane, rows_of
from server.events import LoggedEvent, RoundFailed, SessionOpened


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
