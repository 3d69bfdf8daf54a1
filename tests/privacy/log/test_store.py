from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from privacy.error_ids import ErrorId
from privacy.errors import LogError
from privacy.log.checkpoints import TreeHead, cosign, log_origin, signed_checkpoint
from privacy.log.merkle import check_consistency, check_inclusion, leaf_hash, root_over
from privacy.log.store import LogStore
from tests.privacy.log.world import COORDINATOR, MEMBERS

ORIGIN = log_origin("simulation", COORDINATOR.public)
ENTRIES = [f"entry {number}".encode() for number in range(100)]


def checkpointed(store: LogStore) -> TreeHead:
    head = TreeHead(ORIGIN, store.size, store.root(store.size))
    store.keep(head, signed_checkpoint(head, COORDINATOR))
    return head


def test_what_is_appended_is_there_and_proven(tmp_path: Path) -> None:
    with LogStore(tmp_path / "log.db") as store:
        assert store.append(ENTRIES[:37]) == 37
        assert store.append(ENTRIES[37:]) == 100
    with LogStore(tmp_path / "log.db") as store:
        assert list(store.entries()) == ENTRIES
        assert list(store.entries(3, 5)) == ENTRIES[3:5]
        for old, new in ((1, 100), (37, 100), (64, 65), (100, 100)):
            check_consistency(
                old, store.root(old), new, store.root(new), store.consistency(old, new)
            )
        for index, size in ((0, 1), (36, 37), (99, 100), (5, 64)):
            leaf = leaf_hash(ENTRIES[index])
            check_inclusion(leaf, index, size, store.inclusion(index, size), store.root(size))
        assert store.root(100) == root_over(leaf_hash(one) for one in ENTRIES)
        with pytest.raises(LogError):
            store.root(101)


def test_checkpoints_and_cosignatures_are_kept(tmp_path: Path) -> None:
    north = MEMBERS.identities["north"]
    with LogStore(tmp_path / "log.db") as store:
        assert store.checkpoint() is None
        store.append(ENTRIES[:3])
        first = checkpointed(store)
        store.append(ENTRIES[3:5])
        second = checkpointed(store)
        store.keep_cosignatures(3, [(north.public, cosign(first, north, 7))])
        with pytest.raises(LogError, match="not of this log"):
            store.keep(TreeHead(ORIGIN, 5, leaf_hash(b"x")), signed_checkpoint(second, COORDINATOR))
        with pytest.raises(LogError, match="not of this log"):
            store.keep(TreeHead(ORIGIN, 6, second.root), signed_checkpoint(second, COORDINATOR))
    with LogStore(tmp_path / "log.db") as store:
        newest, older = store.checkpoint(), store.checkpoint(3)
        assert newest is not None and older is not None
        assert (TreeHead.of_text(newest.text), TreeHead.of_text(older.text)) == (second, first)
        assert store.cosignatures(3)[north.public].is_of(first, north.public)
        assert store.cosignatures(5) == {} and store.cosigned_sizes() == (3,)
        assert store.cosigned_last() == {north.public: 3}


def damage(path: Path, statement: str) -> None:
    """Change the file as somebody would who knows SQLite."""
    with closing(sqlite3.connect(path)) as database, database:
        rows = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = dict(rows.fetchall())
        for name in triggers:
            database.execute(f"DROP TRIGGER {name}")
        database.execute(statement)
        for name, trigger in triggers.items():
            if not (statement.startswith("DROP") and name.startswith("cosignature")):
                database.execute(trigger)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entry WHERE place = 99",
        "DELETE FROM entry WHERE place = 0",
        "UPDATE entry SET data = x'00' WHERE place = 50",
        "INSERT INTO entry VALUES (100, x'00')",
        "DELETE FROM node WHERE place = 99",
        "UPDATE node SET hash = zeroblob(32) WHERE place = (SELECT max(place) FROM node)",
        "UPDATE checkpoint SET size = 90",
        "UPDATE checkpoint SET note = x'00'",
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 7",
        "DROP TABLE cosignature",
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "log.db"
    with LogStore(path) as store:
        store.append(ENTRIES)
        checkpointed(store)
    damage(path, statement)
    with pytest.raises(LogError):
        LogStore(path)


def test_a_log_that_was_cut_or_goes_on_otherwise_than_it_signed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with LogStore(path) as store:
        store.append(ENTRIES[:50])
    shutil.copy(path, tmp_path / "old.db")
    with LogStore(path) as store:
        store.append(ENTRIES[50:])
        note = signed_checkpoint(checkpointed(store), COORDINATOR)
    for name, more in (("cut.db", []), ("forked.db", [b"other"] * 50)):
        shutil.copy(tmp_path / "old.db", tmp_path / name)
        with LogStore(tmp_path / name) as store:
            store.append(more)
        with closing(sqlite3.connect(tmp_path / name)) as database, database:
            database.execute("INSERT INTO checkpoint VALUES (100, ?)", (note.encode(),))
        with pytest.raises(LogError, match="signed") as found:
            LogStore(tmp_path / name)
        assert found.value.id == ErrorId.LOG_DAMAGED


@pytest.mark.parametrize("at", [0.0, 0.3, 0.7, 0.99])
def test_a_file_that_is_torn_is_refused(tmp_path: Path, at: float) -> None:
    path = tmp_path / "log.db"
    with LogStore(path) as store:
        store.append(ENTRIES * 20)
        checkpointed(store)
    data = path.read_bytes()
    path.write_bytes(data[: max(1, int(at * len(data)))])
    with pytest.raises(LogError):
        LogStore(path)


def test_nothing_is_changed_or_removed_by_mistake(tmp_path: Path) -> None:
    with LogStore(tmp_path / "log.db") as store:
        store.append(ENTRIES[:3])
        with pytest.raises(sqlite3.IntegrityError, match="only grows"):
            store._database.execute("DELETE FROM entry")
        with LogStore(tmp_path / "log.db") as other:
            other.append(ENTRIES[3:4])
        with pytest.raises(LogError, match="another process"):
            store.append(ENTRIES[5:6])


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"something else, long enough to be no database at all" * 10)
    before = path.read_bytes()
    with pytest.raises(LogError):
        LogStore(path)
    assert path.read_bytes() == before


_WRITER = """
import sys
from pathlib import Path
from privacy.log.store import LogStore
store = LogStore(Path(sys.argv[1]))
while True:
    size = store.append([b"%d" % (store.size + place) for place in range(50)])
    print(size, flush=True)
"""


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    acknowledged = 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(4):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = int(rest[-1]) if rest and rest[-1].isdigit() else acknowledged
        with LogStore(path) as store:
            assert store.size >= acknowledged and store.size % 50 == 0
            assert list(store.entries()) == [b"%d" % place for place in range(store.size)]
