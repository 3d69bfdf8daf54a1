"""What a person decides about a ledger; never epsilon 0 for one that was used."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.agent.ledger_verbs import migrate_ledger, recover_ledger
from client.agent.own_ledger import read_own_ledger
from client.agent.witness import WitnessFile
from client.settings import load_site
from craftsfl.cli import app
from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, read_ledger
from privacy.wire.checkpoint import Checkpoint
from tests.client.masked import IDENTITIES
from tests.client.test_ledger_crashes import unbound
from tests.client.test_ledger_identity import CHARGE, LEDGER, MARKER, Hospital
from tests.privacy.ledger.ledgers import spent_by


def lose_the_ledger(hospital: Hospital) -> None:
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
    hospital = Hospital(tmp_path / "north")
    hospital.spend(1)
    old = hospital.backup()
    hospital.spend(2)
    hospital.spend(3)
    hospital.put_back(old, *LEDGER, MARKER)
    with pytest.raises(LedgerError, match=r"patients\.sqlite.*newer"):
        migrate_ledger(load_site(hospital.settings))


def test_an_identity_without_a_ledger_is_marked_only_if_somebody_says_so(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "north")
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
    hospital = Hospital(tmp_path / "north")
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
    assert len(done.inherited) <= 5  # three, and two records after the last note
    hospital.spend(4)
    with pytest.raises(LedgerError, match="nothing to recover"):
        recover_ledger(load_site(hospital.settings))


def test_a_successor_of_a_rolled_back_ledger(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "north")
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


def test_a_ledger_whose_key_is_lost_is_counted_exactly(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "north")
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
    hospital = Hospital(tmp_path / "north")
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
    hospital = Hospital(tmp_path / "north")
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


def test_what_came_after_the_last_note_counts_as_charged(tmp_path: Path) -> None:
    """An intent is no charge, but of a lost ledger nobody knows that it was one."""
    hospital = Hospital(tmp_path / "north")
    with hospital.agent() as ledger:
        ledger.intent(AttemptKey(CHARGE.study_digest, 1, 1, 1), CHARGE)
    lose_the_ledger(hospital)
    assert recover_ledger(load_site(hospital.settings)).inherited == (CHARGE,)
