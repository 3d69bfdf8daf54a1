"""What is done about a run whose ServerApp has ended; Flower is a list here, the rest is real."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from craftsfl.rounds.condition import RunCondition, condition_of
from craftsfl.rounds.keeper import Keeper
from craftsfl.simulation.clock import SteppedClock
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.secagg.chain import write_rosters
from privacy.study.manifest import load_study
from server.life import serving
from server.runs import Runs
from server.settings import ConsortiumSettings, load_consortium
from server.status import RunStatus
from server.status_reader import read_status
from server.store import Store
from server.tables import RunState, Wish
from tests.server.masked import FOUR, study_of_four

Said = Callable[[], list[str]]


@dataclass
class FakeFlower:
    """Remembers what was asked of Flower; `gone`: the SuperLink does not answer."""

    started: list[int] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    over: dict[int, str] = field(default_factory=dict)
    gone: bool = False

    def start(self, run: int) -> int:
        self.check()
        self.started.append(run)
        return 2**63 + len(self.started)

    def ended(self, flower_run: int) -> str | None:
        self.check()
        return self.over.get(flower_run)

    def stop(self, flower_run: int) -> None:
        self.check()
        self.stopped.append(flower_run)

    def check(self) -> None:
        if self.gone:
            raise DeploymentError(
                "The SuperLink does not answer.", "Start it.", id=ErrorId.SUPERLINK_SILENT
            )


class Desk:
    """A coordinator's files, with a study of one open run, and its keeper."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        study = study_of_four(values).model_dump(mode="json", exclude_none=True)
        (folder / "study.toml").write_text(tomli_w.dumps(study), "utf-8")
        write_rosters(folder / "roster.cfl", [FOUR.signed])
        (folder / "consortium.toml").write_text(
            'study = "study.toml"\nstate = "."\nroster = "roster.cfl"\n', "utf-8"
        )
        self.settings: ConsortiumSettings = load_consortium(folder / "consortium.toml")
        self.study = load_study(self.settings.study)
        self.clock = SteppedClock()
        self.flower = FakeFlower()
        self.log = folder / "serverapp.log"
        self.keeper = self.make_keeper()
        self.runs = Runs(self.settings.database_url(), self.clock)
        self.name = self.runs.begin(self.study)
        self.runs.carried(self.name, self.flower.start(self.name.number))
        self.clock.sleep(1)

    def make_keeper(self) -> Keeper:
        return Keeper(self.settings, self.flower, self.log, self.clock)

    def carrier(self) -> int:
        found = self.status().flower_run
        assert found is not None
        return found

    def served(self) -> ExitStack:
        """The newest Flower run's ServerApp is alive until the result is closed."""
        stack = ExitStack()
        stack.enter_context(serving(self.settings.lock_file(), self.name.number, self.carrier()))
        return stack

    def look(self, seconds: float = 0.0) -> list[int]:
        """Let time pass, and the keeper look; returns the runs it has started by now."""
        self.clock.sleep(seconds)
        self.keeper.look()
        return self.flower.started

    def store(self) -> Store:
        return Store(self.settings.database_url(), self.name, self.clock)

    def status(self) -> RunStatus:
        return read_status(self.settings.database_url())


@pytest.fixture
def desk(tmp_path: Path, study_values: dict[str, Any]) -> Iterator[Desk]:
    made = Desk(tmp_path, study_values)
    yield made
    made.keeper.close()
    made.runs.close()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return lambda: capsys.readouterr().err.splitlines()


def test_a_run_whose_serverapp_was_killed_goes_on_under_another_flower_run(
    desk: Desk, said: Said
) -> None:
    first = desk.carrier()
    desk.log.write_text("one line\nMemoryError: too large\n\n", "utf-8")
    desk.served().close()
    assert desk.look() == [1, 1]
    assert desk.flower.stopped == [first]
    assert desk.carrier() != first
    assert said() == [
        "The ServerApp of run 1 has ended: MemoryError: too large",
        "Run 1 of test-study: a ServerApp was started.",
    ]
    assert desk.status().last_words == "MemoryError: too large"


def test_while_a_serverapp_lives_nobody_takes_over(desk: Desk) -> None:
    with desk.served():
        for _ in range(5):
            desk.clock.sleep(600)
            desk.keeper.tick()
    assert desk.flower.started == [1]


def test_tick_never_waits_for_flower(desk: Desk) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(flower_run: int) -> None:
        reached.set()
        go_on.wait(20)

    desk.flower.stop = slow  # type: ignore[method-assign]
    desk.served().close()
    desk.keeper.tick()
    assert reached.wait(20)
    desk.clock.sleep(5)
    desk.keeper.tick()
    assert desk.flower.started == [1]
    go_on.set()
    desk.keeper.close()
    assert desk.flower.started == [1, 1]


def test_a_start_has_time_to_begin(desk: Desk) -> None:
    assert desk.look() == [1]
    assert desk.look(30) == [1]  # Flower says that it has not ended
    desk.flower.over[desk.carrier()] = "The ServerApp ended with status 1."
    assert desk.look(1) == [1, 1]
    assert "status 1" in desk.status().last_words
    assert desk.look(89) == [1, 1]
    assert desk.look(2) == [1, 1, 1]  # nothing begins for a minute and a half: once more


def test_a_run_that_was_never_started_is_started(desk: Desk) -> None:
    desk.runs.stopped(desk.name)
    desk.name = desk.runs.begin(desk.study)
    assert desk.look(5) == [1]  # whoever created it is about to
    assert desk.look(6) == [1, 2]


