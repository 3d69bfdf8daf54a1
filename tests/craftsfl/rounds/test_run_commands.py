"""`craftsfl rounds start|watch|status|pause|resume|stop`, as an operator types them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomli_w

from craftsfl.rounds.operator import _wait_until_it_answers, ask_run, start_run
from craftsfl.rounds.watching import show_status, watch_run
from craftsfl.simulation.members import SimulatedMembers
from model.digest import folder_digest
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError, FederationError, ModelError
from privacy.secagg.chain import write_rosters
from privacy.study.manifest import load_study
from server.attempts_left import check_attempts_left
from server.clock import SystemClock
from server.life import exclusively, serving
from server.run_name import RunName
from server.runs import Runs
from server.settings import load_consortium
from server.status_reader import read_status
from server.store import Store
from server.tables import RunState, Wish
from tests.server.masked import masked_study


class Bureau:
    """The files of a masked study's coordinator, and nothing that runs."""

    def __init__(self, folder: Path, base: Path, values: dict[str, Any]) -> None:
        members = SimulatedMembers.seeded(["east", "north", "west"])
        values["base"] = {"digest": folder_digest(base), "source": str(base)}
        study = masked_study(values, 3, members.roster)
        whole = study.model_dump(mode="json", exclude_none=True)
        self.study_file = folder / "study.toml"
        self.study_file.write_text(tomli_w.dumps(whole), "utf-8")
        write_rosters(folder / "roster.cfl", [members.signed])
        link = {name: f"{name}.pem" for name in ("authority", "certificate", "key")}
        link |= {"port": 1, "folder": "link", "secret": "superexec.secret"}  # nobody is there
        settings = {"study": "study.toml", "state": "state", "roster": "roster.cfl"}
        self.file = folder / "consortium.toml"
        self.file.write_text(tomli_w.dumps({**settings, "superlink": link}), "utf-8")
        self.settings = load_consortium(self.file)

    def begin(self) -> RunName:
        """An open run, as if its ServerApp had been killed."""
        study = load_study(self.study_file)
        with Runs(self.settings.database_url(), SystemClock()) as runs:
            name = runs.begin(study)
        return name

    def store(self, name: RunName) -> Store:
        return Store(self.settings.database_url(), name, SystemClock())


@pytest.fixture
def bureau(tmp_path: Path, tiny_base: Path, study_values: dict[str, Any]) -> Bureau:
    return Bureau(tmp_path, tiny_base, study_values)


def edit(old: str, new: str) -> Callable[[Bureau], None]:
    def change(bureau: Bureau) -> None:
        text = bureau.study_file.read_text("utf-8")
        assert old in text
        bureau.study_file.write_text(text.replace(old, new), "utf-8")

    return change


@pytest.mark.parametrize(
    ("harm", "error", "words"),
    [
        (lambda bureau: bureau.study_file.unlink(), ConfigError, "does not exist"),
        (edit('"required"', '"plain"'), ConfigError, '"plain" is no longer a mode'),
        (edit('digest = "sha256:', 'digest = "sha256:0000'), ConfigError, "digest"),
        (lambda bureau: (bureau.study_file.parent / "roster.cfl").unlink(), ConfigError, "roster"),
    ],
)
def test_what_can_be_known_is_checked_before_a_run_exists(
    bureau: Bureau, harm: Callable[[Bureau], None], error: type[Exception], words: str
) -> None:
    harm(bureau)
    with pytest.raises(error, match=words):
        start_run(bureau.file)
    assert not bureau.settings.state.exists()


def test_a_base_that_is_not_the_study_s_starts_no_run(bureau: Bureau) -> None:
    digest = load_study(bureau.study_file).base.digest
    edit(digest, digest[:-4] + "0000")(bureau)
    with pytest.raises(ModelError, match="the study pins"):
        start_run(bureau.file)
    assert not bureau.settings.state.exists()


def test_a_start_without_a_superlink_leaves_no_open_run(bureau: Bureau) -> None:
    with pytest.raises((DeploymentError, ConfigError)):
        start_run(bureau.file)
    assert read_status(bureau.settings.database_url()).state is RunState.STOPPED
    assert bureau.begin().number == 2


