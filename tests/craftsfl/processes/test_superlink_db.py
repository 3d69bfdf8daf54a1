"""The SuperLink's database is whole or as it was, whenever whoever makes it is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from craftsfl.processes.flower import superlink_db
from craftsfl.processes.flower.superlink_db import prepare_database
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("db") / "superlink.db"
    prepare_database(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["superlink.db"]
    return path.read_bytes()


@pytest.fixture
def database(tmp_path: Path, made: bytes) -> Path:
    (tmp_path / "superlink.db").write_bytes(made)
    return tmp_path / "superlink.db"


def test_what_is_up_to_date_is_left_alone(database: Path) -> None:
    before = database.stat()
    prepare_database(database)
    after = database.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_empty_file_is_made_anew(tmp_path: Path, made: bytes) -> None:
    path = tmp_path / "superlink.db"
    path.touch()
    prepare_database(path)
    assert len(path.read_bytes()) == len(made)


def test_an_older_one_is_brought_up_with_what_is_in_it(tmp_path: Path, made: bytes) -> None:
    """Whose newest entries are still in its WAL."""
    from alembic import command
    from flwr.supercore.state.alembic.utils import build_alembic_config
    from sqlalchemy import create_engine

    path = tmp_path / "superlink.db"
    config = build_alembic_config(create_engine(f"sqlite:///{path}"))
    command.upgrade(config, "8e65d8ae60b0")
    keeper = sqlite3.connect(path)
    keeper.execute("PRAGMA journal_mode=WAL")
    keeper.execute("INSERT INTO node (node_id, owner_name) VALUES (7, 'north')")
    keeper.commit()
    prepare_database(path)
    keeper.close()
    assert rows(path, "SELECT version_num FROM alembic_version") != [("8e65d8ae60b0",)]
    assert rows(path, "SELECT node_id, owner_name FROM node") == [(7, "north")]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["superlink.db"]


def test_one_of_a_newer_flower_is_named(database: Path) -> None:
    change(database, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = database.read_bytes()
    with pytest.raises(DeploymentError, match="of a newer Flower") as caught:
        prepare_database(database)
    assert caught.value.id == ErrorId.SUPERLINK_DATABASE
    assert f"mv {database}" in caught.value.hint
    assert database.read_bytes() == before


def test_one_that_was_left_half_made_is_named_and_left(database: Path) -> None:
    """As Flower leaves it when it is killed in its first second: tables ahead of their version."""
    change(database, "UPDATE alembic_version SET version_num = '33e2f70642b1'")
    before = database.read_bytes()
    with pytest.raises(DeploymentError, match=r"already exists|no such table") as caught:
        prepare_database(database)
    assert "rounds register" in caught.value.hint
    assert database.read_bytes() == before
    assert [entry.name for entry in database.parent.iterdir()] == ["superlink.db"]


@pytest.mark.parametrize("what", ["text", "torn", "foreign"])
def test_what_is_no_database_of_a_superlink_is_named(database: Path, what: str) -> None:
    if what == "foreign":
        database.unlink()
        change(database, "CREATE TABLE mine (x)")
    else:
        data = database.read_bytes()
        database.write_bytes(b"hello" * 999 if what == "text" else data[: len(data) // 2])
    with pytest.raises(DeploymentError, match="cannot be used"):
        prepare_database(database)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="cannot be"):
        prepare_database(tmp_path / "none" / "superlink.db")


LATER = (pytest.mark.slow, pytest.mark.ci)


@pytest.mark.parametrize(
    "moment", [0.0, *(pytest.param(moment, marks=LATER) for moment in (0.25, 0.5)), 0.75]
)
def test_killed_while_it_is_made_the_next_start_makes_it(tmp_path: Path, moment: float) -> None:
    path = tmp_path / "superlink.db"
    code = (
        "import sys; from pathlib import Path; from alembic import command; import alembic.script\n"
        "from craftsfl.processes.flower import superlink_db as db\n"
        "import flwr.supercore.state.alembic.utils\n"
        "print('now', flush=True); db.prepare_database(Path(sys.argv[1]))"
    )
    argv = [sys.executable, "-P", "-c", code, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not (tmp_path / "superlink.db.new").exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(moment * 0.8)
        os.kill(process.pid, signal.SIGKILL)
    prepare_database(path)
    (heads, _), (found,) = superlink_db._revisions(), rows(path, "SELECT * FROM alembic_version")
    assert set(found) == heads
    assert [entry.name for entry in tmp_path.iterdir()] == ["superlink.db"]
