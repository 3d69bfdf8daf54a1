"""The register's tables, read and changed: every function is part of its caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator


def note_sightings(
    database: sqlite3.Connection, sightings: Iterable[tuple[bytes, bytes]]
) -> Iterator[bytes]:
    """Record each (line, name of a tile); yields the lines, as they come."""
    for line, tile in sightings:
        root_of(database, line)
        database.execute(
            "INSERT OR IGNORE INTO tile SELECT ?, number FROM line WHERE id = ?", (tile, line)
        )
        yield line


def note_decision(
    database: sqlite3.Connection, kind: str, lines: tuple[int, int], now: float
) -> None:
    """Record a person's decision about the two lines with these numbers."""
    database.execute(
        "INSERT INTO decision (time, kind, line, other) VALUES (?, ?, ?, ?)", (now, kind, *lines)
    )


def decided(database: sqlite3.Connection, lines: tuple[int, int]) -> bool:
    """Whether there ever was a decision about the two lines with these numbers."""
    query = "SELECT 1 FROM decision WHERE (line, other) IN (VALUES (?1, ?2), (?2, ?1))"
    return database.execute(query, lines).fetchone() is not None


def split_line(database: sqlite3.Connection, root: int, number: int) -> None:
    """Let line `number` represent itself again, with what counted at `root` until now."""
    database.execute(
        "UPDATE line SET root = number, withdrawn = (SELECT withdrawn FROM line WHERE number = ?) "
        "WHERE number = ?",
        (root, number),
    )
    database.execute(
        "INSERT INTO stay (line, since, until) SELECT ?, since, until FROM stay WHERE line = ?",
        (number, root),
    )


def join_lines(database: sqlite3.Connection, older: int, newer: int) -> None:
    """Let line `older` represent all that `newer` represents; withdrawn if either is."""
    database.execute(
        "UPDATE line SET withdrawn = (SELECT max(withdrawn) FROM line WHERE number IN (?1, ?2)) "
        "WHERE number = ?1",
        (older, newer),
    )
    database.execute("UPDATE line SET root = ? WHERE root = ?", (older, newer))
    database.execute("UPDATE stay SET line = ? WHERE line = ?", (older, newer))


def root_of(database: sqlite3.Connection, line: bytes) -> int:
    """The number of the line that represents `line`; a new one for a new line."""
    row = database.execute("SELECT root FROM line WHERE id = ?", (line,)).fetchone()
    if row is not None:
        return int(row[0])
    number = database.execute("INSERT INTO line (id, root) VALUES (?, 0)", (line,)).lastrowid
    database.execute("UPDATE line SET root = number WHERE number = ?", (number,))
    return int(number or 0)


def number_of(database: sqlite3.Connection, line: bytes) -> int:
    """The number of a known line, whoever represents it."""
    return int(database.execute("SELECT number FROM line WHERE id = ?", (line,)).fetchone()[0])


def id_of(database: sqlite3.Connection, number: int) -> bytes:
    """The line with this number."""
    row = database.execute("SELECT id FROM line WHERE number = ?", (number,)).fetchone()
    return bytes(row[0])


def keep_stays(database: sqlite3.Connection, present: set[int], now: float) -> None:
    """Begin the stays of those who are `present` and not withdrawn; end those of the others."""
    staying = {n for (n,) in database.execute("SELECT line FROM stay WHERE until IS NULL")}
    out = {n for (n,) in database.execute("SELECT number FROM line WHERE withdrawn")}
    end_stays(database, staying - (present - out), now)
    fresh = [(number, now) for number in sorted(present - out - staying)]
    database.executemany("INSERT INTO stay (line, since) VALUES (?, ?)", fresh)


def end_stays(database: sqlite3.Connection, lines: Iterable[int], now: float) -> None:
    """End the open stays of these lines; if the clock went back, when they began, not earlier."""
    database.executemany(
        "UPDATE stay SET until = max(since, ?) WHERE line = ? AND until IS NULL",
        [(now, line) for line in lines],
    )
