"""A copy of the coordinator's state: whole at one moment, closed to others, never over another."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from craftsfl.demo.pace import SHORTEST
from craftsfl.demo.workspace import DemoOptions, clear_folder, write_workspace
from craftsfl.rounds.backup import back_up
from privacy.errors import ConfigError, DeploymentError
from server.settings import load_consortium
from tests.craftsfl.demo.drafts import DIGEST, drafts


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    clear_folder(tmp_path / "demo")
    made = write_workspace(
        DemoOptions(tmp_path / "demo"), drafts(tmp_path), DIGEST, 12345, SHORTEST
    )
    made.runtime.rmdir()
    consortium = load_consortium(made.consortium)
    assert consortium.superlink is not None
    for folder in (consortium.state / "adapters", consortium.superlink.folder / "logs"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("contents")
    return made.consortium


def test_what_is_committed_is_in_the_copy_also_while_somebody_writes(
    settings: Path, tmp_path: Path
) -> None:
    state = load_consortium(settings).state
    with closing(sqlite3.connect(state / "rounds.db")) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (n)")
        writer.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1000)])
        writer.commit()  # as yet in the write-ahead log alone
        writer.execute("INSERT INTO t VALUES (1000)")  # and this in no transaction that has ended
        kept = back_up(settings, tmp_path / "copy")
    with closing(sqlite3.connect(tmp_path / "copy" / "state" / "rounds.db")) as copied:
        assert copied.execute("SELECT count(*), max(n) FROM t").fetchone() == (1000, 999)
    assert (tmp_path / "copy" / "state" / "adapters" / "file").read_text() == "contents"
    assert not (tmp_path / "copy" / "superlink" / "logs").exists()
    own = settings.parent
    names = ("consortium.toml", "roster.cfl", "coordinator.key", "superexec.secret")
    assert {str(own / name) for name in names} <= set(kept)
    assert str(own / "tls" / "server.key") in kept


def test_the_copy_is_its_users_alone(settings: Path, tmp_path: Path) -> None:
    (load_consortium(settings).state / "result.json").write_text("{}")
    back_up(settings, tmp_path / "copy")
    for path in (tmp_path / "copy", *(tmp_path / "copy").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_an_older_copy_is_never_written_over(settings: Path, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "copy")
    with pytest.raises(ConfigError, match="exists"):
        back_up(settings, tmp_path / "copy")


def test_what_is_not_there_yet_is_no_fault_of_the_disk(settings: Path, tmp_path: Path) -> None:
    consortium = load_consortium(settings)
    assert consortium.superlink is not None
    shutil.rmtree(consortium.superlink.folder)
    back_up(settings, tmp_path / "copy")
    assert [item.name for item in (tmp_path / "copy").iterdir()] == ["state"]
    shutil.rmtree(consortium.state)
    with pytest.raises(DeploymentError, match="nothing to copy yet"):
        back_up(settings, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_database_that_is_damaged_is_told(settings: Path, tmp_path: Path) -> None:
    (load_consortium(settings).state / "rounds.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(DeploymentError, match="not complete"):
        back_up(settings, tmp_path / "copy")


def test_a_file_that_cannot_be_copied_is_told_in_words(settings: Path, tmp_path: Path) -> None:
    os.mkfifo(load_consortium(settings).state / "adapters" / "pipe")
    with pytest.raises(
        DeploymentError, match=r"is not complete: .*pipe. is a named pipe\."
    ) as told:
        back_up(settings, tmp_path / "copy")
    assert "[(" not in told.value.message
