"""The process beside the rounds: busy, dead, talking nonsense, silent. No round notices."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from privacy.errors import ConfigError
from server.context import RunContext
from server.events import QualityMeasured, RunEvent, Warned
from server.quality import QualityWatch
from server.status import QualityStatus
from tests.server.statuses import finished, status_with

# Stands for the process: answers with figures, after whatever `MISCHIEF` does.
PROCESS = """
import json, os, sys, time
def say(number):
    figure = dict(metric="denoising", value=0.5, change=-0.1, low=-0.2, high=0.0)
    figure |= dict(patients=5, images=8)
    print(json.dumps({"round": number, "figures": [figure]}), flush=True)
def wait(name):
    while not os.path.exists(name):
        time.sleep(0.01)
before, during, gate = sys.argv[1:4]
exec(before)
say(0)
for line in sys.stdin:
    exec(during)
    say(json.loads(line)["round"])
"""
HANG = "time.sleep(60)"


class Office:
    """What a watch needs of a run, and what it did."""

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "go"
        self.kept: list[QualityStatus] = []
        self.events: list[RunEvent] = []
        self.started: list[subprocess.Popen[str]] = []
        self.newest = 0
        store = SimpleNamespace(keep_quality=self.kept.append, last_adapter=self.last_adapter)
        clock = SimpleNamespace(time=lambda: 123.0)
        fake = SimpleNamespace(store=store, clock=clock, emit=self.events.append)
        self.context = cast(RunContext, fake)

    def last_adapter(self) -> tuple[int, str, str]:
        return self.newest, f"round-{self.newest}.npz", "00"

    def watch(self, before: str = "", during: str = "", every: int = 2) -> QualityWatch:
        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", PROCESS, before, during, str(self.gate)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.started.append(process)
            return process

        return QualityWatch(start, every, self.context)

    def finish_round(self, watch: QualityWatch, number: int, rounds: int = 6) -> None:
        self.newest = number
        status = status_with(*map(finished, range(1, number + 1)))
        watch.round_finished(replace(status, rounds=rounds))

    def wait(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60.0
        while not ready():
            assert time.monotonic() < deadline, self.events
            time.sleep(0.01)

    @property
    def rounds(self) -> list[int]:
        return [figure.round for figure in self.kept]

    @property
    def warnings(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Warned)]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_the_base_and_every_second_round_are_measured(office: Office) -> None:
    watch = office.watch()
    watch.begin()
    office.wait(lambda: office.rounds == [0])
    for number in range(1, 7):
        office.finish_round(watch, number)
        due = [n for n in (0, 2, 4, 6) if n <= number]
        office.wait(lambda due=due: office.rounds == due)  # type: ignore[misc]
    watch.finish()
    assert {figure.measured for figure in office.kept} == {123.0}
    told = [event for event in office.events if isinstance(event, QualityMeasured)]
    assert [event.round for event in told] == [0, 2, 4, 6]
    assert told[0] == QualityMeasured(0, "denoising", 0.5, -0.1, -0.2, 0.0, 5, 8)
    assert office.warnings == []


def test_a_round_that_is_due_while_it_computes_is_skipped_but_the_last_is_not(
    office: Office,
) -> None:
    watch = office.watch(during="wait(gate)", every=1)
    watch.begin()
    office.wait(lambda: office.rounds == [0])
    began = time.monotonic()
    for number in range(1, 7):
        office.finish_round(watch, number)
    assert time.monotonic() - began < 0.5
    office.gate.touch()
    watch.finish()
    assert office.rounds == [0, 1, 6]
    assert office.warnings == []


def test_the_end_of_a_run_waits_so_long_and_no_longer(office: Office) -> None:
    watch = office.watch(during=HANG, every=1)
    watch.begin()
    office.wait(lambda: office.rounds == [0])
    office.finish_round(watch, 6)
    began = time.monotonic()
    watch.finish(0.5)
    assert time.monotonic() - began < 3.0
    assert "the figure of round 6 was not there" in office.warnings[0]
    assert office.started[0].poll() is not None


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_process_that_is_killed_is_started_once_more_and_said(office: Office, when: str) -> None:
    watch = office.watch(**{when: "os.kill(os.getpid(), 9)"}, every=1)
    watch.begin()
    for number in range(1, 6):
        office.wait(lambda: watch.idle)
        office.finish_round(watch, number)
    office.wait(lambda: watch.idle)
    watch.finish()
    assert len(office.started) == 2
    assert len(office.warnings) == 2
    assert all("ended with status -9" in warning for warning in office.warnings)


def test_what_it_cannot_use_is_said_once_in_its_words(office: Office) -> None:
    say = """print(json.dumps({"error": "No usable tile.", "hint": ""}), flush=True); sys.exit(1)"""
    watch = office.watch(before=say, every=1)
    watch.begin()
    office.wait(lambda: bool(office.warnings))
    for number in (1, 2):
        office.finish_round(watch, number)
    watch.finish()
    assert office.warnings == ["No public quality figure: No usable tile."]
    assert len(office.started) == 1


def test_an_order_that_cannot_be_given_is_a_warning(office: Office) -> None:
    def start() -> subprocess.Popen[str]:
        raise ConfigError("No base.", "Install it.")

    watch = QualityWatch(start, 1, office.context)
    watch.begin()
    office.finish_round(watch, 1)
    watch.finish()
    assert office.warnings == ["No public quality figure: No base. Install it."]


def test_a_run_that_breaks_off_leaves_no_process(office: Office) -> None:
    watch = office.watch(during=HANG, every=1)
    watch.begin()
    office.wait(lambda: office.rounds == [0])
    office.finish_round(watch, 1)
    watch.close()
    office.finish_round(watch, 2)
    assert [process.poll() is None for process in office.started] == [False]
    assert office.warnings == []
