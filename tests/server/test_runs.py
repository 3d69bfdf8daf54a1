from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError, FederationError
from privacy.study.manifest import Study
from server.database import ROUNDS_SCHEMA, open_database
from server.run_name import LARGEST_NUMBER, RunName
from server.runs import Runs
from server.status_reader import read_status
from server.tables import AttemptState, RunState, Wish
from tests.server.fakes import FLOWER_RUN
from tests.server.masked import FourSites

# The tables as the last version wrote them that knew runs by Flower's id.
OLD = Path(__file__).parent / "old_rounds.sql"


@pytest.fixture
def runs(world: FourSites) -> Iterator[Runs]:
    with Runs(world.url, world.clock) as found:
        yield found


def edited(study: Study) -> Study:
    return study.model_copy(update={"rounds": 7})


def test_runs_of_a_study_are_numbered_from_one(world: FourSites, runs: Runs) -> None:
    digest = world.study.digest()
    first = runs.begin(world.study)
    runs.stopped(first)
    second = runs.begin(world.study)
    runs.stopped(second)
    assert (first, second) == (RunName(digest, 1), RunName(digest, 2))
    other = runs.begin(edited(world.study))
    assert other == RunName(edited(world.study).digest(), 1)
    runs.stopped(other)
    assert runs.begin(world.study, after=40).number == 41
    assert read_status(world.url, 2).state is RunState.STOPPED


@pytest.mark.parametrize("number", [0, -1, LARGEST_NUMBER + 1])
def test_a_number_that_no_message_carries_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match="numbered from 1"):
        RunName(bytes(32), number)


def test_two_studies_may_have_the_same_number(world: FourSites, runs: Runs) -> None:
    for study in (world.study, edited(world.study)):
        name = runs.begin(study)
        world.clock.sleep(1)
        assert read_status(world.url, 1).rounds == study.rounds  # the newer one
        runs.stopped(name)


def test_a_second_run_is_refused_while_one_is_open(world: FourSites, runs: Runs) -> None:
    name = runs.begin(world.study)
    with pytest.raises(FederationError, match="Run 1 of test-study is still open") as refused:
        runs.begin(world.study)
    assert refused.value.id == ErrorId.RUN_STILL_OPEN
    with pytest.raises(FederationError, match=r"study\.toml has been changed since") as changed:
        runs.begin(edited(world.study))
    assert changed.value.id == ErrorId.STUDY_CHANGED
    runs.stopped(name)
    assert runs.open_run() is None
    assert runs.begin(world.study).number == 2


def test_two_coordinators_cannot_begin_at_once(world: FourSites, runs: Runs) -> None:
    """Two operators type `rounds start` in the same moment."""
    code = (
        "import sys, pickle; from server.runs import Runs; from server.clock import SystemClock;"
        "study = pickle.load(sys.stdin.buffer)\n"
        "with Runs(sys.argv[1], SystemClock()) as runs: print(runs.begin(study).number)"
    )
    import pickle

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, world.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(pickle.dumps(world.study))[0] for process in processes]
    assert sorted(answers) == [b"", b"1\n"]


def test_flowers_run_is_transport_and_may_change(world: FourSites, runs: Runs) -> None:
    name = runs.begin(world.study)
    found = runs.open_run()
    assert found is not None and found.transport is None
    for flower_run in (FLOWER_RUN, 7, FLOWER_RUN):
        world.clock.sleep(1)
        runs.carried(name, flower_run)
    found = runs.open_run()
    assert found is not None and found.transport is not None
    assert found.transport.flower_run == 7
    status = read_status(world.url, 1)
    assert (status.run, status.flower_run) == (1, 7)


def test_what_the_operator_wants_is_kept_and_a_stop_is_final(world: FourSites, runs: Runs) -> None:
    name = runs.begin(world.study)
    for wish in (Wish.PAUSE, Wish.RUN, Wish.PAUSE, Wish.STOP):
        runs.ask(name, wish)
        assert read_status(world.url).wish is wish
    runs.ask(name, Wish.RUN)
    assert world.store(1).wish() is Wish.STOP
    runs.ask(name, Wish.STOP_NOW)
    assert world.store(1).wish() is Wish.STOP_NOW


def old_database(world: FourSites) -> None:
    """A database of the version before, with one finished run and one that was under way."""
    engine = create_engine(world.url)
    with engine.begin() as connection:
        for statement in OLD.read_text("utf-8").split(";\n"):
            if statement.strip():
                connection.execute(text(statement))
    engine.dispose()


def test_an_older_database_keeps_everything_and_its_runs_have_ended(world: FourSites) -> None:
    old_database(world)
    before = read_status(world.url)  # reading changes nothing
    assert (before.run, before.state) == (FLOWER_RUN, RunState.RUNNING)
    world.clock.sleep(60)
    with Runs(world.url, world.clock) as runs:
        assert runs.open_run() is None
        name = runs.begin(world.study)
    assert name.number == 1
    status = read_status(world.url, FLOWER_RUN)
    assert (status.state, status.rounds_done) == (RunState.FAILED, 1)
    assert "craftsfl was updated" in status.message
    assert [item.state for item in status.history] == [AttemptState.FINISHED, AttemptState.OPEN]
    assert read_status(world.url, 2**63 + 4).state is RunState.FINISHED
    assert read_status(world.url).run == 1


def test_a_newer_database_is_refused_untouched(world: FourSites) -> None:
    open_database(world.url).dispose()
    path = Path(world.url.removeprefix("sqlite:///"))
    engine = create_engine(world.url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE schema_version SET version = {ROUNDS_SCHEMA + 1}"))
        connection.execute(text("DROP TABLE parts"))
    engine.dispose()
    before = path.read_bytes()
    for use in (lambda: open_database(world.url), lambda: read_status(world.url)):
        with pytest.raises(DeploymentError, match="newer version of craftsfl") as refused:
            use()
        assert refused.value.id == ErrorId.ROUND_STATE_NEWER
    assert path.read_bytes() == before