def test_a_superlink_that_is_away_is_waited_for(desk: Desk, said: Said) -> None:
    desk.served().close()
    desk.flower.gone = True
    for _ in range(10):
        assert desk.look(1) == [1]
    asked = "The SuperLink does not answer. It is asked again by itself."
    assert said() == [f"The run cannot be looked after: {asked}"]  # by the one who starts it
    desk.flower.gone = False
    assert desk.look(1) == [1, 1]


def test_starts_that_bring_nothing_come_at_growing_intervals(desk: Desk) -> None:
    desk.served().close()
    desk.look(0.5)  # the first comes at once
    for pause in (2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        before = len(desk.flower.started)
        desk.served().close()
        assert len(desk.look(pause - 0.5)) == before
        assert len(desk.look(1)) == before + 1


def test_a_finished_round_makes_the_next_start_immediate(desk: Desk) -> None:
    desk.served().close()
    desk.look(1)
    for number in range(1, 5):
        store = desk.store()
        store.keep_adapter(number, ("a.npz", "00"))
        store.close()
        desk.served().close()
        assert len(desk.look(1)) == 2 + number


def test_an_edited_study_is_named_and_the_run_goes_on_once_it_is_restored(
    desk: Desk, said: Said
) -> None:
    text = desk.settings.study.read_text("utf-8")
    desk.settings.study.write_text(text.replace("rounds = 2", "rounds = 3"), "utf-8")
    desk.served().close()
    for _ in range(3):
        assert desk.look(1) == [1]
    (line,) = said()
    assert line.startswith("Run 1 cannot go on. study.toml is not the study file with which")
    now = condition_of(desk.settings, desk.status())
    assert now.condition is RunCondition.INTERRUPTED
    assert "Restore the study file of the run" in now.words
    desk.settings.study.write_text("no study", "utf-8")
    assert desk.look(1) == [1]
    desk.settings.study.write_text(text, "utf-8")
    assert desk.look(1) == [1, 1]
    assert desk.status().awaited == ""


def test_what_keeps_a_serverapp_away_is_said_even_if_none_has_begun(desk: Desk) -> None:
    """A run that was just started has died at once, and its study was edited meanwhile."""
    text = desk.settings.study.read_text("utf-8")
    desk.settings.study.write_text(text.replace("rounds = 2", "rounds = 3"), "utf-8")
    desk.flower.over[9] = "failed"
    desk.clock.now = time.time()  # as the condition counts
    store = desk.store()
    store.carried(9)
    assert condition_of(desk.settings, desk.status()).condition is RunCondition.STARTING
    assert desk.look(3) == [1]
    now = condition_of(desk.settings, desk.status())
    assert now.condition is RunCondition.INTERRUPTED
    assert "It cannot go on: study.toml is not the study file" in now.words
    desk.keeper.close()
    store.awaits("north (2 of 3 are there)")  # what a ServerApp that was killed has left behind
    store.carried(7)
    store.close()
    desk.served().close()
    words = condition_of(desk.settings, desk.status()).words
    assert "Nobody starts another one" in words
    assert "north" not in words


def test_a_run_that_is_to_stop_is_stopped_where_nobody_serves_it(desk: Desk, said: Said) -> None:
    desk.runs.ask(desk.name, Wish.STOP)
    with desk.served():
        desk.look()
        assert desk.status().state is RunState.WAITING
    assert desk.look() == [1]
    assert desk.status().state is RunState.STOPPED
    events = [json.loads(line) for line in desk.settings.events_file().read_bytes().splitlines()]
    assert [(event["event"], event["run"]) for event in events] == [("run-stopped", "1")]
    assert said() == ["Run 1 of test-study is stopped."]


def test_only_one_keeper_is_active(desk: Desk, said: Said) -> None:
    desk.served().close()
    other = desk.make_keeper()
    other.look()
    assert desk.flower.started == [1, 1]
    said()
    desk.served().close()
    assert desk.look(60) == [1, 1]
    assert said() == ["Another craftsfl rounds serve looks after this coordinator's run."]
    other.close()
    assert desk.look(60) == [1, 1, 1]


def test_the_condition_of_a_run_is_never_running_when_nobody_serves_it(desk: Desk) -> None:
    def condition() -> tuple[RunCondition, bool]:
        found = condition_of(desk.settings, desk.status())
        return found.condition, found.alive

    store = desk.store()
    store.carried(7)  # long ago, by the machine's clock
    with desk.served():
        store.set_state(RunState.RUNNING)
        assert condition() == (RunCondition.RUNNING, True)
        store.awaits("north (2 of 3 are there).")
        assert condition() == (RunCondition.WAITING, True)
        assert "waits for north" in condition_of(desk.settings, desk.status()).words
        store.awaits("")
        desk.runs.ask(desk.name, Wish.PAUSE)
        assert condition() == (RunCondition.RUNNING, True)
        assert "pause after" in condition_of(desk.settings, desk.status()).words
        store.set_state(RunState.PAUSED)
        assert condition() == (RunCondition.PAUSED, True)
    assert condition() == (RunCondition.INTERRUPTED, False)
    words = condition_of(desk.settings, desk.status()).words
    assert "Nobody starts another one" in words
    assert "to be paused" in words
    with ExitStack() as stack:
        desk.flower.gone = True
        stack.callback(desk.keeper.close)
        desk.keeper.look()
        assert "starts another one" in condition_of(desk.settings, desk.status()).words
    store.set_state(RunState.FINISHED)
    assert condition() == (RunCondition.FINISHED, False)
    store.close()
