"""A hospital's folder, and what an agent's start and its readers make of the ledger in it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from client.agent.own_ledger import (
    note_in_register,
    open_ledger,
    read_own_ledger,
)
from client.agent.state import StateFolder
from client.patients import open_patients
from client.settings import load_site
from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Charge, SqliteLedger
from privacy.ledger.database import UNBOUND
from privacy.ledger.notes import Note
from privacy.mechanisms.local import PoissonGaussian
from tests.client.hospital import write_hospital
from tests.client.masked import keyed
from tests.client.studies import make_study

CHARGE = Charge(bytes(32), PoissonGaussian(0.5, 6.0, 0.1, 10), 1e-5)


class HospitalFolder:
    """A hospital's folder, with or without an agent's state; `state` names the folder in use."""

    def __init__(self, folder: Path, *, made: bool = False) -> None:
        self.folder = folder
        self.settings = folder / "site.toml"
        self.state = StateFolder(folder / "state")
        if not made:
            write_hospital(folder, study=make_study())
            self.state.path.mkdir(mode=0o700)
        self.own = keyed(folder)

    @contextmanager
    def agent(self, state: StateFolder | None = None) -> Iterator[SqliteLedger]:
        """What an agent does at its start, as far as the ledger goes."""
        state = state or self.state
        with open_ledger(state, "north", self.own, CHARGE) as ledger:
            with open_patients(state.path):
                note_in_register(state, Note.of(ledger.head(), ledger.entries(), CHARGE))
            yield ledger

    def spend(self, *rounds: int, state: StateFolder | None = None) -> None:
        with self.agent(state) as ledger:
            for number in rounds:
                ledger.intent(AttemptKey(CHARGE.study_digest, 1, number, 1), CHARGE)
                ledger.commit(AttemptKey(CHARGE.study_digest, 1, number, 1))

    def refused(
        self, words: str, state: StateFolder | None = None, *, unchanged: bool = True
    ) -> str:
        """Agent and `site budget` refuse with the same words and hint, and change nothing."""
        state = state or self.state
        before = contents(self.folder)
        with pytest.raises(LedgerError, match=words) as agent, self.agent(state):
            pass
        settings = load_site(self.settings)
        with pytest.raises(LedgerError, match=words) as reader:
            read_own_ledger(state, settings)
        assert (agent.value.message, agent.value.hint) == (reader.value.message, reader.value.hint)
        assert agent.value.hint
        assert not unchanged or contents(self.folder) == before
        return agent.value.hint

    def backup(self) -> Path:
        """A copy of everything, as it is now."""
        copy = self.folder.parent / f"{self.folder.name}-backup"
        shutil.copytree(self.folder, copy)
        return copy

    def put_back(self, backup: Path, *names: str) -> None:
        """Put these files of the backup in the place of the present ones."""
        for name in names:
            shutil.copy(backup / name, self.folder / name)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but locks and SQLite's own, by name."""
    ends = (".lock", "-wal", "-shm")
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(f): f.read_bytes() for f in files if not f.name.endswith(ends)}


LEDGER = ("state/ledger.sqlite", "state/ledger.sqlite.head")
MARKER, REGISTER = "site.key.ledger", "state/patients.sqlite"


def unbound(folder: Path) -> HospitalFolder:
    """A hospital whose ledger is from before there were bindings, as its marker is too."""
    hospital = HospitalFolder(folder)
    with open_ledger(hospital.state, "north") as ledger:
        for number in (1, 2):
            ledger.intent(AttemptKey(CHARGE.study_digest, 1, number, 1), CHARGE)
            ledger.commit(AttemptKey(CHARGE.study_digest, 1, number, 1))
    with closing(sqlite3.connect(hospital.state.ledger)) as database:
        database.execute(f"PRAGMA user_version = {UNBOUND}")
    hospital.own.marker.path.unlink()
    return hospital