def test_a_superlink_that_is_just_starting_is_waited_for(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where somebody serves, and before the run has its number."""
    answers = [DeploymentError("silent", id=ErrorId.SUPERLINK_SILENT)] * 3
    waited: list[float] = []

    def ended(flower_run: int) -> str:
        if answers:
            raise answers.pop()
        return "unknown"

    flower = SimpleNamespace(ended=ended)
    monkeypatch.setattr("craftsfl.rounds.operator.time.sleep", waited.append)
    _wait_until_it_answers(bureau.settings, flower)  # type: ignore[arg-type]
    assert len(answers) == 3 and waited == []  # nobody serves
    bureau.settings.state.mkdir(parents=True, exist_ok=True)
    with exclusively(bureau.settings.keeper_file()) as held:
        assert held
        _wait_until_it_answers(bureau.settings, flower)  # type: ignore[arg-type]
    assert answers == [] and len(waited) == 3


def test_a_second_start_is_refused_while_a_run_is_open(bureau: Bureau) -> None:
    bureau.begin()
    with pytest.raises(FederationError, match="still open") as refused:
        start_run(bureau.file)
    assert refused.value.id == ErrorId.RUN_STILL_OPEN


@pytest.mark.parametrize("wish", Wish)
def test_without_an_open_run_there_is_nothing_to_want(bureau: Bureau, wish: Wish) -> None:
    with pytest.raises(FederationError, match="No run is open") as refused:
        ask_run(bureau.file, wish)
    assert refused.value.id == ErrorId.NO_RUN


def test_pause_resume_and_stop_of_a_run_that_is_served(bureau: Bureau) -> None:
    name = bureau.begin()
    with serving(bureau.settings.lock_file(), 1, 7):
        assert "begins no new attempt" in ask_run(bureau.file, Wish.PAUSE)
        assert ask_run(bureau.file, Wish.RUN) == "Run 1 goes on."
        assert "as soon as the attempt under way" in ask_run(bureau.file, Wish.STOP)
        assert "at once" in ask_run(bureau.file, Wish.STOP_NOW)
        with pytest.raises(FederationError, match="which is for good"):
            ask_run(bureau.file, Wish.RUN)
        store = bureau.store(name)
        assert store.wish() is Wish.STOP_NOW  # for the ServerApp to obey
        store.close()
    assert read_status(bureau.settings.database_url()).state is RunState.WAITING


def test_a_run_that_nobody_serves_is_stopped_at_once_and_watch_ends(bureau: Bureau) -> None:
    bureau.begin()
    ended: list[FederationError] = []

    def watch() -> None:
        try:
            watch_run(bureau.file)
        except FederationError as error:
            ended.append(error)

    watching = threading.Thread(target=watch)
    watching.start()
    watching.join(1.0)
    assert watching.is_alive()
    assert ask_run(bureau.file, Wish.STOP) == "Run 1 is stopped."
    watching.join(20)
    assert [error.id for error in ended] == [ErrorId.RUN_STOPPED]
    assert "after 0 of 2 rounds" in str(ended[0])


def test_the_status_in_json_says_how_the_run_really_is(
    bureau: Bureau, capsys: pytest.CaptureFixture[str]
) -> None:
    name = bureau.begin()
    store = bureau.store(name)
    store.carried(2**63 + 9)
    store.set_state(RunState.RUNNING)
    store.close()
    with serving(bureau.settings.lock_file(), 1, 2**63 + 9):
        show_status(bureau.file, None, as_json=True)
    show_status(bureau.file, 1, as_json=True)
    show_status(bureau.file, 1, as_json=False)
    alive, dead, text = capsys.readouterr().out.split("\n", 2)
    found = json.loads(alive)
    assert (found["run"], found["flower_run"], found["alive"]) == (1, 2**63 + 9, True)
    assert (found["state"], found["condition"]) == ("running", "running")
    found = json.loads(dead)
    assert (found["state"], found["condition"], found["alive"]) == ("running", "interrupted", False)
    assert "test-study run 1: interrupted, round 0 of 2." in text
    assert "is craftsfl rounds serve running?" in text


def test_a_study_whose_attempts_are_used_up_is_not_begun_again(bureau: Bureau) -> None:
    """It would charge patients for rounds, and never finish."""
    study = load_study(bureau.study_file)
    check_attempts_left(bureau.settings.database_url(), study)  # nothing has run yet
    for _ in range(study.privacy.attempts):
        store = bureau.store(bureau.begin())
        for round in range(1, study.rounds + 1):
            store.open_attempt(round, 1, [site.name for site in study.sites])
            for site in study.sites:
                store.update_received((round, 1), site.name, 0.1)
        store.set_state(RunState.FAILED)
        store.close()
    with pytest.raises(FederationError, match="could not finish") as caught:
        start_run(bureau.file)
    assert all(f"{site.name} 0" in caught.value.message for site in study.sites)
    assert "craftsfl rounds plan" in caught.value.hint
