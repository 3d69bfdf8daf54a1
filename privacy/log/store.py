"""The log on disk: one SQLite file of the coordinator, of which nothing is ever changed or removed.

Entries, the hashes of complete subtrees (O(1) of them an entry, so that a proof reads O(log n)),
checkpoints and cosignatures. Guarantees, each with a test:

- What `append` and `keep` were given is on disk when they return; what a kill interrupts is there
  whole or not at all.
- On opening every hash is worked out again from the entries: a file that lacks an entry, has a
  changed one or another, or is older than a checkpoint that it holds, is refused.
- A checkpoint is signed only over what is on disk, and no two of one size.
"""

# Why: docs/adr/0059-a-log-that-every-site-witnesses.md

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from privacy.closing import Closing
from privacy.error_ids import ErrorId
from privacy.errors import LogError
from privacy.files import make_private
from privacy.log.checkpoints import Cosignature, TreeHead
from privacy.log.merkle import consistency_proof, grown, inclusion_proof, leaf_hash, tree_root
from privacy.log.notes import SignedNote
from privacy.transaction import transaction

_APPLICATION: Final = 0x43464C4C  # "CFLL": marks the file as a log
_VERSION: Final = 1
_SMALLEST: Final = 512  # bytes of a page
_LEVELS: Final = 48  # bits of a node's place
# The triggers prevent mistakes; deliberate changes are found by hash and signature.
_TABLES: Final = ("entry", "node", "checkpoint", "cosignature")
_SCHEMA: Final = (
    "CREATE TABLE entry (place INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT",
    "CREATE TABLE node (place INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT",
    "CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT",
    "CREATE TABLE cosignature (size INTEGER NOT NULL, witness BLOB NOT NULL, data BLOB NOT NULL, "
    "PRIMARY KEY (size, witness)) STRICT",
    *(
        f"CREATE TRIGGER {table}_is_never_{done} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, 'the log only grows'); END"
        for table in _TABLES
        for verb, done in (("UPDATE", "changed"), ("DELETE", "removed"))
    ),
)


