"""What the desk of `rounds serve` is told of processes that live and do nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from craftsfl.processes.stopped import stands_still
from craftsfl.rounds import standstill
from craftsfl.rounds.standstill import StandstillWatch
from privacy.errors import DeploymentError


@dataclass
class Desk:
    """A watch over a SuperLink that is silent for `takes` seconds of its clock, or not."""

    superlink: int | None = None
    serverapp: int | None = None
    silent: bool = False
    takes: float = 0.0
    now: float = 0.0
    said: list[str] = field(default_factory=list)

    def watch(self) -> StandstillWatch:
        return StandstillWatch(
            self.ask, lambda: self.superlink, lambda: self.serverapp, clock=lambda: self.now
        )

    def ask(self) -> None:
        self.now += self.takes
        if self.silent:
            raise DeploymentError("The SuperLink at host:1 does not answer: it took too long.", "")


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk()
    monkeypatch.setattr(standstill, "say", lambda text, level=0: made.said.append(text))
    return made


@pytest.fixture
def stopped() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    os.kill(process.pid, signal.SIGSTOP)
    end = time.monotonic() + 10
    while not stands_still(process.pid):
        assert time.monotonic() < end
        time.sleep(0.01)
    yield process.pid
    process.kill()
    process.wait()


def test_a_superlink_that_does_not_answer_is_told_once_and_so_is_that_it_does(desk: Desk) -> None:
    watch = desk.watch()
    watch.look()
    desk.silent, desk.takes = True, 30.0
    watch.look()
    watch.look()
    assert len(desk.said) == 1
    assert "does not answer: it took too long. No hospital reaches it." in desk.said[0]
    assert "look at superlink.log and end its process" in desk.said[0]
    desk.silent = False
    watch.look()
    watch.look()
    assert desk.said[1:] == ["The SuperLink answers again."]


def test_one_that_has_ended_is_not_to_be_ended(desk: Desk) -> None:
    watch = desk.watch()
    watch.look()
    desk.silent, desk.takes = True, 30.0
    desk.superlink = os.getpid()
    watch.look()
    assert f"look at superlink.log and end its process {os.getpid()}: it is then" in desk.said[-1]
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    desk.superlink = gone.pid
    watch = desk.watch()
    desk.silent = False
    watch.look()
    desk.silent = True
    watch.look()
    assert "has ended, and another one is started by itself" in desk.said[-1]


def test_a_restart_and_a_start_are_no_silence(desk: Desk) -> None:
    desk.silent = True
    watch = desk.watch()
    for _ in range(5):  # it has never answered: what keeps it from starting is said elsewhere
        desk.now += 10.0
        watch.look()
    desk.silent = False
    watch.look()
    desk.silent = True  # killed: whoever asks is refused at once
    watch.look()
    desk.now += 10.0
    watch.look()
    desk.silent = False
    watch.look()
    assert desk.said == []


def test_a_stopped_process_is_named_with_what_to_do(desk: Desk, stopped: int) -> None:
    watch = desk.watch()
    desk.superlink = desk.serverapp = stopped
    watch.look()
    desk.silent, desk.takes = True, 30.0
    watch.look()
    serverapp, superlink = desk.said
    words = f"process {stopped}, stands still (SIGSTOP): kill -CONT {stopped} lets it go on"
    assert serverapp.startswith(f"The run's ServerApp, {words}, kill -KILL lets another one")
    assert f"Its {words}, kill -KILL has it started anew." in superlink
    os.kill(stopped, signal.SIGCONT)
    end = time.monotonic() + 10
    while stands_still(stopped):
        assert time.monotonic() < end
        time.sleep(0.01)
    desk.silent = False
    watch.look()
    assert len(desk.said) == 4


def test_nobody_waits_for_the_answer(desk: Desk) -> None:
    asked: list[float] = []
    watch = StandstillWatch(
        lambda: asked.append(time.sleep(0.3) or 1.0), lambda: None, lambda: None, clock=lambda: 0.0
    )
    began = time.monotonic()
    for _ in range(20):
        watch.tick()
    assert time.monotonic() - began < 0.2
    watch.close()
    assert len(asked) == 1
