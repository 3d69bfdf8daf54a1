"""Opening the round state: durable writes, readers that never block the writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, event, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

import server.sealed_tables  # noqa: F401 - so that its tables are created too
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError
from server.tables import ENDED, NumberRow, RunRow, RunState, SchemaRow, Table

ROUNDS_SCHEMA = 1  # 0, without a row that says so: runs were known by Flower's id
_OLDER = (
    "It had not ended when craftsfl was updated to a version that numbers runs itself. Its adapters"
    " and its record are kept. Start the next run: craftsfl rounds start consortium.toml"
)


def open_database(url: str) -> Engine:
    """The engine for `url`, all tables created, older ones brought up to date.

    Raises `ConfigError` or `DeploymentError`; a newer version's database is refused untouched.
    """
    engine = _engine(url)
    path = _sqlite_path(engine)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with database_errors(url):
        _check_version(url, engine)
        Table.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            _update(session)
    return engine


def read_database(url: str) -> Engine | None:
    """The engine to read `url` with, or None if there is no round state yet."""
    engine = _engine(url)
    path = _sqlite_path(engine)
    if path is not None and not path.exists():
        return None
    with database_errors(url):
        _check_version(url, engine)
        return engine if inspect(engine).has_table(RunRow.__tablename__) else None


def _check_version(url: str, engine: Engine) -> None:
    if not inspect(engine).has_table(SchemaRow.__tablename__):
        return
    with Session(engine) as session:
        found = session.scalars(select(SchemaRow.version)).first()
    if found is not None and found > ROUNDS_SCHEMA:
        where = make_url(url).render_as_string(hide_password=True)
        raise DeploymentError(
            f"The round state {where} was written by a newer version of craftsfl.",
            "Install that version again; this one would misread it. Nothing was changed.",
            id=ErrorId.ROUND_STATE_NEWER,
        )


def _update(session: Session) -> None:
    """Bring the contents of an older version's tables up to date; nothing is removed.

    A run without a number cannot go on: its sites would take its number for a new run.
    """
    if session.scalars(select(SchemaRow)).first() is not None:
        return
    numbered = select(NumberRow.run)
    for row in session.scalars(select(RunRow).where(RunRow.run.not_in(numbered))):
        if row.state not in ENDED:
            row.state, row.message = RunState.FAILED, _OLDER
    session.add(SchemaRow(id=1, version=ROUNDS_SCHEMA))


@contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turn database errors into `DeploymentError`, without statements and values."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or type(error).__name__
        where = make_url(url).render_as_string(hide_password=True)
        raise DeploymentError(
            f"The round state {where} cannot be used: {cause}.",
            "Check disk space and permissions, then start the run again: craftsfl rounds "
            "start consortium.toml",
            id=ErrorId.ROUND_STATE_UNUSABLE,
        ) from None


def _engine(url: str) -> Engine:
    try:
        engine = create_engine(url)
    except (ArgumentError, ImportError) as error:
        raise ConfigError(
            f"The database URL cannot be used: {error}.",
            "Write `database` as an SQLAlchemy URL, or leave it out for SQLite.",
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _make_durable)
    return engine


def _make_durable(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """WAL: readers in other processes and one writer; FULL: a commit survives a power cut."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_path(engine: Engine) -> Path | None:
    name = engine.url.database
    return Path(name) if engine.dialect.name == "sqlite" and name else None
