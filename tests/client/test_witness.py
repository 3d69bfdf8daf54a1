"""What a site knows of the others' ledgers, over restarts, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from client.agent.witness import WitnessFile
from privacy.errors import LedgerError
from privacy.secagg.refusals import Refused
from privacy.secagg.server import Stage
from privacy.secagg.witness import Shown, Witness
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.secagg import SecAggRefusal, ShareBundle
from server.clock import SystemClock
from server.run_name import RunName
from server.store import Store
from server.witness import StoredWitness
from tests.client.hospital_folder import LEDGER, MARKER, REGISTER, HospitalFolder

from .fakes import FakeTrainer
from .masked import IDENTITIES, MaskedAttempt, make_masked_agent

NORTH, SOUTH = (IDENTITIES[name].public for name in ("north", "south"))
NEW = Checkpoint(b"\1" * 16, 9, b"\2" * 32)


def test_the_table_is_in_a_private_file_and_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    assert WitnessFile(path).known() == {}
    WitnessFile(path).see([Shown(2, SOUTH, NEW)])
    assert path.stat().st_mode & 0o777 == 0o600
    again = WitnessFile(path)
    assert again.known() == {SOUTH: NEW}
    with pytest.raises(Refused):
        again.see([Shown(2, SOUTH, Checkpoint(b"\1" * 16, 8, b"\2" * 32))])
    assert [file.name for file in tmp_path.iterdir()] == ["peers.json"]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"aa": "bb"}', b'{"' + b"00" * 32 + b'": 3}', b"\xff" * 20]
)
def test_a_damaged_table_is_told_at_the_start(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "peers.json"
    path.write_bytes(data)
    with pytest.raises(LedgerError, match="is damaged") as told:
        WitnessFile(path)
    assert "Restore" in told.value.hint


def test_an_agent_gives_no_shares_to_a_site_whose_ledger_is_older(
    tmp_path: Path, ledger, trainer: FakeTrainer
) -> None:
    path = tmp_path / "peers.json"
    agent = make_masked_agent(ledger, trainer, witness=WitnessFile(path))
    first = MaskedAttempt()
    first.to(Stage.SHARE, agent)
    assert isinstance(first.ask(agent), ShareBundle)
    agent.stop(5.0)
    known = WitnessFile(path).known()
    assert len(known) == 2
    assert NORTH not in known  # its own ledger is not its peers' to keep
    ahead = Checkpoint(known[SOUTH].ledger, 10**6, bytes(32))
    WitnessFile(path).keep({SOUTH: ahead})
    again = make_masked_agent(ledger, trainer, witness=WitnessFile(path))
    second = MaskedAttempt(attempt=2)
    second.to(Stage.SHARE, again)
    assert second.ask(again) == SecAggRefusal(Check.OLDER_LEDGER, 2)
    assert WitnessFile(path).known()[SOUTH] == ahead
    again.stop(5.0)


@pytest.mark.parametrize("where", ["peer", "coordinator"])
def test_everything_put_back_is_found_by_each_of_the_others(tmp_path: Path, where: str) -> None:
    """Ledger, head, marker and register of one moment: the site itself cannot tell."""
    witness: Witness = WitnessFile(tmp_path / "peers.json")
    if where == "coordinator":
        run = RunName(bytes(32), 1)
        witness = StoredWitness(Store(f"sqlite:///{tmp_path}/rounds.db", run, SystemClock()))
    hospital = HospitalFolder(tmp_path / "north")
    hospital.spend(1)
    old = hospital.backup()
    hospital.spend(2)
    with hospital.agent() as ledger:
        witness.see([Shown(1, NORTH, ledger.head().checkpoint)])
    hospital.put_back(old, *LEDGER, MARKER, REGISTER)
    with hospital.agent() as ledger, pytest.raises(Refused) as refused:
        witness.see([Shown(1, NORTH, ledger.head().checkpoint)])
    assert refused.value.check is Check.OLDER_LEDGER
    # Nor does a fresh start under the same identity pass, with all of the site's own files gone.
    shutil.rmtree(hospital.state.path)
    hospital.state.path.mkdir()
    hospital.own.marker.path.write_bytes(bytes(1024))
    with hospital.agent() as ledger, pytest.raises(Refused) as refused:
        witness.see([Shown(1, NORTH, ledger.head().checkpoint)])
    assert refused.value.check is Check.OTHER_LEDGER
