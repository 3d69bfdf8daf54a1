"""The patients' register: one SQLite file beside the ledger, which a person may change while the
agent runs.

Guarantees, each with a test:

- It holds no patient's id and no file's bytes, only lines and tile names (see `key`).
- A tile that is known, under an id that is new, gives the new id the line of the old one; two
  lines that come to share a tile become one, the older. What was merged stays merged.
- A line of which any part was withdrawn is withdrawn whole, whatever ids and tiles join it later.
- Every change has reached the disk when the call returns.

It charges nothing: the site's ledger charges one line for all patients together. The `stays` tell
a patient's own figure, at the site alone.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from privacy.errors import LedgerError

APPLICATION: Final = 0x43465031  # "CFP1": marks the file as a register
VERSION: Final = 1
BUSY_SECONDS: Final = 5.0

# `root` is the number of the line that stands for this one, its own where nothing was merged; a
# root's root is itself. `withdrawn` and stays count at the root.
_SCHEMA: Final = f"""
CREATE TABLE line (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    root INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX line_root ON line (root);
CREATE TABLE tile (name BLOB PRIMARY KEY, line INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE stay (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    line INTEGER NOT NULL,
    since REAL NOT NULL,
    until REAL
) STRICT;
CREATE INDEX stay_line ON stay (line);
CREATE TABLE key (one INTEGER PRIMARY KEY CHECK (one = 1), name BLOB NOT NULL) STRICT;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""


@dataclass(frozen=True, slots=True)
class Stay:
    """A time, unix seconds, in which a line's tiles could be drawn; `until` None: still."""

    since: float
    until: float | None


class Register:
    """The register in `path`, made if absent. Thread-safe; several processes may have it open.

    Raises `LedgerError` if the file is no register, damaged, of a newer version or unreadable.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: int | None = None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except OSError as error:
            raise LedgerError(
                f"The patients' register {path} cannot be opened: {error.strerror}.",
                "Check that the state folder exists, and its owner.",
            ) from None
        try:
            with self._clear_errors():
                _prepare(self._database, path)
        except LedgerError:
            self.close()
            raise

    def __enter__(self) -> Register:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Calling it again changes nothing."""
        with self._lock:
            self._database.close()

    def claim(self, key_name: bytes) -> None:
        """Bind a new register to its key's name; raises `LedgerError` for the name of another."""
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO key VALUES (1, ?)", (key_name,))
            (known,) = database.execute("SELECT name FROM key").fetchone()
        if known != key_name:
            raise LedgerError(
                f"The patients' register {self._path} belongs to another key.",
                "Restore key and register from one backup.",
            )

    def is_claimed(self) -> bool:
        """True once a key was bound to the register."""
        with self._reading() as database:
            return database.execute("SELECT 1 FROM key").fetchone() is not None

    def observe(self, sightings: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
        """Take in all usable tiles of the data folder, (line of the id, name of the tile) each.

        Returns for each of these lines the one that stands for it, itself or an older one. Opens
        the stays of those that are present and not withdrawn, and ends those of the absent.
        """
        with self._transaction() as database:
            lines = dict.fromkeys(_noted(database, sightings))
            numbers = {line: _root(database, line) for line in lines}
            _keep_stays(database, set(numbers.values()), self._clock())
            return {line: _id(database, number) for line, number in numbers.items()}

    def find(self, line: bytes) -> bytes | None:
        """The line that stands for `line`; None if it was never seen."""
        with self._reading() as database:
            row = database.execute(
                "SELECT r.id FROM line l JOIN line r ON r.number = l.root WHERE l.id = ?", (line,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def withdraw(self, line: bytes) -> bool:
        """Mark `line` as withdrawn, known or not; False if it already was."""
        return self._mark(line, withdrawn=True)

    def restore(self, line: bytes) -> bool:
        """Undo `withdraw`; False if `line` was not withdrawn."""
        return self._mark(line, withdrawn=False)

    def withdrawn(self) -> frozenset[bytes]:
        """Every line that is withdrawn, those that another stands for included."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT l.id FROM line l JOIN line r ON r.number = l.root WHERE r.withdrawn"
            )
            return frozenset(bytes(row[0]) for row in rows)

    def changed_elsewhere(self) -> bool:
        """True at the first call, and where another process changed the file since the last."""
        with self._reading() as database:
            (version,) = database.execute("PRAGMA data_version").fetchone()
            seen, self._seen = self._seen, int(version)
        return seen != self._seen

    def stays(self, line: bytes) -> tuple[Stay, ...]:
        """When the tiles of `line`, and of all that were merged with it, could be drawn."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT since, until FROM stay WHERE line = (SELECT root FROM line WHERE id = ?) "
                "ORDER BY number",
                (line,),
            )
            return tuple(Stay(since, until) for since, until in rows)

    def _mark(self, line: bytes, *, withdrawn: bool) -> bool:
        with self._transaction() as database:
            root = _root(database, line)
            changed = database.execute(
                "UPDATE line SET withdrawn = ? WHERE number = ? AND withdrawn != ?",
                (withdrawn, root, withdrawn),
            ).rowcount
            if withdrawn:
                _end_stays(database, [root], self._clock())
        return changed > 0

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._clear_errors():
            yield self._database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; fsynced when it ends without an error."""
        with self._lock, self._clear_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite quotes what is damaged
            raise _explain(error, self._path) from error


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Check the file before changing it, then make its schema where it is empty."""
    database.execute("BEGIN IMMEDIATE")
    if _is_empty(database, path):
        for statement in filter(str.strip, _SCHEMA.split(";")):
            database.execute(statement)
    database.execute("COMMIT")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA secure_delete = ON")
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _is_empty(database: sqlite3.Connection, path: Path) -> bool:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return True
    if application != APPLICATION:
        raise LedgerError(
            f"{path} is no register of patients.", "Point agent.state at the right folder."
        )
    if version != VERSION:
        raise LedgerError(
            f"{path} has register version {version}; this craftsfl reads version {VERSION}.",
            "Install the craftsfl that wrote it, or a newer one.",
        )
    return False


def _noted(
    database: sqlite3.Connection, sightings: Iterable[tuple[bytes, bytes]]
) -> Iterator[bytes]:
    for line, tile in sightings:
        _note(database, line, tile)
        yield line


def _note(database: sqlite3.Connection, line: bytes, tile: bytes) -> None:
    """Take in one tile of one id; merges where the tile is known as another line's."""
    own = _root(database, line)
    known = database.execute(
        "SELECT l.root FROM tile t JOIN line l ON l.number = t.line WHERE t.name = ?", (tile,)
    ).fetchone()
    if known is None:
        database.execute("INSERT INTO tile VALUES (?, ?)", (tile, own))
    elif known[0] != own:
        _merge(database, min(known[0], own), max(known[0], own))


def _merge(database: sqlite3.Connection, older: int, newer: int) -> None:
    database.execute(
        "UPDATE line SET withdrawn = (SELECT max(withdrawn) FROM line WHERE number IN (?1, ?2)) "
        "WHERE number = ?1",
        (older, newer),
    )
    database.execute("UPDATE line SET root = ? WHERE root = ?", (older, newer))
    database.execute("UPDATE stay SET line = ? WHERE line = ?", (older, newer))


def _root(database: sqlite3.Connection, line: bytes) -> int:
    """The number of the line that stands for `line`; a new one for a new line."""
    row = database.execute("SELECT root FROM line WHERE id = ?", (line,)).fetchone()
    if row is not None:
        return int(row[0])
    number = database.execute("INSERT INTO line (id, root) VALUES (?, 0)", (line,)).lastrowid
    database.execute("UPDATE line SET root = number WHERE number = ?", (number,))
    return int(number or 0)


def _id(database: sqlite3.Connection, number: int) -> bytes:
    row = database.execute("SELECT id FROM line WHERE number = ?", (number,)).fetchone()
    return bytes(row[0])


def _keep_stays(database: sqlite3.Connection, present: set[int], now: float) -> None:
    staying = {n for (n,) in database.execute("SELECT line FROM stay WHERE until IS NULL")}
    out = {n for (n,) in database.execute("SELECT number FROM line WHERE withdrawn")}
    _end_stays(database, staying - (present - out), now)
    fresh = [(number, now) for number in sorted(present - out - staying)]
    database.executemany("INSERT INTO stay (line, since) VALUES (?, ?)", fresh)


def _end_stays(database: sqlite3.Connection, lines: Iterable[int], now: float) -> None:
    """A clock that went back ends a stay where it began, not before."""
    database.executemany(
        "UPDATE stay SET until = max(since, ?) WHERE line = ? AND until IS NULL",
        [(now, line) for line in lines],
    )


def _explain(error: Exception, path: Path) -> LedgerError:
    name = getattr(error, "sqlite_errorname", "")
    words: Mapping[str, tuple[str, str]] = {
        "SQLITE_BUSY": ("is in use by another process", "Try again in a moment."),
        "SQLITE_FULL": ("is on a full disk", "Free some space; nothing was lost."),
        "SQLITE_READONLY": ("cannot be written", "Check the owner of the state folder."),
        "SQLITE_CANTOPEN": ("cannot be opened", "Check the owner of the state folder."),
        "SQLITE_IOERR": ("cannot be read or written", "Check the disk and its free space."),
    }
    for start, (what, then) in words.items():
        if name.startswith(start):
            return LedgerError(f"The patients' register {path} {what}.", then)
    return LedgerError(
        f"The patients' register {path} is damaged or no register.",
        "Restore it and its key from a backup: it knows who withdrew.",
    )
