"""One transaction of SQLite: all or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing of what is changed within, and nobody else writes meanwhile.

    Done when it ends without an error: on disk as far as `PRAGMA synchronous` asks for that.
    `database` has `isolation_level=None`.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")
