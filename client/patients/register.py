"""The patients' register: one SQLite file next to the ledger, which people may change while the
agent runs.

Guarantees, each with a test:

- It holds no patient's id and no file's bytes, only lines and tile names (see `key`).
- An id represents itself, whatever tiles are seen under it, unless a person has merged it with
  another: then the older represents both. Every such decision is kept, with its time.
- If any part of a line was withdrawn, all of it is, whatever is merged with it later.
- Every change has reached the disk when the call returns.

It charges nothing: the site's ledger charges all patients together. The `stays` yield a patient's
own figure, at the site only.
"""

# Why: docs/adr/0009-patients.md

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.patients.schema import prepare_register
from client.patients.sharing import Shared, shared_by
from client.patients.tables import (
    decided,
    end_stays,
    id_of,
    join_lines,
    keep_stays,
    note_decision,
    note_sightings,
    number_of,
    root_of,
    split_line,
)
from privacy.closing import Closing
from privacy.errors import LedgerError
from privacy.files import hint_for, make_private
from privacy.transaction import transaction

BUSY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Stay:
    """A period, in unix seconds, in which a line's tiles could be drawn; `until` None: still."""

    since: float
    until: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision about two lines, at `time` in unix seconds.

    "merge" or "separate"; or no person's: "automatic", merged by an earlier version because of a
    shared tile, and "spelling", two spellings of one id that an earlier version kept apart.
    """

    time: float
    kind: str
    first: bytes
    second: bytes


class Register(Closing):
    """The register in `path`, made if absent. Thread-safe; several processes may have it open.

    Raises `LedgerError` if the file is not a register, damaged, of a newer version or unreadable.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: int | None = None
        try:
            make_private(path)
            self._database = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except OSError as error:
            raise LedgerError(
                f"The patients' register {path} cannot be opened: {error.strerror}.",
                hint_for(error, "Check that the state folder exists, and its owner."),
            ) from None
        try:
            with self._clear_errors():
                prepare_register(self._database, path, clock())
        except LedgerError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file. Calling it again changes nothing."""
        with self._lock:
            self._database.close()

    def claim(self, key_name: bytes) -> None:
        """Bind a new register to its key's name; raises `LedgerError` for another key's name."""
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
        """Record all usable tiles of the data folder, each as (line of the id, name of the tile).

        Returns for each of these lines the one that represents it: itself, or the one with which a
        person merged it, regardless of what else is observed. Begins the stays of those that are
        present and not withdrawn, and ends those of the absent.
        """
        with self._transaction() as database:
            lines = dict.fromkeys(note_sightings(database, sightings))
            numbers = {line: root_of(database, line) for line in lines}
            keep_stays(database, set(numbers.values()), self._clock())
            return {line: id_of(database, number) for line, number in numbers.items()}

    def find(self, line: bytes) -> bytes | None:
        """The line that represents `line`; None if it was never seen."""
        with self._reading() as database:
            row = database.execute(
                "SELECT r.id FROM line l JOIN line r ON r.number = l.root WHERE l.id = ?", (line,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def merge(self, first: bytes, second: bytes) -> bool:
        """Make two lines one person's, known or not; False if they already were.

        A person's decision, never inferred from data: anyone able to trigger it could merge other
        people and take them out of the study.
        """
        with self._transaction() as database:
            numbers = root_of(database, first), root_of(database, second)
            if numbers[0] == numbers[1]:
                return False
            join_lines(database, min(numbers), max(numbers))
            note_decision(database, "merge", numbers, self._clock())
        return True

    def join_spelling(self, former: bytes, line: bytes) -> None:
        """Make two spellings of one id one line, once: a person may separate them for good."""
        with self._transaction() as database:
            numbers = root_of(database, former), root_of(database, line)
            own = number_of(database, former), number_of(database, line)
            if numbers[0] == numbers[1] or decided(database, own):
                return
            join_lines(database, min(numbers), max(numbers))
            note_decision(database, "spelling", own, self._clock())

    def separate(self, line: bytes) -> int:
        """Undo every merging of `line`: each of its lines represents itself; returns how many.

        Each of them keeps whether they withdrew, and when they could be drawn.
        """
        with self._transaction() as database:
            root = root_of(database, line)
            rows = database.execute("SELECT number FROM line WHERE root = ?", (root,))
            parts = [number for (number,) in rows if number != root]
            for number in parts:
                split_line(database, root, number)
                note_decision(database, "separate", (root, number), self._clock())
        return len(parts) + 1

    def decisions(self) -> tuple[Decision, ...]:
        """Everything that was ever merged or separated, in order."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT d.time, d.kind, a.id, b.id FROM decision d JOIN line a ON a.number = d.line"
                " JOIN line b ON b.number = d.other ORDER BY d.number"
            )
            return tuple(Decision(time, kind, bytes(a), bytes(b)) for time, kind, a, b in rows)

    def shared(self) -> tuple[Shared, ...]:
        """The sets of distinct persons' lines under which the same tiles were seen."""
        return shared_by(self.sightings())

    def sightings(self) -> tuple[tuple[bytes, bytes], ...]:
        """Every (line that represents itself, name of a tile) that was ever observed."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT DISTINCT r.id, t.name FROM tile t JOIN line l ON l.number = t.line "
                "JOIN line r ON r.number = l.root"
            )
            return tuple((bytes(line), bytes(tile)) for line, tile in rows)

    def withdraw(self, line: bytes) -> bool:
        """Mark `line` as withdrawn, known or not; False if it already was."""
        return self._mark(line, withdrawn=True)

    def restore(self, line: bytes) -> bool:
        """Undo `withdraw`; False if `line` was not withdrawn."""
        return self._mark(line, withdrawn=False)

    def withdrawn(self) -> frozenset[bytes]:
        """Every line that is withdrawn, including those that another one represents."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT l.id FROM line l JOIN line r ON r.number = l.root WHERE r.withdrawn"
            )
            return frozenset(bytes(row[0]) for row in rows)

    def lines(self) -> frozenset[bytes]:
        """Every line that was ever seen or decided about."""
        with self._reading() as database:
            return frozenset(bytes(row[0]) for row in database.execute("SELECT id FROM line"))

    def changed_elsewhere(self) -> bool:
        """True at the first call, and if another process changed the file since the last call."""
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
            root = root_of(database, line)
            changed = database.execute(
                "UPDATE line SET withdrawn = ? WHERE number = ? AND withdrawn != ?",
                (withdrawn, root, withdrawn),
            ).rowcount
            if withdrawn:
                end_stays(database, [root], self._clock())
        return changed > 0

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._clear_errors():
            yield self._database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; fsynced when it ends without an error."""
        with self._lock, self._clear_errors(), transaction(self._database):
            yield self._database

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite quotes what is damaged
            raise _explain(error, self._path) from error


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
        f"The patients' register {path} is damaged or not a register.",
        "Restore it and its key from a backup: it knows who withdrew.",
    )
