"""One identity has one ledger, and it only grows: each way around that, done and refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from client.agent.own_ledger import (
    KeyedIdentity,
    open_ledger,
    read_own_ledger,
)
from client.agent.state import StateFolder
from client.consent import withdraw
from client.patients import open_patients
from client.settings import load_site
from craftsfl.cli import app
from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, SqliteLedger, read_ledger
from privacy.ledger.anchors import Anchors
from privacy.ledger.key import load_or_make_key
from tests.client.hospital_folder import CHARGE, LEDGER, MARKER, REGISTER, HospitalFolder
from tests.client.masked import IDENTITIES


@pytest.fixture
def hospital(tmp_path: Path) -> HospitalFolder:
    made = HospitalFolder(tmp_path / "north")
    made.spend(1)
    return made


def test_the_first_records_are_signed_by_the_identity(hospital: HospitalFolder) -> None:
    view = read_ledger(hospital.state.ledger)
    assert view.bound is not None
    assert view.bound.identity == IDENTITIES["north"].public
    assert view.entries()[0].sequence == 2  # genesis and binding come first, in one transaction
    assert hospital.own.marker.read().head == view.head()


def test_without_an_identity_the_ledger_is_bound_to_no_one(tmp_path: Path) -> None:
    with open_ledger(StateFolder(tmp_path), "north") as ledger:
        assert ledger.bound is None


def forge(hospital: HospitalFolder, identity: bool) -> None:
    """Put a ledger of another key, whole and signed, in the place of the true one."""
    for file in hospital.state.path.glob("ledger*"):
        file.unlink()
    key = Ed25519PrivateKey.generate()
    hospital.state.ledger_key.write_bytes(key.private_bytes_raw())
    hospital.state.ledger_key.chmod(0o600)
    anchors = Anchors(IDENTITIES["south"]) if identity else None
    SqliteLedger(hospital.state.ledger, key, site="north", anchors=anchors).close()


@pytest.mark.parametrize(
    ("identity", "words"), [(False, "bound to no identity"), (True, "bound to another identity")]
)
def test_a_forged_ledger_under_another_key(
    hospital: HospitalFolder, identity: bool, words: str
) -> None:
    forge(hospital, identity)
    hospital.refused(words)


def test_a_binding_that_was_copied_from_the_true_ledger_does_not_fit_a_forged_one(
    hospital: HospitalFolder,
) -> None:
    with closing(open_ledger(hospital.state, "north", hospital.own)) as ledger:
        bound = ledger.bound
    forge(hospital, identity=False)
    key = load_or_make_key(hospital.state.ledger_key)
    with SqliteLedger(hospital.state.ledger, key, site="north") as ledger:
        assert bound is not None
        with pytest.raises(LedgerError, match="has not signed for this ledger"):
            ledger._append(bound)
    hospital.refused("has not signed for this ledger")


def test_everything_gone_but_the_register(hospital: HospitalFolder) -> None:
    hospital.own.marker.path.write_bytes(bytes(1024))  # the marker as `site init` made it
    for file in hospital.state.path.glob("ledger*"):
        file.unlink()
    hint = hospital.refused("is missing, but this site has one.*patients.sqlite")
    assert "recover-ledger" in hint


def test_everything_gone_but_the_marker(hospital: HospitalFolder) -> None:
    shutil.rmtree(hospital.state.path)
    hospital.state.path.mkdir()
    hospital.refused(r"is missing, but this site has one.*site\.key\.ledger")


def test_two_state_folders_at_once(hospital: HospitalFolder) -> None:
    other = StateFolder(hospital.folder / "other")
    other.path.mkdir()
    with (
        hospital.agent(),
        pytest.raises(LedgerError, match=r"Another agent.* uses the identity"),
        hospital.agent(other),
    ):
        pass
    hospital.spend(2)  # the refusal has cost the first one nothing


def test_two_state_folders_one_after_the_other(hospital: HospitalFolder) -> None:
    other = StateFolder(hospital.folder / "other")
    other.path.mkdir()
    hospital.refused("is missing, but this site has one", other)
    hospital.spend(2)


def test_two_state_folders_one_after_the_other_with_a_ledger_each(hospital: HospitalFolder) -> None:
    """The second one's was made while the marker was another: an older copy of the key's folder."""
    other = StateFolder(hospital.folder / "other")
    other.path.mkdir()
    newest = hospital.own.marker.path.read_bytes()
    hospital.own.marker.path.write_bytes(bytes(1024))
    hospital.spend(1, state=other)
    hospital.refused(r"site\.key\.ledger.*belongs to another ledger")
    hospital.own.marker.path.write_bytes(newest)
    hospital.refused(r"site\.key\.ledger.*belongs to another ledger", other)


def rolled_back(hospital: HospitalFolder, *spared: str) -> None:
    """Two starts later, everything but `spared` is put back to an older copy."""
    old = hospital.backup()
    hospital.spend(2)
    hospital.spend(3)
    hospital.put_back(old, *{*LEDGER, MARKER, REGISTER} - set(spared))


def test_a_rollback_of_the_ledger_is_found_by_the_marker_alone(hospital: HospitalFolder) -> None:
    rolled_back(hospital, MARKER)
    hospital.refused(r"site\.key\.ledger.*newer than this ledger")


def test_a_rollback_of_the_ledger_is_found_by_the_register_alone(hospital: HospitalFolder) -> None:
    rolled_back(hospital, REGISTER)
    hospital.refused(r"patients\.sqlite.*newer than this ledger")


def test_a_rollback_within_one_run_of_the_agent_is_found_by_the_marker(
    hospital: HospitalFolder,
) -> None:
    with hospital.agent() as ledger:
        ledger.intent(AttemptKey(CHARGE.study_digest, 1, 2, 1), CHARGE)
        old = hospital.backup()
        ledger.commit(AttemptKey(CHARGE.study_digest, 1, 2, 1))
    hospital.put_back(old, *LEDGER)
    for end in ("-wal", "-shm"):
        shutil.copy(old / f"{LEDGER[0]}{end}", hospital.folder / f"{LEDGER[0]}{end}")
    # SQLite moves its write-ahead log into the file.
    hospital.refused(r"site\.key\.ledger.*newer than this ledger", unchanged=False)


def test_an_older_ledger_that_went_on_is_no_longer_the_same(hospital: HospitalFolder) -> None:
    newest = hospital.own.marker.path
    old = hospital.backup()
    hospital.spend(2)
    kept = newest.read_bytes()
    hospital.put_back(old, *LEDGER, MARKER, REGISTER)
    hospital.spend(7, 8, 9)
    newest.write_bytes(kept)
    hospital.refused("went on from an older copy")


def test_everything_put_back_is_for_the_others_to_find(hospital: HospitalFolder) -> None:
    """Marker and register too: nothing here can tell. Peers and coordinator do (`test_witness`)."""
    rolled_back(hospital)
    with hospital.agent() as ledger:
        assert len(ledger.entries()) == 1


def test_a_marker_that_was_deleted(hospital: HospitalFolder) -> None:
    hospital.own.marker.path.unlink()
    hint = hospital.refused(r"site\.key\.ledger is missing")
    assert "migrate-ledger" in hint
    shutil.rmtree(hospital.state.path)
    hospital.state.path.mkdir()
    hospital.refused(r"site\.key\.ledger is missing")  # a fresh state folder is no way around


def test_a_marker_that_was_put_back_to_its_beginning(hospital: HospitalFolder) -> None:
    hospital.own.marker.path.write_bytes(bytes(1024))
    hospital.refused("names no ledger, but this site's ledger has been used")


def test_a_key_without_its_marker_in_another_folder(
    hospital: HospitalFolder, tmp_path: Path
) -> None:
    """As when somebody moves to another machine and takes the key alone."""
    key = tmp_path / "elsewhere.key"
    shutil.copy(hospital.own.key, key)
    state = StateFolder(tmp_path / "state")
    state.path.mkdir()
    with pytest.raises(LedgerError, match=r"elsewhere\.key\.ledger is missing"):
        open_ledger(state, "north", KeyedIdentity(IDENTITIES["north"], key))


BROKEN: dict[str, Callable[[HospitalFolder], object]] = {
    "lost": lambda h: h.state.ledger.unlink(),
    "foreign": lambda h: forge(h, identity=True),
    "older": lambda h: rolled_back(h, MARKER, REGISTER),
    "unmarked": lambda h: h.own.marker.path.unlink(),
}


@pytest.mark.parametrize("how", BROKEN)
def test_withdraw_says_what_agent_and_budget_say(hospital: HospitalFolder, how: str) -> None:
    with open_patients(hospital.state.path) as patients:
        patients.register.observe([(patients.key.line("canary-patient-4"), bytes(32))])
    whole = withdraw(hospital.settings, "canary-patient-4")
    assert (whole.epsilon, whole.unsaid) == (0.0, "")  # was there for no charge
    BROKEN[how](hospital)
    with pytest.raises(LedgerError) as told:
        read_own_ledger(hospital.state, load_site(hospital.settings))
    again = withdraw(hospital.settings, "canary-patient-4")
    assert again.epsilon is None
    assert again.unsaid == str(told.value)


@pytest.mark.parametrize("how", BROKEN)
def test_both_commands_give_one_answer_about_a_ledger_that_is_not_this_sites(
    hospital: HospitalFolder, how: str
) -> None:
    with open_patients(hospital.state.path) as patients:
        patients.register.observe([(patients.key.line("canary-patient-4"), bytes(32))])
    BROKEN[how](hospital)
    settings = str(hospital.settings)
    with pytest.raises(LedgerError) as refused:
        CliRunner().invoke(app, ["site", "budget", settings], catch_exceptions=False)
    done = CliRunner().invoke(app, ["site", "withdraw", settings, "canary-patient-4"])
    assert done.exit_code == 1
    assert "epsilon" not in done.output
    assert refused.value.message in done.output
    assert refused.value.hint in done.output


def test_the_budget_is_read_beside_the_agent(hospital: HospitalFolder) -> None:
    settings = load_site(hospital.settings)
    with hospital.agent() as ledger:
        ledger.intent(AttemptKey(CHARGE.study_digest, 1, 2, 1), CHARGE)
        view = read_own_ledger(hospital.state, settings)
        assert view is not None
        assert view.head() == ledger.head()
