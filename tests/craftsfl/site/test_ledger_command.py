"""A ledger that replaces a lost one, as it is typed: at the site, and at the operator's desk."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from craftsfl.cli import app
from privacy.secagg.chain import write_rosters
from privacy.wire.checkpoint import Checkpoint
from server.clock import SystemClock
from server.run_name import RunName
from server.store import Store
from server.witness import StoredWitness
from tests.client.hospital import write_study
from tests.client.hospital_folder import LEDGER, MARKER, HospitalFolder
from tests.client.masked import IDENTITIES, SIGNED
from tests.client.studies import make_study


def test_the_operator_accepts_a_new_ledger_in_the_round_state(tmp_path: Path) -> None:
    write_study(tmp_path / "study.toml", make_study())
    write_rosters(tmp_path / "roster.cfl", [SIGNED])
    settings = tmp_path / "consortium.toml"
    settings.write_text('study = "study.toml"\nstate = "state"\nroster = "roster.cfl"\n')
    name = RunName(make_study().digest(), 1)
    store = Store(f"sqlite:///{tmp_path / 'state' / 'rounds.db'}", name, SystemClock())
    witness, north = StoredWitness(store), IDENTITIES["north"].public
    witness.keep({north: Checkpoint(b"\1" * 16, 40, b"\2" * 32)})
    command = ["rounds", "accept-ledger", str(settings), "north"]
    same = CliRunner().invoke(app, [*command, "01" * 16])
    assert "Nothing was changed" in same.output
    assert witness.known()[north].length == 40
    done = CliRunner().invoke(app, [*command, "03" * 16])
    assert done.exit_code == 0, done.output
    assert "Before: 40 records of ledger" in done.output
    assert witness.known()[north] == Checkpoint(b"\3" * 16, 0, bytes(32))
    store.close()


def test_a_number_from_the_coordinators_log_is_to_be_confirmed_by_the_others(
    tmp_path: Path,
) -> None:
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1)
    copy = hospital.backup()
    hospital.spend(2)
    hospital.put_back(copy, *LEDGER, MARKER)
    for file in (hospital.state.patients, hospital.state.path / "patients.key"):
        file.unlink(missing_ok=True)
    command = ["site", "recover-ledger", str(hospital.settings), "--others-have-seen", "99"]
    assert CliRunner().invoke(app, command).exit_code != 0  # not without the only reason for it
    done = CliRunner().invoke(app, [*command, "--no-copy-of-the-ledger-is-left"])
    assert done.exit_code == 0, done.output
    assert "If one says more than 99, type this again" in done.output
