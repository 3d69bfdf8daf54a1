"""Whatever happens to a ledger's files, opening it finds it."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Charge, Head, SqliteLedger, read_ledger
from privacy.ledger.chain import Chain
from privacy.ledger.database import read_records
from privacy.ledger.head import sign_head
from privacy.ledger.records import Charged, hash_of
from privacy.mechanisms.local import PoissonGaussian

from .ledgers import SIGNING_KEY, book_of, open_test_ledger

CHARGE = Charge(b"\1" * 32, PoissonGaussian(0.5, 6.0, 0.1, 10), 1e-5)
ATTEMPTS = 5


def spend(ledger: SqliteLedger, *attempts: int) -> None:
    for attempt in attempts:
        ledger.intent(AttemptKey(CHARGE.study_digest, 1, 1, attempt), CHARGE)
        ledger.commit(AttemptKey(CHARGE.study_digest, 1, 1, attempt))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a closed ledger with 11 records."""
    folder = tmp_path_factory.mktemp("original")
    with open_test_ledger(folder / "ledger.sqlite") as ledger:
        spend(ledger, *range(ATTEMPTS))
    return folder


@pytest.fixture
def path(tmp_path: Path, original: Path) -> Path:
    """A copy of it."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "ledger.sqlite"


def tamper(path: Path, *statements: str) -> None:
    """Change records as somebody would who knows SQLite."""
    with closing(sqlite3.connect(path)) as database, database:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        kept = triggers.fetchall()
        for name, _ in kept:
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            database.execute(statement)
        for _, sql in kept:
            database.execute(sql)


def forge_charge(path: Path, key: Ed25519PrivateKey) -> None:
    """Append a well-formed record that `key` signed."""
    with closing(sqlite3.connect(path)) as database, database:
        chain: Chain = read_records(database, path)
        record = chain.next(Charged(1), 0)
        body = record.encode()
        values = len(chain), body, sign_head(key, chain.ledger, len(chain), hash_of(body))
        database.execute("INSERT INTO entry VALUES (?, ?, ?)", values)


def import_record(path: Path) -> None:
    """Take a record over from another ledger of the same key and site."""
    other = path.with_name("other.sqlite")
    with open_test_ledger(other) as ledger:
        spend(ledger, *range(ATTEMPTS))
    tamper(
        path,
        f"ATTACH '{other}' AS other",
        "DELETE FROM entry WHERE sequence = 10",
        "INSERT INTO entry SELECT * FROM other.entry WHERE sequence = 10",
    )


def lose_wal(path: Path) -> None:
    """Copy only the main file of a ledger in use, as a careless backup does."""
    with open_test_ledger(path) as ledger:
        spend(ledger, 77)
        shutil.copy(path, path.with_name("copy"))
    shutil.copy(path.with_name("copy"), path)


SWAP = (
    "UPDATE entry SET sequence = -4 WHERE sequence = 4",
    "UPDATE entry SET sequence = 4 WHERE sequence = 6",
    "UPDATE entry SET sequence = 6 WHERE sequence = -4",
)
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "edited": (
        lambda p: tamper(p, "UPDATE entry SET body = zeroblob(90) WHERE sequence = 3"),
        "Record 3",
    ),
    "signature edited": (
        lambda p: tamper(p, "UPDATE entry SET signature = zeroblob(64) WHERE sequence = 9"),
        "Record 9 .*signature",
    ),
    "signature of another record": (
        lambda p: tamper(
            p,
            "UPDATE entry SET signature = (SELECT signature FROM entry WHERE sequence = 1) "
            "WHERE sequence = 3",
        ),
        "Record 3 .*signature",
    ),
    "no bytes": (
        lambda p: tamper(p, "UPDATE entry SET body = x'' WHERE sequence = 2"),
        "Record 2",
    ),
    "reordered": (lambda p: tamper(p, *SWAP), "Record 4 .*calls itself record 6"),
    "first gone": (lambda p: tamper(p, "DELETE FROM entry WHERE sequence = 0"), "Record 0"),
    "one gone": (lambda p: tamper(p, "DELETE FROM entry WHERE sequence = 5"), "Record 5 .*missing"),
    "newest gone": (lambda p: tamper(p, "DELETE FROM entry WHERE sequence = 10"), "cut off"),
    "all gone": (lambda p: tamper(p, "DELETE FROM entry"), "holds no records"),
    "repeated": (
        lambda p: tamper(
            p, "INSERT INTO entry SELECT 11, body, signature FROM entry LIMIT 1 OFFSET 10"
        ),
        "Record 11 .*calls itself record 10",
    ),
    "forged": (
        lambda p: forge_charge(p, Ed25519PrivateKey.from_private_bytes(bytes(32))),
        "Record 11 .*signature",
    ),
    "charged twice": (lambda p: forge_charge(p, SIGNING_KEY), "Record 11 .*twice"),
    "record of another ledger": (import_record, "Record 10 .*belongs to another ledger"),
    "write-ahead log left behind": (lose_wal, "cut off"),
    "emptied": (lambda p: p.write_bytes(b""), "once held records"),
    "removed": (lambda p: p.unlink(), "once held records"),
    "trigger removed": (
        lambda p: _execute(p, "DROP TRIGGER entry_is_never_changed"),
        "its tables differ",
    ),
    "trigger planted": (
        lambda p: _execute(p, "CREATE TRIGGER x AFTER INSERT ON entry BEGIN SELECT 1; END"),
        "its tables differ",
    ),
    "head file removed": (lambda p: head_file(p).unlink(), "nobody can tell"),
    "head file damaged": (lambda p: head_file(p).write_bytes(b"\1" * 1024), "no ledger head"),
    "head file emptied": (lambda p: head_file(p).write_bytes(b""), "no ledger head"),
}


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


def head_file(path: Path) -> Path:
    return path.with_name(path.name + ".head")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_left_alone(path: Path, damage: str) -> None:
    harm, words = DAMAGES[damage]
    harm(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(LedgerError, match=words) as told:
        open_test_ledger(path)
    assert "Restore" in told.value.hint
    assert (path.read_bytes() if path.exists() else None) == before
    with pytest.raises(LedgerError):
        read_ledger(path)


def test_a_damaged_ledger_can_be_restored(path: Path) -> None:
    files = {file: file.read_bytes() for file in (path, head_file(path))}
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(LedgerError, match="damaged"):
        open_test_ledger(path)
    for file, data in files.items():
        file.write_bytes(data)
    with open_test_ledger(path) as ledger:
        assert len(book_of(ledger).of_study(CHARGE.study_digest)) == ATTEMPTS


def test_its_own_tables_refuse_changes(path: Path) -> None:
    for statement in ("DELETE FROM entry", "UPDATE entry SET body = x''"):
        with pytest.raises(sqlite3.IntegrityError, match="only grows"):
            _execute(path, statement)


def roll_back(path: Path) -> Head:
    """Put a ledger back to what it was two records ago, head file and all; its newest head."""
    files = {file: file.read_bytes() for file in (path, head_file(path))}
    with open_test_ledger(path) as ledger:
        spend(ledger, 100)
        newest = ledger.head()
    for file, data in files.items():
        file.write_bytes(data)
    return newest


def test_a_ledger_that_was_put_back_is_found_by_a_head_that_others_saw(path: Path) -> None:
    seen = roll_back(path)
    with open_test_ledger(path) as ledger:  # nothing here tells
        old = ledger.head()
    with pytest.raises(LedgerError, match=rf"others saw \(record {seen.sequence} .*older copy"):
        open_test_ledger(path, seen=[old, seen])
    with open_test_ledger(path, seen=[old]) as ledger:
        spend(ledger, 200, 201)
    with pytest.raises(LedgerError, match="went on from an older copy"):
        open_test_ledger(path, seen=[seen])


def test_an_own_and_old_head_is_welcome(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        seen = Head.from_bytes(ledger.head().to_bytes())
        spend(ledger, 100)
    with open_test_ledger(path, seen=[seen]) as ledger:
        assert ledger.head().sequence == seen.sequence + 2


def test_a_new_ledger_in_place_of_the_old_one_is_found(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        seen = ledger.head()
    path.unlink()
    head_file(path).unlink()
    with pytest.raises(LedgerError, match="belongs to another ledger"):
        open_test_ledger(path, seen=[seen])


def test_another_key_is_refused(path: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    with pytest.raises(LedgerError, match="another key"):
        SqliteLedger(path, key, site="north")


def test_another_site_is_refused(path: Path) -> None:
    with pytest.raises(LedgerError, match="belongs to the site north, not to south"):
        SqliteLedger(path, SIGNING_KEY, site="south")


def test_a_torn_head_is_made_good_from_the_other_slot(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytearray(head_file(path).read_bytes())
    data[40] ^= 1  # record 10 stands in the first slot
    head_file(path).write_bytes(data)
    with open_test_ledger(path) as ledger:
        assert len(book_of(ledger).of_study(CHARGE.study_digest)) == ATTEMPTS
    assert "copies of the ledger's head is damaged" in caplog.text
    caplog.clear()
    open_test_ledger(path).close()
    assert caplog.text == ""


def test_a_head_file_that_lags_behind_is_brought_up(path: Path) -> None:
    """As after a death between the two writes, whose attempt was never acknowledged."""
    old = head_file(path).read_bytes()
    with open_test_ledger(path) as ledger:
        ledger.intent(AttemptKey(CHARGE.study_digest, 1, 1, 50), CHARGE)
        newest = ledger.head()
    head_file(path).write_bytes(old)
    with open_test_ledger(path, seen=[newest]) as ledger:
        assert ledger.head() == newest
    tamper(path, "DELETE FROM entry WHERE sequence = 11")
    with pytest.raises(LedgerError, match="cut off"):
        open_test_ledger(path)


def test_a_file_replaced_under_a_running_agent_is_found(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        copy = path.with_name("copy")
        shutil.copy(path, copy)
        copy.replace(path)
        with pytest.raises(LedgerError, match="replaced or changed"):
            spend(ledger, 100)
        assert len(ledger.entries()) == ATTEMPTS


def test_a_record_added_under_a_running_agent_is_found(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        forge_charge(path, SIGNING_KEY)
        with pytest.raises(LedgerError, match="replaced or changed"):
            spend(ledger, 100)


def test_a_head_that_cannot_be_written_is_not_acknowledged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_test_ledger(path) as ledger:
        ledger.intent(AttemptKey(CHARGE.study_digest, 1, 1, 50), CHARGE)
        with monkeypatch.context() as patch:
            patch.setattr("os.pwrite", lambda *_: 0)
            with pytest.raises(LedgerError, match="No space left"):
                ledger.commit(AttemptKey(CHARGE.study_digest, 1, 1, 50))
        ledger.commit(AttemptKey(CHARGE.study_digest, 1, 1, 50))
        newest = ledger.head()
    assert Head.from_bytes(head_file(path).read_bytes()[:153]) == newest


def test_a_clock_that_goes_back_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, times = tmp_path / "ledger.sqlite", iter([100.0, 100.0, 105.0, 103.0, 200.0])
    caplog.set_level(logging.WARNING)
    with open_test_ledger(path, clock=lambda: next(times)) as ledger:
        ledger.intent(AttemptKey(CHARGE.study_digest, 1, 1, 1), CHARGE)
        assert caplog.text == ""
        ledger.commit(AttemptKey(CHARGE.study_digest, 1, 1, 1))
        (entry,) = ledger.entries()
        assert (entry.intent_time, entry.charge_time) == (105.0, 103.0)
    assert "The clock went back by 2.0 s" in caplog.text
    caplog.clear()
    open_test_ledger(path, clock=lambda: 90.0).close()
    assert "1 records of the ledger are older" in caplog.text
    assert "The clock is 13.0 s behind" in caplog.text


@pytest.mark.parametrize("seed", range(40))
def test_no_flipped_bit_loses_a_record(path: Path, seed: int) -> None:
    data = bytearray(path.read_bytes())
    place = random.Random(seed).randrange(8 * len(data))
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)
    try:
        with open_test_ledger(path) as ledger:
            assert len(book_of(ledger).of_study(CHARGE.study_digest)) == ATTEMPTS
    except LedgerError as error:
        assert error.hint
