"""`craftsfl rounds accept-ledger`: the operator's half of what a site's recovery asks for."""

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
