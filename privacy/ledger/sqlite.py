"""The first ledger: one SQLite file, fsynced at every change, open in one process at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from privacy.errors import LedgerError
from privacy.events import from_json
from privacy.ledger.base import AttemptKey, Charge, Entry, State, total

APPLICATION: Final = 0x43464C31  # "CFL1": marks the file as a ledger
VERSION: Final = 1

# `run` needs 64 unsigned bits, one more than SQLite's integers have: decimal text.
_SCHEMA: Final = f"""
CREATE TABLE entry (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    study BLOB NOT NULL,
    event TEXT NOT NULL,
    delta REAL NOT NULL,
    state TEXT NOT NULL,
    UNIQUE (run, round, attempt)
) STRICT;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""
_COLUMNS: Final = "run, round, attempt, study, event, delta, state"
_WHERE: Final = "run = ? AND round = ? AND attempt = ?"
_Row = tuple[str, int, int, bytes, str, float, str]


class SqliteLedger:
    """`Ledger` in the SQLite file `path`, made if absent; its folder must exist. Thread-safe.

    Raises `LedgerError` if the file is no ledger, damaged, of a newer version, unreadable, or
    held by another process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        with self._clear_errors():
            self._database = sqlite3.connect(
                path, timeout=0.2, isolation_level=None, check_same_thread=False
            )
        try:
            with self._clear_errors():
                _prepare(self._database, path)
        except LedgerError:
            self.close()
            raise

    def __enter__(self) -> SqliteLedger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def intent(self, key: AttemptKey, charge: Charge) -> None:
        """See `Ledger.intent`."""
        with self._transaction() as database:
            known = _find(database, key)
            if known is None:
                database.execute(
                    f"INSERT INTO entry ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*_key_values(key), *_charge_values(charge), State.INTENT.value),
                )
            elif known.charge != charge:
                raise LedgerError(
                    f"Round {key.round}, attempt {key.attempt} is already recorded with another "
                    "charge.",
                    "The coordinator must use a new attempt number.",
                )

    def commit(self, key: AttemptKey) -> None:
        """See `Ledger.commit`."""
        with self._transaction() as database:
            if _find(database, key) is None:
                raise LedgerError(
                    f"Round {key.round}, attempt {key.attempt} has no recorded intent.",
                    "Nothing may leave; start the attempt again.",
                )
            database.execute(
                f"UPDATE entry SET state = '{State.COMMITTED.value}' WHERE {_WHERE}",
                _key_values(key),
            )

    def spent(self, extra: Charge | None = None) -> float:
        """See `Ledger.spent`."""
        return total([*self._committed(), *([extra] if extra else [])])

    def spent_in(self, study_digest: bytes, extra: Charge | None = None) -> float:
        """See `Ledger.spent_in`."""
        if extra is not None and extra.study_digest != study_digest:
            raise LedgerError("The extra charge belongs to another study.")
        mine = [charge for charge in self._committed() if charge.study_digest == study_digest]
        return total([*mine, *([extra] if extra else [])])

    def rounds(self, study_digest: bytes) -> int:
        """See `Ledger.rounds`."""
        return sum(charge.study_digest == study_digest for charge in self._committed())

    def no_privacy(self) -> bool:
        """See `Ledger.no_privacy`."""
        return any(charge.event.no_privacy for charge in self._committed())

    def entries(self) -> tuple[Entry, ...]:
        """See `Ledger.entries`."""
        with self._lock, self._clear_errors():
            rows = self._open().execute(f"SELECT {_COLUMNS} FROM entry ORDER BY sequence")
            return tuple(_entry(row) for row in rows)

    def close(self) -> None:
        """See `Ledger.close`."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def _committed(self) -> list[Charge]:
        return [entry.charge for entry in self.entries() if entry.state is State.COMMITTED]

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise LedgerError("The ledger is closed.", "Open it again.")
        return self._database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; fsynced when it ends without an error."""
        with self._lock, self._clear_errors():
            database = self._open()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Turn SQLite's errors into `LedgerError` with the fix."""
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(error, self._path) from error


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Take the file for this process alone, check it before changing it, then make its schema."""
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("BEGIN IMMEDIATE")  # the lock is kept from here until the file is closed
    fresh = _identify(database, path)
    database.execute("ROLLBACK")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    if fresh:
        database.execute("BEGIN IMMEDIATE")
        for statement in filter(str.strip, _SCHEMA.split(";")):
            database.execute(statement)
        database.execute("COMMIT")
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _identify(database: sqlite3.Connection, path: Path) -> bool:
    """True for an empty file, False for a ledger of this version; `LedgerError` otherwise."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return True
    if application != APPLICATION:
        raise LedgerError(f"{path} is no ledger.", "Point agent.state at the right folder.")
    if version != VERSION:
        raise LedgerError(
            f"{path} has ledger version {version}; this craftsfl reads version {VERSION}.",
            "Install the craftsfl that wrote it, or a newer one.",
        )
    return False


def _find(database: sqlite3.Connection, key: AttemptKey) -> Entry | None:
    row = database.execute(
        f"SELECT {_COLUMNS} FROM entry WHERE {_WHERE}", _key_values(key)
    ).fetchone()
    return None if row is None else _entry(row)


def _key_values(key: AttemptKey) -> tuple[str, int, int]:
    return str(key.run), key.round, key.attempt


def _charge_values(charge: Charge) -> tuple[bytes, str, float]:
    return charge.study_digest, charge.event.to_json(), charge.delta


def _entry(row: _Row) -> Entry:
    run, round_, attempt, study, event, delta, state = row
    try:
        key, charge = AttemptKey(int(run), round_, attempt), Charge(study, from_json(event), delta)
        return Entry(key, charge, State(state))
    except ValueError as error:
        raise LedgerError("A ledger entry is damaged.", "Restore the ledger.") from error


def _explain(error: sqlite3.Error, path: Path) -> LedgerError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LedgerError(
            f"{path} is in use by another process.", "Stop the other site agent, then try again."
        )
    if name.startswith("SQLITE_FULL"):
        return LedgerError("The disk of the ledger is full.", "Free some space; nothing was lost.")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return LedgerError(
            f"{path} cannot be opened for writing.", "Check that its folder exists and its owner."
        )
    if name.startswith("SQLITE_IOERR"):
        return LedgerError(f"{path} cannot be read or written.", "Check the disk.")
    return LedgerError(
        f"{path} is damaged or no ledger.",
        "Restore it from a backup; never start over with an empty one: the budget is spent.",
    )