class LogStore(Closing):
    """The log in the file `path`, made if absent. One process at a time appends; not thread-safe.

    Raises `LogError` for a file that is not a log or is damaged, and where another process appends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._clear_errors():
            make_private(path)
            self._database = sqlite3.connect(
                path, timeout=5, isolation_level=None, check_same_thread=False
            )
        try:
            with self._clear_errors():
                self._open()
        except LogError:
            self._database.close()
            raise

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self._size

    def append(self, entries: Sequence[bytes]) -> int:
        """Add `entries` and return the size with them; all are on disk then, or none is."""
        hashes = [leaf_hash(entry) for entry in entries]
        places = enumerate(entries, self._size)
        made = grown(self._size, hashes, self.node)
        with self._clear_errors(), transaction(self._database):
            self._database.executemany("INSERT INTO entry VALUES (?, ?)", places)
            self._database.executemany(
                "INSERT INTO node VALUES (?, ?)",
                [(_key(level, place), digest) for level, place, digest in made],
            )
        self._size += len(entries)
        return self._size

    def keep(self, head: TreeHead, note: SignedNote) -> None:
        """Keep the checkpoint of a size that is on disk; one for each size."""
        if head.size > self._size or head.root != self.root(head.size):
            raise LogError(f"A checkpoint of {head} is not of this log.", "Sign another one.")
        with self._clear_errors(), transaction(self._database):
            self._database.execute(
                "INSERT OR IGNORE INTO checkpoint VALUES (?, ?)", (head.size, note.encode())
            )

    def keep_cosignatures(self, size: int, found: Sequence[tuple[bytes, Cosignature]]) -> None:
        """Keep what witnesses (their public keys) have signed of the checkpoint of this size."""
        rows = [(size, witness, cosignature.encode()) for witness, cosignature in found]
        with self._clear_errors(), transaction(self._database):
            self._database.executemany("INSERT OR IGNORE INTO cosignature VALUES (?, ?, ?)", rows)

    def entries(self, first: int = 0, until: int | None = None) -> Iterator[bytes]:
        """The entries from `first` on, to before `until`."""
        end = self._size if until is None else until
        with self._clear_errors():
            rows = self._database.execute(
                "SELECT data FROM entry WHERE place >= ? AND place < ? ORDER BY place", (first, end)
            )
            yield from (data for (data,) in rows)

    def checkpoint(self, size: int | None = None) -> SignedNote | None:
        """The checkpoint of this size, or the newest; None if there is none."""
        with self._clear_errors():
            row = self._database.execute(
                "SELECT note FROM checkpoint WHERE ? IS NULL OR size = ? "
                "ORDER BY size DESC LIMIT 1",
                (size, size),
            ).fetchone()
        return None if row is None else SignedNote.decode(row[0])

    def cosignatures(self, size: int) -> dict[bytes, Cosignature]:
        """Who has cosigned the checkpoint of this size, by their public keys."""
        with self._clear_errors():
            rows = self._database.execute(
                "SELECT witness, data FROM cosignature WHERE size = ? ORDER BY witness", (size,)
            ).fetchall()
        return {witness: Cosignature.decode(data) for witness, data in rows}

    def cosigned_last(self) -> dict[bytes, int]:
        """The newest size that each witness (its public key) has cosigned."""
        with self._clear_errors():
            rows = self._database.execute(
                "SELECT witness, max(size) FROM cosignature GROUP BY witness"
            ).fetchall()
        return dict(rows)

    def cosigned_sizes(self) -> tuple[int, ...]:
        """The sizes of which somebody has cosigned the checkpoint, the newest first."""
        with self._clear_errors():
            rows = self._database.execute(
                "SELECT DISTINCT size FROM cosignature ORDER BY size DESC"
            ).fetchall()
        return tuple(size for (size,) in rows)

    def root(self, size: int) -> bytes:
        """The root of the first `size` entries."""
        self._check(size)
        return tree_root(size, self.node)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """What proves that entry `index` is among the first `size`."""
        self._check(size)
        return inclusion_proof(index, size, self.node)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """What proves that the first `old` entries are the first of `new`."""
        self._check(new)
        return consistency_proof(old, new, self.node)

    def node(self, level: int, place: int) -> bytes:
        """The hash of a complete subtree."""
        with self._clear_errors():
            row = self._database.execute(
                "SELECT hash FROM node WHERE place = ?", (_key(level, place),)
            ).fetchone()
        if row is None:
            raise self._damaged(f"it lacks a hash of level {level}")
        return bytes(row[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _open(self) -> None:
        database = self._database
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        fresh = (application, version) == (0, 0) and not self._schema()
        if fresh and 0 < self._path.stat().st_size < _SMALLEST:
            raise self._damaged("it is cut off")  # SQLite would begin a new one in its place
        if not fresh and application != _APPLICATION:
            raise LogError(f"{self._path} is not a log.", "Choose another file for it.")
        if not fresh and version != _VERSION:
            raise LogError(
                f"{self._path} has version {version} of the log; this craftsfl reads {_VERSION}.",
                "Install the craftsfl that wrote it, or a newer one.",
            )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA fullfsync = ON")
        if fresh:
            self._create()
        elif self._schema() != _SCHEMA:
            raise self._damaged("its tables differ")
        self._size = self._verified()

    def _create(self) -> None:
        with transaction(self._database):
            for statement in _SCHEMA:
                self._database.execute(statement)
            self._database.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._database.execute(f"PRAGMA user_version = {_VERSION}")

    def _schema(self) -> tuple[str, ...]:
        rows = self._database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        return tuple(sql for (sql,) in rows)

    def _verified(self) -> int:
        """The size, once every hash was worked out from the entries, and all checkpoints hold."""
        rows = self._database.execute("SELECT place, data FROM entry ORDER BY place")
        size = 0
        made: dict[tuple[int, int], bytes] = {}

        def leaves() -> Iterator[bytes]:
            nonlocal size
            for place, data in rows:
                if place != size or type(data) is not bytes:
                    raise self._damaged(f"entry {size} is missing")
                size += 1
                yield leaf_hash(data)

        for level, place, digest in grown(0, leaves(), self.node):
            made[level, place] = digest
        kept = self._database.execute("SELECT place, hash FROM node ORDER BY place").fetchall()
        expected = sorted((_key(*at), digest) for at, digest in made.items())
        if kept != expected:
            raise self._damaged("its hashes are not those of its entries")
        self._check_checkpoints(size, made)
        return size

    def _check_checkpoints(self, size: int, made: dict[tuple[int, int], bytes]) -> None:
        for claimed, note in self._database.execute("SELECT size, note FROM checkpoint"):
            head = TreeHead.of_text(SignedNote.decode(note).text)
            if claimed > size or head.size != claimed:
                raise self._damaged(f"it has {size} entries, and has signed {claimed}")
            if head.root != tree_root(claimed, lambda level, place: made[level, place]):
                raise self._damaged(f"its first {claimed} entries are not those it has signed")

    def _check(self, size: int) -> None:
        if not 0 <= size <= self._size:
            raise LogError(f"The log has {self._size} entries, not {size}.")

    def _damaged(self, why: str) -> LogError:
        return LogError(
            f"The log {self._path} is damaged, or an older copy: {why}.",
            "Restore the newest copy of the coordinator's state folder. The sites refuse an older "
            "log than they have cosigned.",
            id=ErrorId.LOG_DAMAGED,
        )

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except (UnicodeDecodeError, OverflowError, MemoryError) as error:
            raise self._damaged("its file cannot be read") from error
        except OSError as error:
            raise LogError(
                f"The log {self._path} cannot be opened: {error.strerror}.",
                "Check the folder's owner and the free space.",
            ) from error
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> LogError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CONSTRAINT_PRIMARYKEY")):
            return LogError(
                f"{self._path} is in use by another process.",
                "End that one, then start this one again.",
            )
        if name.startswith("SQLITE_FULL"):
            return LogError("The disk of the log is full.", "Free some space; nothing was lost.")
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_PERM")):
            return LogError(f"{self._path} cannot be written.", "Check the disk and the owner.")
        return self._damaged("its file is not whole")


def _key(level: int, place: int) -> int:
    return level << _LEVELS | place
