"""The SQLite file of a ledger: one append-only table of signed records."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from privacy.error_ids import ErrorId
from privacy.errors import LedgerError
from privacy.ledger.chain import Chain
from privacy.ledger.records import decode
from privacy.transaction import transaction

_APPLICATION: Final = 0x43464C31  # "CFL1": marks the file as a ledger
# 1 had neither hashes nor signatures, 2 was bound to no identity. In 3 no two attempts had the same
# run, round and attempt, whatever their studies; a reader of that version refuses what may stand in
# a file of 4.
VERSION: Final = 4
UNBOUND: Final = 2
RUN_ALONE: Final = 3

# The triggers prevent mistakes; deliberate changes are found by hash and signature.
SCHEMA: Final = (
    "CREATE TABLE entry (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, "
    "signature BLOB NOT NULL) STRICT",
    "CREATE TRIGGER entry_is_never_changed BEFORE UPDATE ON entry "
    "BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END",
    "CREATE TRIGGER entry_is_never_removed BEFORE DELETE ON entry "
    "BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END",
)
_HEADER_BYTES: Final = 100  # of SQLite's file format, with the application's number in it
_APPLICATION_AT: Final = 68
_RESTORE: Final = (
    "Restore the newest backup of the whole state folder; never start over with an empty ledger: "
    "the budget is spent."
)


def open_to_write(
    path: Path, *, may_be_new: bool, may_be_unbound: bool = False
) -> sqlite3.Connection:
    """A connection whose every commit is on disk when it returns; makes an empty file if absent.

    The caller holds the ledger's lock. The file is checked before it is changed. Raises
    `LedgerError`, also for a new or empty file unless it `may_be_new`, and for a file of the
    previous version unless it `may_be_unbound`.
    """
    if not may_be_new and not path.exists():
        raise _lost(path)
    with clear_errors(path):
        database = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        with clear_errors(path):
            fresh = is_fresh(database, path, may_be_unbound=may_be_unbound)
            if fresh and not may_be_new:
                raise _lost(path)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA fullfsync = ON")  # fsync alone may stop at the disk's cache
            if not fresh:
                _check_pages(database)
    except LedgerError:
        database.close()
        raise
    return database


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes no record; others may be writing. Raises `LedgerError`."""
    if not path.is_file():
        raise LedgerError(f"There is no ledger {path}.", "It is made when the agent first starts.")
    with clear_errors(path):
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5, isolation_level=None
        )


def is_fresh(database: sqlite3.Connection, path: Path, *, may_be_unbound: bool = False) -> bool:
    """True for an empty file, False for a ledger; `LedgerError` otherwise."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    schema = tuple(sql for (sql,) in database.execute("SELECT sql FROM sqlite_master"))
    if (application, version, schema) == (0, 0, ()):
        return True
    if application != _APPLICATION:
        raise LedgerError(f"{path} is not a ledger.", "Point agent.state at the right folder.")
    if version == UNBOUND and not may_be_unbound:
        raise LedgerError(
            f"{path} has ledger version {UNBOUND}, from before ledgers were bound to their site's "
            "identity.",
            "Bind it once, with the agent stopped; a copy of the file is kept: craftsfl site "
            "migrate-ledger site.toml",
        )
    if version not in (UNBOUND, RUN_ALONE, VERSION):
        raise LedgerError(
            f"{path} has ledger version {version}; this craftsfl reads version {VERSION}.",
            "Install the craftsfl that wrote it, or a newer one.",
        )
    if schema != SCHEMA:
        raise LedgerError(f"{path} is damaged or was changed: its tables differ.", _RESTORE)
    return False


def holds_nothing(path: Path) -> bool:
    """Whether the file is empty, as left behind by an agent that died during its very first start.

    False for anything that opening it will explain. Raises `LedgerError` for an unreadable file.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        if len(header) == _HEADER_BYTES and header[_APPLICATION_AT:][:4] != bytes(4):
            return False
        if not header:
            return True
        # The first records may be in the write-ahead log only.
        with closing(open_to_read(path)) as database, clear_errors(path):
            return is_fresh(database, path, may_be_unbound=True)
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be read: {error.strerror}.", "Check the state folder's owner."
        ) from None
    except LedgerError:
        return False


