"""What a person decides about a ledger; never epsilon 0 for one that was used."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.agent.ledger_verbs import SeenByOthers, migrate_ledger, recover_ledger
from client.agent.own_ledger import read_own_ledger
from client.agent.witness import WitnessFile
from client.settings import load_site
from craftsfl.cli import app
from privacy.errors import LedgerError
from privacy.identity import MARKER_BYTES
from privacy.ledger import AttemptKey, read_ledger
from privacy.ledger.notes import Note
from privacy.wire.checkpoint import Checkpoint
from tests.client.hospital_folder import CHARGE, LEDGER, MARKER, HospitalFolder, unbound
from tests.client.masked import IDENTITIES
from tests.privacy.ledger.ledgers import spent_by


def lose_the_ledger(hospital: HospitalFolder) -> None:
    for file in hospital.state.path.glob("ledger*"):
        file.unlink()


def test_a_ledger_from_before_is_bound_once_and_kept(tmp_path: Path) -> None:
    hospital = unbound(tmp_path / "north")
    before = read_ledger(hospital.state.ledger, may_be_unbound=True)
    done = migrate_ledger(load_site(hospital.settings))
    assert done.backup is not None
    assert read_ledger(done.backup, may_be_unbound=True).entries() == before.entries()
    after = read_own_ledger(hospital.state, load_site(hospital.settings))
    assert after is not None
    assert after.entries() == before.entries()
    assert after.head().ledger == before.head().ledger  # heads that others keep stay good
    assert migrate_ledger(load_site(hospital.settings)).backup is None
    hospital.spend(3)


def test_a_ledger_with_a_newer_state_elsewhere_is_not_bound(tmp_path: Path) -> None:
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1)
    old = hospital.backup()
    hospital.spend(2)
    hospital.spend(3)
    hospital.put_back(old, *LEDGER, MARKER)
    with pytest.raises(LedgerError, match=r"patients\.sqlite.*newer"):
        migrate_ledger(load_site(hospital.settings))


def test_an_identity_without_a_ledger_is_marked_only_if_somebody_says_so(tmp_path: Path) -> None:
    hospital = HospitalFolder(tmp_path / "north")
    hospital.own.marker.path.unlink()
    with pytest.raises(LedgerError, match="There is no ledger"):
        migrate_ledger(load_site(hospital.settings))
    migrate_ledger(load_site(hospital.settings), first=True)
    hospital.spend(1)
    lose_the_ledger(hospital)
    with pytest.raises(LedgerError, match="is missing, but this site has one"):
        migrate_ledger(load_site(hospital.settings), first=True)


@pytest.mark.parametrize("left", ["marker", "register", "both"])
def test_a_successor_counts_what_the_lost_ledger_had_spent(tmp_path: Path, left: str) -> None:
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1, 2)
    hospital.spend(3)
    spent = spent_by(read_ledger(hospital.state.ledger))
    lose_the_ledger(hospital)
    if left == "register":
        hospital.own.marker.path.unlink()
    elif left == "marker":
        shutil.rmtree(hospital.state.path)
    done = recover_ledger(load_site(hospital.settings))
    view = read_own_ledger(hospital.state, load_site(hospital.settings))
    assert view is not None
    assert view.bound is not None
    assert view.bound.replaced.length >= 6
    # The register knows the last start: whatever came later it does not. The marker knows all.
    at_least = spent if left != "register" else 0.9 * spent * 2 / 3
    assert spent_by(view) >= at_least > 0
    assert len(done.inherited) <= 3
    hospital.spend(4)
    with pytest.raises(LedgerError, match="nothing to recover"):
        recover_ledger(load_site(hospital.settings))


def test_nothing_is_recovered_where_no_ledger_is_known(tmp_path: Path) -> None:
    """An agent has worked there, and all that would tell of its ledger is gone."""
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1)
    lose_the_ledger(hospital)
    hospital.state.patients.unlink()
    hospital.own.marker.path.write_bytes(bytes(MARKER_BYTES))
    hospital.state.cache.mkdir(exist_ok=True)
    with pytest.raises(LedgerError, match="knows a lost ledger") as caught:
        recover_ledger(load_site(hospital.settings))
    assert "migrate-ledger --first" in caught.value.hint
    assert not hospital.state.ledger.exists()
    assert not list(hospital.state.path.glob("lost-*"))


def test_a_successor_of_a_rolled_back_ledger(tmp_path: Path) -> None:
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1)
    old = hospital.backup()
    hospital.spend(2, 3)
    spent = spent_by(read_ledger(hospital.state.ledger))
    hospital.put_back(old, *LEDGER)
    hospital.refused("newer than this ledger")
    recover_ledger(load_site(hospital.settings))
    view = read_own_ledger(hospital.state, load_site(hospital.settings))
    assert view is not None
    assert spent_by(view) >= spent
    assert (hospital.state.path / "lost-1" / "ledger.sqlite").exists()


def test_a_successor_of_the_newest_copy_that_is_older_than_what_others_saw(tmp_path: Path) -> None:
    """The machine died after the last backup: here all is whole, and elsewhere more is known."""
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1)
    copy = hospital.backup()
    hospital.spend(2, 3)
    lost = read_ledger(hospital.state.ledger)
    hospital.put_back(copy, *LEDGER, MARKER)
    for file in (hospital.state.patients, hospital.state.path / "patients.key"):
        file.unlink(missing_ok=True)
    settings, records = load_site(hospital.settings), lost.head().sequence + 1
    with pytest.raises(LedgerError, match="nothing to recover"):
        recover_ledger(settings)
    present = read_ledger(hospital.state.ledger).head().sequence + 1
    for known in (1, present):  # nobody has seen more than there is
        with pytest.raises(LedgerError, match="nothing to recover"):
            recover_ledger(settings, SeenByOthers(known, CHARGE))
    hospital.state.requests.write_bytes(b"signed with the lost ledger's key")
    hospital.spend()  # an agent was started with it, and wrote its own records
    hospital.spend()
    done = recover_ledger(settings, SeenByOthers(records, CHARGE))
    view = read_own_ledger(hospital.state, settings)
    assert view is not None and view.head().ledger != lost.head().ledger
    assert spent_by(view) >= spent_by(lost) and len(done.inherited) <= 4
    aside = {file.name for file in (hospital.state.path / "lost-1").iterdir()}
    assert {"ledger.sqlite", "ledger.key", "requests.log"} <= aside
    assert not hospital.state.requests.exists()
    with pytest.raises(LedgerError, match="nothing to recover"):
        recover_ledger(settings)


def test_a_number_that_was_too_small_is_made_good_by_the_true_one(tmp_path: Path) -> None:
    """A coordinator may show a log that is older than what other sites have seen."""
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1)
    copy = hospital.backup()
    hospital.spend(2, 3, 4, 5)
    lost = read_ledger(hospital.state.ledger)
    hospital.put_back(copy, *LEDGER, MARKER)
    for file in (hospital.state.patients, hospital.state.path / "patients.key"):
        file.unlink(missing_ok=True)
    settings, records = load_site(hospital.settings), lost.head().sequence + 1
    present = read_ledger(hospital.state.ledger).head().sequence + 1
    recover_ledger(settings, SeenByOthers(present + 1, CHARGE))
    short = read_own_ledger(hospital.state, settings)
    assert short is not None and spent_by(short) < spent_by(lost)
    recover_ledger(settings, SeenByOthers(records, CHARGE))
    whole = read_own_ledger(hospital.state, settings)
    assert whole is not None and spent_by(whole) >= spent_by(lost)
    assert (hospital.state.path / "lost-2" / "ledger.sqlite").exists()


def test_a_successor_of_a_ledger_that_went_back_to_its_beginning(tmp_path: Path) -> None:
    """No attempt is in it: it must not pass for a successor that an earlier call has made."""
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend()
    old = hospital.backup()
    hospital.spend(1, 2)
    spent = spent_by(read_ledger(hospital.state.ledger))
    hospital.put_back(old, *LEDGER)
    recover_ledger(load_site(hospital.settings))
    view = read_own_ledger(hospital.state, load_site(hospital.settings))
    assert view is not None
    assert spent_by(view) >= spent > 0
    assert (hospital.state.path / "lost-1" / "ledger.sqlite").exists()


def test_a_ledger_whose_key_is_lost_is_counted_exactly(tmp_path: Path) -> None:
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1, 2)
    spent = spent_by(read_ledger(hospital.state.ledger))
    hospital.state.ledger_key.unlink()
    done = recover_ledger(load_site(hospital.settings))
    assert len(done.inherited) == 2
    view = read_own_ledger(hospital.state, load_site(hospital.settings))
    assert view is not None
    assert spent_by(view) == spent
    hospital.spend(3)


def test_the_command_asks_twice_and_prints_what_others_need(tmp_path: Path) -> None:
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1)
    lose_the_ledger(hospital)
    command = ["site", "recover-ledger", str(hospital.settings)]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert "--no-copy-of-the-ledger-is-left" in str(refused.exception)
    done = CliRunner().invoke(app, [*command, "--no-copy-of-the-ledger-is-left"])
    assert done.exit_code == 0, done.output
    assert read_ledger(hospital.state.ledger).head().ledger.hex() in done.output


def test_another_sites_new_ledger_is_accepted_by_a_person(tmp_path: Path) -> None:
    hospital = HospitalFolder(tmp_path / "north")
    witness = WitnessFile(hospital.state.witness)
    south = IDENTITIES["south"].public
    witness.keep({south: Checkpoint(b"\1" * 16, 40, b"\2" * 32)})
    command = ["site", "accept-ledger", str(hospital.settings), "south"]
    same = CliRunner().invoke(app, [*command, "01" * 16])
    assert "Nothing was changed" in same.output
    assert witness.known()[south].length == 40
    assert CliRunner().invoke(app, [*command, "03" * 16]).exit_code == 0
    assert witness.known()[south] == Checkpoint(b"\3" * 16, 0, bytes(32))
    assert CliRunner().invoke(app, [*command, "xy"]).exit_code == 1
    assert CliRunner().invoke(app, [*command[:3], "nobody", "03" * 16]).exit_code == 1


def key(number: int) -> AttemptKey:
    return AttemptKey(CHARGE.study_digest, 1, number, 1)


@pytest.mark.parametrize("begun", [0, 1, 3])
@pytest.mark.parametrize("sent", [False, True], ids=["not pooled", "pooled"])
def test_what_came_after_the_last_note_counts_as_charged(
    tmp_path: Path, begun: int, sent: bool
) -> None:
    """Whatever the records were that nobody has any more, never less; and not one for each."""
    hospital = HospitalFolder(tmp_path / "north")
    with hospital.agent() as ledger:
        for number in range(begun):
            ledger.intent(key(number), CHARGE)
    with hospital.agent() as ledger:  # its note knows of attempts that may still be charged
        for number in (*range(begun), 7, 8, 9):
            ledger.intent(key(number), CHARGE)
            ledger.commit(key(number))
            if sent:
                ledger.sent(key(number), bytes([number]) * 32)
    charged = begun + 3
    lose_the_ledger(hospital)
    inherited = recover_ledger(load_site(hospital.settings)).inherited
    assert set(inherited) == {CHARGE}
    assert charged <= len(inherited) <= (charged * 3 // 2 + 1 if sent else charged)


def test_attempts_that_only_began_after_the_last_note_are_no_charges(tmp_path: Path) -> None:
    """A charge is a record of its own: of two records, one at most is a charge."""
    hospital = HospitalFolder(tmp_path / "north")
    with hospital.agent() as ledger:
        ledger.intent(key(1), CHARGE)
        ledger.intent(key(2), CHARGE)
    lose_the_ledger(hospital)
    assert recover_ledger(load_site(hospital.settings)).inherited == (CHARGE,)


def test_a_note_of_an_older_version_counts_every_record_after_it(tmp_path: Path) -> None:
    hospital = HospitalFolder(tmp_path / "north")
    with hospital.agent() as ledger:
        head = ledger.head()
        ledger.intent(key(1), CHARGE)
        ledger.commit(key(1))
        newest = ledger.head()
    older = Note(head, (), CHARGE)
    assert Note.decode(older.encode()) == older
    assert older.charges_until(newest) == (CHARGE, CHARGE)
    assert replace(older, begun=0).charges_until(newest) == (CHARGE,)
    for begun in (True, -1, "1", 1.0):
        with pytest.raises(LedgerError):
            Note.decode(replace(older, begun=begun).encode())  # type: ignore[arg-type]
