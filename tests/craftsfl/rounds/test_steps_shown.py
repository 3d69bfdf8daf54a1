"""A pooled study's run as its operator sees it: steps, sessions, and what was lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from craftsfl.rounds.run_display import RunDisplay
from craftsfl.rounds.watching import show_status
from craftsfl.simulation.clock import SteppedClock
from server.event_lines import LoggedEvent, encode_event
from server.events import RoundFailed, RoundFinished, RoundStarted, SessionOpened
from server.run_name import RunName
from server.store import Store
from server.tables import PartState
from tests.pooled_study import pooled_study

STEP = (2, 3, 1)


def test_the_display_counts_steps_and_says_why_there_is_a_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "events.jsonl"
    display = RunDisplay(file)
    events = [
        SessionOpened(7, ("harbour", "north"), 1e9, "harbour has lost its keys."),
        RoundStarted(*STEP, ("harbour", "north"), "step"),
        RoundFailed(2, 1, "north: too late.", "step"),
        RoundFinished(*STEP, 2, 1.0, 9.0, ("harbour", "north"), masked=True, unit="step"),
    ]
    file.write_bytes(b"".join(encode_event(LoggedEvent(0.0, "1", event)) for event in events))
    with display:
        display.refresh()
    text = capsys.readouterr().out
    assert "session 7 of harbour, north: harbour has lost its keys." in text
    assert "step 2 of 3" in text
    assert "step 2 failed: north: too late." in text
    assert "step 2 of 3 done: 2 updates, 9 s" in text


def test_the_status_counts_steps_and_spare_attempts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt was lost with vectors asked for, one before: that one is charged nowhere."""
    monkeypatch.setenv("COLUMNS", "200")
    study = pooled_study()
    settings = tmp_path / "consortium.toml"
    settings.write_text('study = "study.toml"\nstate = "state"\n')
    (tmp_path / "state").mkdir()
    url = f"sqlite:///{tmp_path / 'state' / 'rounds.db'}"
    store = Store(url, RunName(study.digest(), 1), SteppedClock())
    store.begin(study)
    for attempt, exchange in ((1, "vectors"), (2, "start")):
        store.open_attempt(1, attempt, ["north", "harbour"])
        store.part((1, attempt), "north", PartState.DROPPED, "It was late.", exchange)
        store.attempt_failed((1, attempt), "It was late.")
    store.close()
    show_status(settings, None, as_json=False)
    text = capsys.readouterr().out
    assert "step 0 of 3, 1 of 2 spare attempts lost." in text
    assert "north at vectors (It was late.)" in text
    show_status(settings, None, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["unit"], said["lost"], said["spare"]) == ("step", 1, 2)
