"""The SuperLink's database: made, checked and brought up to date before a SuperLink opens it.

Flower changes its tables one statement at a time. A SuperLink that was killed while it did so, in
the first second of its first start for instance, left a database that no later start could open
(tried: 3 of 10 kills). So tables are made and changed in a copy, which takes the place of the
database in one step when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.files import sync_folder, write_private_once

_KEPT: Final = (
    "What it holds: the nodes that were admitted, and Flower's own runs. Rounds, adapters and what "
    "sites have charged are elsewhere and are kept."
)


def prepare_database(path: Path) -> None:
    """Make the database, or bring it up to the installed Flower. Nothing may have it open.

    However this ends, `path` is as it was or complete. Raises `DeploymentError` if it is damaged
    or of a newer Flower, and if it cannot be written.
    """
    copy = path.with_name(f"{path.name}.new")
    try:
        _prepare(path, copy)
    except sqlite3.Error as error:
        raise _unusable(path, str(error)) from None
    except OSError as error:
        raise DeploymentError(
            f"The SuperLink's database {path} cannot be written: {error.strerror}.",
            "Check the folder's owner and the free space.",
            id=ErrorId.SUPERLINK_DATABASE,
        ) from None
    finally:
        for leftover in (copy, *_beside(copy)):
            leftover.unlink(missing_ok=True)


def _prepare(path: Path, copy: Path) -> None:
    made = not path.exists() or path.stat().st_size == 0
    revision = None if made else _checked(path)
    newest, known = _revisions()
    if revision is not None and revision not in known:
        raise DeploymentError(
            f"The SuperLink's database {path} is of a newer Flower than is installed.",
            "Install the craftsfl that was used last (its log says which), or start over with a "
            f"new database: mv {path} {path}.newer. {_KEPT}",
            id=ErrorId.SUPERLINK_DATABASE,
        )
    if revision in newest:
        return
    for leftover in (copy, *_beside(copy)):
        leftover.unlink(missing_ok=True)
    write_private_once(copy, b"")
    if not made:
        with _opened(path) as source, _opened(copy) as target:
            source.backup(target)
    _migrate(path, copy)
    _settle(copy)
    copy.replace(path)
    # What belonged to the file that is gone must not be applied to the new one.
    for old in _beside(path):
        old.unlink(missing_ok=True)
    sync_folder(path.parent)


def _checked(path: Path) -> str | None:
    """The revision of its tables, None without any; raises `sqlite3.Error`, `DeploymentError`."""
    with _opened(path) as connection:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _unusable(path, str(verdict))
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not names:
            return None
        if "alembic_version" not in names:
            raise _unusable(path, "it is not a SuperLink's")
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def _revisions() -> tuple[set[str], set[str]]:
    """The newest revisions of the installed Flower's tables, and all that it knows."""
    from alembic.script import ScriptDirectory
    from flwr.supercore.state.alembic.utils import build_alembic_config
    from sqlalchemy import create_engine

    scripts = ScriptDirectory.from_config(build_alembic_config(create_engine("sqlite://")))
    return set(scripts.get_heads()), {one.revision for one in scripts.walk_revisions()}


def _migrate(path: Path, copy: Path) -> None:
    """Bring `copy` up to date with Flower's own scripts."""
    import logging

    from flwr.supercore.state.alembic.utils import run_migrations
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = create_engine(f"sqlite:///{copy}")
    try:
        run_migrations(engine)
    except SQLAlchemyError as error:
        raise _unusable(path, str(getattr(error, "orig", None) or error)) from None
    finally:
        engine.dispose()


def _settle(copy: Path) -> None:
    """Everything in the one file, on disk."""
    with _opened(copy) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    with copy.open("rb+") as file:
        os.fsync(file.fileno())


def _opened(path: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path, isolation_level=None))


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")]


def _unusable(path: Path, why: str) -> DeploymentError:
    return DeploymentError(
        f"The SuperLink's database {path} cannot be used: {why}.",
        f"Put it back from a backup, or start over: mv {path} {path}.broken, then admit the "
        f"hospitals' keys again (craftsfl rounds register). {_KEPT}",
        id=ErrorId.SUPERLINK_DATABASE,
    )
