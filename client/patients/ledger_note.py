"""The note on the ledger in the patients' register: its newest head at the agent's last start.

A separate table, made when first written, whatever the version of the register. So a ledger that
is lost, or older than at the last start, is noticed as long as the register survives.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from privacy.errors import LedgerError
from privacy.ledger.notes import Note
from privacy.transaction import transaction

_TABLE = (
    "CREATE TABLE IF NOT EXISTS ledger_note "
    "(one INTEGER PRIMARY KEY CHECK (one = 1), note BLOB NOT NULL) STRICT"
)
_BUSY_SECONDS = 5.0
_RESTORE = "Restore it and its key from a backup: it knows who withdrew."


def read_note(register: Path) -> Note | None:
    """The note in the file `register`; None where there is none. Raises `LedgerError`."""
    if not register.is_file() or register.stat().st_size == 0:
        return None
    try:
        with closing(_open(register, "ro")) as database:
            query = "SELECT count(*) FROM sqlite_master WHERE name = 'ledger_note'"
            if not database.execute(query).fetchone()[0]:
                return None
            row = database.execute("SELECT note FROM ledger_note").fetchone()
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise _unusable(register) from error
    return None if row is None else _decoded(row[0], register)


def write_note(register: Path, note: Note) -> None:
    """Keep `note` in the file `register`, which is there; on disk when this returns."""
    try:
        with closing(_open(register, "rw")) as database:
            database.execute("PRAGMA synchronous = FULL")
            with transaction(database):
                database.execute(_TABLE)
                database.execute(
                    "INSERT OR REPLACE INTO ledger_note VALUES (1, ?)", (note.encode(),)
                )
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise _unusable(register) from error


def _open(register: Path, mode: str) -> sqlite3.Connection:
    uri = f"{register.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)


def _decoded(data: object, register: Path) -> Note:
    try:
        return Note.decode(data if isinstance(data, bytes) else b"")
    except LedgerError as error:
        raise LedgerError(
            f"The patients' register {register} is damaged: its note on the ledger. "
            f"{error.message}",
            error.hint or _RESTORE,
        ) from error


def _unusable(register: Path) -> LedgerError:
    return LedgerError(
        f"The patients' register {register} is damaged, in use, or cannot be read or written.",
        f"Check the disk and the file's owner. {_RESTORE}",
    )
