"""How far a long command is, for whoever reads its log in the morning."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from craftsfl import logged_bars
from craftsfl.logged_bars import LoggedBars


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(logged_bars, "time", clock)
    return clock


def shown(clock: Clock, *, terminal: bool = False, quiet: bool = False) -> list[str]:
    """What is printed of 100 steps of one second each, before the bar itself is."""
    stream = StringIO()
    console = Console(file=stream, force_terminal=terminal, quiet=quiet, width=10_000)
    bars = LoggedBars("{task.description}", console=console)
    task = bars.add_task("starting", total=None)
    for step in range(100):
        clock.now += 1
        bars.update(task, description="steps", completed=step, total=250)
    return stream.getvalue().splitlines()


def test_a_log_gets_a_line_every_half_minute(clock: Clock) -> None:
    assert shown(clock) == ["steps: 30 of 250", "steps: 60 of 250", "steps: 90 of 250"]


def test_a_terminal_has_bars_instead_and_quiet_is_quiet(clock: Clock) -> None:
    assert shown(clock, terminal=True) == shown(clock, quiet=True) == []


def test_what_has_no_end_yet_is_named(clock: Clock) -> None:
    stream = StringIO()
    bars = LoggedBars(console=Console(file=stream))
    task = bars.add_task("[reading]", total=None)
    bars.update(task, completed=0)
    clock.now += 31
    bars.update(task, completed=3)
    assert stream.getvalue() == "[reading] ...\n"
