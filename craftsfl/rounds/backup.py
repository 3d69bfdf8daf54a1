"""A copy of what a coordinator cannot work out again, made while everything runs.

Databases first, each as of one moment and by SQLite itself, since a copied file may be half of a
transaction; then the other files. Files of adapters are written before the database names them and
never change, so every file that a copied database names is in the copy.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from craftsfl.processes.environment import keep_files_private
from craftsfl.rounds.operator import superlink_of
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError
from server.settings import load_consortium

# What belongs to running processes, or is worked out again.
_LEFT_OUT: Final = ("*.lock", "*-wal", "*-shm", "*-journal", "logs", "quality", "layouts")
_DATABASE: Final = "*.db"


def back_up(settings: Path, folder: Path) -> list[str]:
    """Copy round state and SuperLink's database of `settings` (consortium.toml) to a new `folder`.

    It gets the folders `state` and `superlink`. Returns what else there is to copy, a line each.
    Raises `ConfigError` or `DeploymentError`.
    """
    consortium = load_consortium(settings)
    link = superlink_of(consortium)
    if not consortium.state.exists() and not link.folder.exists():
        raise DeploymentError(
            "There is nothing to copy yet: no coordinator has served here.",
            "Copy the settings and keys as files; the rest begins with craftsfl rounds serve.",
            id=ErrorId.NO_RUN,
        )
    keep_files_private()
    try:
        folder.mkdir(mode=0o700, parents=True)
        for name, source in (("state", consortium.state), ("superlink", link.folder)):
            if source.exists():  # either is made when it is first needed
                _copy(source, folder / name)
        keep_files_private(folder)  # whatever the originals' modes were
    except FileExistsError:
        raise ConfigError(f"{folder} exists.", "Name a new folder for every copy.") from None
    except (OSError, sqlite3.Error, shutil.Error) as error:
        raise DeploymentError(
            f"The copy in {folder} is not complete: {_why(error)}.",
            "Free some space there, or correct the permissions; delete what is there, and copy "
            "again.",
            id=ErrorId.DISK_FULL if _is_full(error) else "",
        ) from None
    fixed = [consortium.study, consortium.roster, consortium.coordinator_key, link.secret]
    tls = [link.credentials.authority, link.credentials.certificate, link.credentials.key]
    kept = [str(path) for path in (settings.absolute(), *fixed, *tls) if path is not None]
    if consortium.database is not None:
        kept.append("the round state in its own database: with that database's tools")
    return kept


def _copy(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    databases = sorted(path for path in source.glob(_DATABASE) if path.is_file())
    for database in databases:
        _copy_database(database, target / database.name)
    shutil.copytree(
        source, target, ignore=shutil.ignore_patterns(*_LEFT_OUT, _DATABASE), dirs_exist_ok=True
    )


def _copy_database(source: Path, target: Path) -> None:
    """As of one moment, with whatever is committed by then, also from its write-ahead log."""
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def _why(error: BaseException) -> str:
    """What the system says of it; of many files, of the first."""
    if isinstance(error, shutil.Error):  # (source, target, reason) of each file
        reason = str(error.args[0][0][2])
        return reason.partition("] ")[2] or reason
    return getattr(error, "strerror", None) or str(error)


def _is_full(error: BaseException) -> bool:
    return "full" in str(error) or "No space" in str(error)


def told(kept: list[str]) -> Iterator[str]:
    """What the operator reads after a copy."""
    yield "Copied. Copy these too, whenever they change; each is needed to go on:"
    yield from (f"  {name}" for name in kept)
