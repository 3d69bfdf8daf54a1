from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from craftsfl.simulation.clock import SteppedClock
from privacy.errors import ConfigError, DeploymentError, FederationError
from server.database import open_database
from server.run_name import RunName
from server.status import RunFailure
from server.status_reader import read_status
from server.store import Store
from server.tables import AttemptState, PartState, RunState
from tests.server.fakes import RUN
from tests.server.masked import FourSites


def begun(world: FourSites) -> Store:
    store = world.store()
    store.begin(world.study)
    return store


def test_a_new_run_lists_all_sites_as_expected(world: FourSites) -> None:
    assert world.store().begin(world.study) is False
    status = read_status(world.url)
    assert (status.run, status.study, status.state) == (RUN, "test-study", RunState.WAITING)
    assert [(site.name, site.state.value) for site in status.sites] == [
        ("harbour", "expected"),
        ("hillside", "expected"),
        ("lakeside", "expected"),
        ("north", "expected"),
    ]


def test_beginning_again_resumes(world: FourSites) -> None:
    begun(world)
    assert world.store().begin(world.study) is True


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.FAILED])
def test_a_run_that_ended_is_not_resumed(world: FourSites, state: RunState) -> None:
    begun(world).set_state(state)
    with pytest.raises(FederationError, match=f"already {state.value}"):
        world.store().begin(world.study)


def test_the_newest_run_is_the_one_shown(world: FourSites) -> None:
    begun(world)
    world.clock.sleep(5)
    world.store(run=7).begin(world.study)
    assert read_status(world.url).run == 7
    assert read_status(world.url, RUN).run == RUN
    with pytest.raises(FederationError, match="no such run"):
        read_status(world.url, 8)


def test_no_run_yet_says_what_to_type(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    with pytest.raises(FederationError, match="craftsfl rounds start"):
        read_status(url)
    assert not (tmp_path / "none.db").exists()


def test_parts_and_attempts_are_kept(world: FourSites) -> None:
    store = begun(world)
    store.open_attempt(1, 1, ["north", "harbour"])
    store.part((1, 1), "north", PartState.TRAINING)
    store.part((1, 1), "harbour", PartState.DROPPED, "It was late.")
    world.clock.sleep(4)
    store.update_received((1, 1), "north", 1.25)
    store.round_finished((1, 1), 1, 2.5, ("a.npz", "00"))
    (item,) = read_status(world.url).history
    assert (item.state, item.updates, item.adapter_norm) == (AttemptState.FINISHED, 1, 2.5)
    assert item.seconds == 4.0
    assert [(p.name, p.state.value, p.reason, p.epsilon) for p in item.sites] == [
        ("harbour", "dropped", "It was late.", None),
        ("north", "finished", "", 1.25),
    ]
    assert store.attempts(1) == [(1, AttemptState.FINISHED)]
    assert store.last_adapter() == (1, "a.npz", "00")


def test_no_privacy_is_an_infinite_epsilon(world: FourSites) -> None:
    facts = replace(world.sites["north"].site_facts(), epsilon_spent=math.inf)
    begun(world).site_joined(facts, 2**64 - 1)
    north = next(site for site in read_status(world.url).sites if site.name == "north")
    assert north.epsilon == math.inf


def test_seconds_of_a_phase_add_up(world: FourSites) -> None:
    store = begun(world)
    store.add_seconds("training", 1.5)
    store.add_seconds("training", 2.0)
    assert read_status(world.url).phases == {"training": 3.5}


def test_a_run_that_fails_before_it_began_is_shown(world: FourSites) -> None:
    failure = RunFailure("No study.", "Write one.", "config")
    begun(world).fail(failure)
    status = read_status(world.url)
    assert (status.state, status.message) == (RunState.FAILED, "No study. Write one.")
    assert status.failure == failure


def test_a_database_from_before_failures_were_kept_in_parts_can_be_read(world: FourSites) -> None:
    begun(world).fail(RunFailure("No study.", "Write one.", "config"))
    engine = create_engine(world.url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE failures"))
    engine.dispose()
    status = read_status(world.url)
    assert (status.message, status.failure) == ("No study. Write one.", None)
    later = world.store(run=7)  # opened for writing: it gets the table
    later.begin(world.study)
    later.fail(RunFailure("No base.", "Install it.", "model"))
    assert read_status(world.url, 7).failure == RunFailure("No base.", "Install it.", "model")
    assert read_status(world.url, RUN).failure is None


def test_a_finished_run_cannot_fail_any_more(world: FourSites) -> None:
    store = begun(world)
    store.set_state(RunState.FINISHED)
    store.fail(RunFailure("Too late.", "", "internal"))
    assert read_status(world.url).state is RunState.FINISHED


def test_another_process_reads_while_a_transaction_is_open(world: FourSites) -> None:
    store = begun(world)
    engine = open_database(world.url)
    code = (
        "import sys; from server.status_reader import read_status; "
        "print(read_status(sys.argv[1]).state.value)"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("UPDATE runs SET state = 'running'")
        command = [sys.executable, "-c", code, world.url]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        connection.rollback()
    assert shown.stdout.strip() == "waiting"
    store.close()


def test_a_bad_url_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="`database`"):
        open_database("nonsense")


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "rounds.db").mkdir()
    with pytest.raises(DeploymentError, match="round state"):
        Store(f"sqlite:///{tmp_path / 'rounds.db'}", RunName(bytes(32), 1), SteppedClock())


def test_passwords_stay_out_of_errors() -> None:
    from sqlalchemy.exc import OperationalError

    from server.database import database_errors

    raising: Callable[[], None]

    def raising() -> None:
        raise OperationalError("SELECT secret", {}, Exception("no route"))

    with (
        pytest.raises(DeploymentError) as caught,
        database_errors("postgresql://user:hunter2@host/rounds"),
    ):
        raising()
    assert "hunter2" not in str(caught.value)
    assert "SELECT" not in str(caught.value)
