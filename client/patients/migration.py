"""From the register's first version, which merged lines by itself, to the present one.

What it merged stays merged, each as a decision that a person can look at and undo.
"""

from __future__ import annotations

import sqlite3
from typing import Final

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


def migrate(database: sqlite3.Connection, now: float) -> None:
    """Bring a register of version 1 up to version 2, inside the caller's transaction."""
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
