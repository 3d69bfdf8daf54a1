"""A run whose ServerApp is killed with SIGKILL goes on by itself, on real Flower processes."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.plane import Plane
from bench.plane_faults import ledgers_of
from bench.plane_study import PlaneStudy
from craftsfl.rounds.condition import RunCondition, condition_of
from craftsfl.rounds.keeper import Keeper
from craftsfl.rounds.operator import keeper_of
from craftsfl.rounds.run_display import EventTail
from privacy.ledger import State, read_ledger
from server.event_lines import LoggedEvent
from server.events import RoundFinished, RunFailed, RunFinished, RunStarted, SiteStarted
from server.life import now_serving
from server.settings import load_consortium
from server.status_reader import read_status
from server.tables import AttemptState
from tests.integration.five_sites import NAMES, FiveSites, wanted

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture
def sites(tmp_path: Path, tiny_base: Path, study_values: dict[str, Any]) -> Iterator[FiveSites]:
    study_values["privacy"]["attempts"] = 2
    made = FiveSites(tmp_path / "run", tiny_base, study_values, rounds=2)
    yield made
    made.supervisor.stop()
    shutil.rmtree(made.runtime, ignore_errors=True)


class Watch:
    """Reads a run's events while a keeper looks after it."""

    def __init__(self, sites: FiveSites, keeper: Keeper) -> None:
        self.keeper = keeper
        self.tail = EventTail(load_consortium(sites.consortium).events_file())
        self.tail._offset = 0
        self.seen: list[LoggedEvent] = []

    def until(self, wanted: Callable[[LoggedEvent], bool]) -> LoggedEvent:
        """The next such event; fails if the run does."""
        while True:
            self.keeper.tick()
            new = self.tail.read()
            self.seen += new
            assert not any(isinstance(logged.event, RunFailed) for logged in new), new
            found = [logged for logged in new if wanted(logged)]
            if found:
                return found[0]
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.ci
def test_a_killed_serverapp_is_replaced_and_nothing_is_charged_twice(sites: FiveSites) -> None:
    assert sites.serve({}) == 1
    settings = load_consortium(sites.consortium)
    keeper = keeper_of(sites.consortium, sites.folder / "logs")
    watch = Watch(sites, keeper)
    watch.until(lambda logged: isinstance(logged.event, SiteStarted) and logged.event.round == 2)
    first = now_serving(settings.lock_file())
    assert first is not None and first.run == 1
    os.kill(first.pid, signal.SIGKILL)
    killed = time.time()
    while now_serving(settings.lock_file()) is not None:
        time.sleep(0.01)
    now = condition_of(settings, sites.status(1))
    assert (now.condition, now.alive) == (RunCondition.INTERRUPTED, False)
    again = watch.until(lambda logged: isinstance(logged.event, RunStarted))
    assert isinstance(again.event, RunStarted) and again.event.resumed
    print(f"another ServerApp after {again.time - killed:.1f} s")
    assert again.time - killed < 30
    began = watch.until(lambda logged: isinstance(logged.event, SiteStarted))
    print(f"training again after {began.time - killed:.1f} s")
    end = watch.until(lambda logged: isinstance(logged.event, RunFinished))
    keeper.close()
    assert {logged.run for logged in watch.seen} == {"1"}
    assert end.event.name == "run-finished"
    status = sites.status(1)
    assert status.flower_run != first.flower_run
    assert [(item.round, item.attempt, item.state) for item in status.history] == [
        (1, 1, AttemptState.FINISHED),
        (2, 1, AttemptState.FAILED),
        (2, 2, AttemptState.FINISHED),
    ]
    for number in (1, 2):
        assert sites.moved(number) == pytest.approx(wanted(sites.study, set()), abs=1e-7)
    for name in NAMES:
        entries = read_ledger(sites.folder / name / "ledger.sqlite").entries()
        # Nobody looked at the attempt that was under way before its slot: it costs nothing.
        assert [(e.key.run, e.key.round, e.key.attempt, e.state) for e in entries] == [
            (1, 1, 1, State.COMMITTED),
            (1, 2, 1, State.INTENT),
            (1, 2, 2, State.COMMITTED),
        ]


@pytest.mark.slow
def test_a_serverapp_that_stands_still_for_two_minutes_damages_nothing(tmp_path: Path) -> None:
    """Flower gives it up after a minute; nobody takes its run over, and the run goes on."""
    plane = Plane(tmp_path, PlaneStudy(rounds=40, attempts=4))
    try:
        plane.start()
        settings = plane.settings
        assert plane.wait_for(lambda logged: isinstance(logged.event, RoundFinished), 120)
        assert plane.wait_for(lambda logged: isinstance(logged.event, SiteStarted), 60)
        status = read_status(settings.database_url())
        under_way = (status.history[-1].round, status.history[-1].attempt)
        frozen = now_serving(settings.lock_file())
        assert frozen is not None
        os.kill(frozen.pid, signal.SIGSTOP)
        time.sleep(125)
        assert now_serving(settings.lock_file()) == frozen
        now = condition_of(settings, read_status(settings.database_url()))
        assert now.alive and "stands still" in now.words
        os.kill(frozen.pid, signal.SIGCONT)
        woken = time.time()
        for _ in range(2):
            assert plane.wait_for(lambda logged: isinstance(logged.event, RoundFinished), 120)
        print(f"two rounds {time.time() - woken:.0f} s after it woke up")
        status = read_status(settings.database_url())
        assert status.run == 1
        finished = [i.round for i in status.history if i.state is AttemptState.FINISHED]
        assert finished == list(range(1, len(finished) + 1))
    finally:
        plane.stop()
    books = ledgers_of(plane, {under_way})
    assert (books.double, books.uncaused) == ({}, {})