def create(database: sqlite3.Connection, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Make the schema and the first records, (body, signature) each, in one transaction.

    The caller clears errors.
    """
    with transaction(database):
        for statement in SCHEMA:
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute(f"PRAGMA user_version = {VERSION}")
        for sequence, (body, signature) in enumerate(records):
            insert(database, sequence, body, signature)


def insert(database: sqlite3.Connection, sequence: int, body: bytes, signature: bytes) -> None:
    """Append one record; part of a transaction."""
    database.execute("INSERT INTO entry VALUES (?, ?, ?)", (sequence, body, signature))


def mark_bound(database: sqlite3.Connection) -> None:
    """Mark the file as of the present version; part of the transaction that binds it."""
    _mark(database)


def bring_up_to_date(database: sqlite3.Connection) -> None:
    """Mark a whole file of version 3 as of the present one, which has the same records.

    The caller has verified it and clears errors.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == RUN_ALONE:
        with transaction(database):
            _mark(database)


def _mark(database: sqlite3.Connection) -> None:
    database.execute(f"PRAGMA user_version = {VERSION}")


def newest(database: sqlite3.Connection) -> int | None:
    """The sequence number of the newest record."""
    (sequence,) = database.execute("SELECT max(sequence) FROM entry").fetchone()
    return None if sequence is None else int(sequence)


def bodies(database: sqlite3.Connection, first: int, until: int) -> list[bytes]:
    """The records from `first` on, to before `until`; the caller has verified them."""
    rows = database.execute(
        "SELECT body FROM entry WHERE sequence >= ? AND sequence < ? ORDER BY sequence",
        (first, until),
    )
    return [body for (body,) in rows]


def read_records(database: sqlite3.Connection, path: Path) -> Chain:
    """All records, verified one after the other. Raises `LedgerError`."""
    chain: Chain | None = None
    with clear_errors(path):
        rows = database.execute("SELECT sequence, body, signature FROM entry ORDER BY sequence")
        for sequence, body, signature in rows:
            if type(body) is not bytes or type(signature) is not bytes:
                # A damaged page may claim that.
                raise sqlite3.DatabaseError("a record is not bytes")
            if chain is None:
                chain = Chain(_ledger_of(body))
            if sequence != len(chain):
                raise LedgerError(f"Record {len(chain)} of the ledger is missing.", _RESTORE)
            chain.apply(body, signature)
    if chain is None:
        raise LedgerError(f"The ledger {path} holds no records.", _RESTORE)
    return chain


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into `LedgerError`s that say how to fix them."""
    try:
        yield
    except (UnicodeDecodeError, OverflowError, MemoryError) as error:
        # A damaged page: SQLite quotes it in its error message, or trusts a length that it claims.
        raise LedgerError(f"{path} is damaged or not a ledger.", _RESTORE) from error
    except sqlite3.Error as error:
        raise _explain(error, path) from error


def _lost(path: Path) -> LedgerError:
    return LedgerError(
        f"The ledger {path} is missing or empty, but the head file next to it shows that it once "
        "held records.",
        _RESTORE,
    )


def _check_pages(database: sqlite3.Connection) -> None:
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _ledger_of(body: bytes) -> bytes:
    try:
        return decode(body).ledger
    except LedgerError as error:
        raise LedgerError(
            f"Record 0 of the ledger is damaged or was changed: {error.message}",
            error.hint or _RESTORE,
            id=ErrorId.LEDGER_DAMAGED,
        ) from error


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
        return LedgerError(
            f"{path} cannot be read or written.", "Check the disk and its free space."
        )
    return LedgerError(f"{path} is damaged or not a ledger.", _RESTORE)
