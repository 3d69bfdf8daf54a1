"""`craftsfl site withdraw` and `restore`, beside an agent and without one."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.agent.own_ledger import open_ledger
from client.agent.startup import load
from client.agent.state import StateFolder
from client.consent import restore, withdraw
from client.patients import open_patients
from client.trainer.loading import load_data
from craftsfl.cli import app
from privacy.errors import ConfigError, DeploymentError
from privacy.ledger import AttemptKey, Charge, read_ledger
from privacy.study.terms import event_of
from tests.client.hospital import write_hospital
from tests.client.masked import keyed
from tests.client.studies import make_study
from tests.privacy.ledger.ledgers import spent_by


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A hospital whose agent has run once, and charged one round."""
    path = write_hospital(tmp_path, study=make_study())
    state = StateFolder(tmp_path / "state")
    state.path.mkdir()
    study = make_study()
    with (
        open_ledger(state, "north", keyed(tmp_path)) as ledger,
        open_patients(state.path) as patients,
    ):
        load_data(load(path), state, patients)
        ledger.intent(
            AttemptKey(study.digest(), 1, 1, 1), Charge(study.digest(), event_of(study), 1e-5)
        )
        ledger.commit(AttemptKey(study.digest(), 1, 1, 1))
    state.cache.mkdir()
    (state.cache / "encoded-abc.safetensors").write_bytes(b"")
    return path


def withdrawn(settings: Path) -> int:
    state = StateFolder(settings.parent / "state")
    with open_patients(state.path) as patients:
        left = load_data(load(settings), state, patients)
    return left.patients - len({tile.patient for tile in left.tiles})


def test_a_patient_goes_and_comes_back_and_epsilon_stays(settings: Path) -> None:
    ledger = settings.parent / "state" / "ledger.sqlite"
    before = read_ledger(ledger)
    done = withdraw(settings, "canary-patient-4")
    assert (done.already, done.files) == (False, 1)
    assert done.epsilon == spent_by(before) > 0
    assert withdrawn(settings) == 1
    again = withdraw(settings, " Canary-patient-4 ")
    assert (again.already, again.files, again.name) == (True, 0, done.name)
    assert restore(settings, "canary-patient-4") == (done.name, True)
    assert restore(settings, "canary-patient-4") == (done.name, False)
    assert withdrawn(settings) == 0
    after = read_ledger(ledger)
    assert (spent_by(after), after.entries(), after.head()) == (
        spent_by(before),
        before.entries(),
        before.head(),
    )


@pytest.mark.parametrize("harm", ["ledger", "policy", "cache"])
def test_what_else_is_wrong_does_not_pass_for_a_failed_withdrawal(
    settings: Path, harm: str
) -> None:
    state = settings.parent / "state"
    if harm == "ledger":
        (state / "ledger.sqlite").write_bytes(b"x" * 5000)
    elif harm == "policy":
        (settings.parent / "policy.toml").write_text("epsilonn = 1")
    else:
        (state / "cache" / "encoded-folder").mkdir()
    done = CliRunner().invoke(app, ["site", "withdraw", str(settings), "canary-patient-4"])
    assert done.exit_code == 1
    assert "has withdrawn: out of all draws" in done.output
    assert "The patient is out, but something else needs you" in done.output
    assert "canary" not in done.output
    with open_patients(state) as patients:
        assert patients.find("canary-patient-4") in patients.register.withdrawn()


def test_a_typing_error_withdraws_nobody(settings: Path) -> None:
    for action in (withdraw, restore):
        with pytest.raises(ConfigError, match=r"No patient with this id.*spelling") as caught:
            action(settings, "canary-patient-44")
        assert "canary" not in str(caught.value)
    assert withdrawn(settings) == 0


def test_a_patient_may_withdraw_before_the_tiles_are_read(tmp_path: Path) -> None:
    settings = write_hospital(tmp_path, study=make_study())
    with pytest.raises(DeploymentError, match="no agent has run here"):
        withdraw(settings, "canary-patient-4")
    done = withdraw(settings, "canary-patient-4", ahead=True)
    assert done.epsilon == 0
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert withdrawn(settings) == 1


def test_an_empty_id_is_nobody(settings: Path) -> None:
    with pytest.raises(ConfigError, match="id is empty"):
        withdraw(settings, " ", ahead=True)


@pytest.mark.parametrize("asked", [False, True])
def test_the_command_line_names_no_patient(settings: Path, asked: bool) -> None:
    """The id may be typed when asked for: then no shell history and no process list has it."""
    for command, words in (
        ("withdraw", "has withdrawn"),
        ("withdraw", "had already withdrawn"),
        ("restore", "once the agent has been restarted"),
        ("restore", "had not withdrawn"),
    ):
        arguments = ["site", command, str(settings), *([] if asked else ["canary-patient-4"])]
        done = CliRunner().invoke(app, arguments, input="canary-patient-4\n" if asked else None)
        assert done.exit_code == 0, done.output
        assert words in done.output
        assert "canary" not in done.output
