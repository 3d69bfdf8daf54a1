"""The register's tables: made in a new file, upgraded from the first version, checked in any case.

The first version merged lines by itself; what it merged stays merged, each as a decision that a
person can review and undo.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from privacy.errors import LedgerError
from privacy.transaction import transaction

_APPLICATION: Final = 0x43465031  # "CFP1": marks the file as a register
VERSION: Final = 2

TILE: Final = """CREATE TABLE tile (
    name BLOB NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (name, line)
) STRICT, WITHOUT ROWID"""
DECISION: Final = """CREATE TABLE decision (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    line INTEGER NOT NULL,
    other INTEGER NOT NULL
) STRICT"""

# `root` is the number of the line that represents this one, its own if nothing was merged; a root's
# root is itself. `withdrawn` and stays count at the root. A tile is kept under every line that it
# was seen under.
_SCHEMA: Final = f"""
CREATE TABLE line (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    root INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX line_root ON line (root);
{TILE};
{DECISION};
CREATE TABLE stay (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    line INTEGER NOT NULL,
    since REAL NOT NULL,
    until REAL
) STRICT;
CREATE INDEX stay_line ON stay (line);
CREATE TABLE key (one INTEGER PRIMARY KEY CHECK (one = 1), name BLOB NOT NULL) STRICT;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
"""


def prepare_register(database: sqlite3.Connection, path: Path, now: float) -> None:
    """Check the file before changing it, then make its schema, or upgrade an older one.

    `now`, unix seconds, dates what an older version decided. Raises `LedgerError`, and
    `sqlite3.DatabaseError` where the file is damaged.
    """
    with transaction(database):
        version = _version(database, path)
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                database.execute(statement)
        elif version < VERSION:
            _migrate(database, now)
            database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA secure_delete = ON")
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _version(database: sqlite3.Connection, path: Path) -> int:
    """The version of the file's schema; 0 for an empty one."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != _APPLICATION:
        raise LedgerError(
            f"{path} is not a register of patients.", "Point agent.state at the right folder."
        )
    if not 1 <= version <= VERSION:
        raise LedgerError(
            f"{path} has register version {version}; this craftsfl reads up to {VERSION}.",
            "Install the craftsfl that wrote it, or a newer one.",
        )
    return int(version)


def _migrate(database: sqlite3.Connection, now: float) -> None:
    """Upgrade a register from version 1 to version 2, inside the caller's transaction."""
    database.execute("ALTER TABLE tile RENAME TO earlier")
    database.execute(TILE)
    database.execute("INSERT INTO tile SELECT name, line FROM earlier")
    database.execute("DROP TABLE earlier")
    database.execute(DECISION)
    database.execute(
        "INSERT INTO decision (time, kind, line, other) "
        "SELECT ?, 'automatic', root, number FROM line WHERE root != number ORDER BY number",
        (now,),
    )
