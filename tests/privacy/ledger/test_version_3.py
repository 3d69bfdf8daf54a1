"""A ledger of the version before, `data/version-3.sqlite`: made by that version, and read by this.

Its runs are Flower's 64-bit ids. It holds, of two studies: one attempt charged, one lost, one
charged; one charged, one open.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Charge, State, read_ledger
from privacy.ledger.database import RUN_ALONE, VERSION
from privacy.ledger.records import Intent
from privacy.mechanisms.local import PoissonGaussian

from .ledgers import open_test_ledger

MADE = Path(__file__).parent / "data" / "version-3.sqlite"
ONE, OTHER = b"\1" * 32, b"\2" * 32
CHARGES = {
    ONE: Charge(ONE, PoissonGaussian(0.5, 6.0, 0.1, 10), 1e-5),
    OTHER: Charge(OTHER, PoissonGaussian(0.25, 3.0, 0.1, 10), 1e-6),
}
HELD = [
    (AttemptKey(ONE, 2**63 + 11, 1, 1), State.COMMITTED),
    (AttemptKey(ONE, 2**63 + 11, 2, 1), State.INTENT),
    (AttemptKey(ONE, 2**63 + 11, 2, 2), State.COMMITTED),
    (AttemptKey(OTHER, 2**32 + 5, 1, 1), State.COMMITTED),
    (AttemptKey(OTHER, 2**32 + 5, 1, 2), State.INTENT),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for end in ("", ".head"):
        shutil.copy(f"{MADE}{end}", tmp_path / f"ledger.sqlite{end}")
    return tmp_path / "ledger.sqlite"


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        return int(version)


def test_it_is_read_as_it_was_and_left_alone(path: Path) -> None:
    before = path.read_bytes()
    view = read_ledger(path)
    assert [(entry.key, entry.state) for entry in view.entries()] == HELD
    assert all(entry.charge == CHARGES[entry.key.study] for entry in view.entries())
    assert str(view.head()) == "record 8 of ledger 03ce7fd9, f201c758c09475c3"
    assert path.read_bytes() == before
    assert version_of(path) == RUN_ALONE


def test_opening_it_to_write_brings_it_up_to_date_and_changes_no_record(path: Path) -> None:
    head = read_ledger(path).head()
    for _ in range(2):
        with open_test_ledger(path, seen=[head]) as ledger:
            assert [(entry.key, entry.state) for entry in ledger.entries()] == HELD
            assert ledger.head() == head
        assert version_of(path) == VERSION
    assert read_ledger(path).head() == head


def test_numbered_runs_of_several_studies_follow_in_it(path: Path) -> None:
    keys = [AttemptKey(study, 1, 1, 1) for study in CHARGES]
    for _ in range(2):  # once more after reopening: nothing is recorded twice
        with open_test_ledger(path) as ledger:
            for key in keys:
                ledger.intent(key, CHARGES[key.study])
                ledger.commit(key)
            ends = [(entry.key, entry.state) for entry in ledger.entries()][len(HELD) :]
            assert ends == [(key, State.COMMITTED) for key in keys]
            assert len(read_ledger(path).entries()) == len(HELD) + 2


def test_a_damaged_one_is_refused_and_stays_as_it_was(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TRIGGER entry_is_never_changed")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="its tables differ"):
        open_test_ledger(path)
    assert (path.read_bytes(), version_of(path)) == (before, RUN_ALONE)


def test_one_that_cannot_be_verified_is_not_marked_either(path: Path) -> None:
    path.with_name(path.name + ".head").unlink()
    with pytest.raises(LedgerError, match="is missing"):
        open_test_ledger(path)
    assert version_of(path) == RUN_ALONE


@pytest.mark.parametrize("study", CHARGES)
def test_no_study_pays_for_an_attempt_of_another(path: Path, study: bytes) -> None:
    payer = next(charge for digest, charge in CHARGES.items() if digest != study)
    with pytest.raises(LedgerError, match="another"):
        Intent(AttemptKey(study, 1, 1, 1), payer)
    with open_test_ledger(path) as ledger:
        with pytest.raises(LedgerError, match="another"):
            ledger.intent(AttemptKey(study, 1, 1, 1), payer)
        assert len(ledger.entries()) == len(HELD)


@pytest.mark.parametrize("study", [b"", bytes(31), bytes(33), "1" * 32])
def test_a_key_names_a_study(study: bytes) -> None:
    with pytest.raises(LedgerError, match="32 bytes"):
        AttemptKey(study, 1, 1, 1)
