"""Statements in the SuperLink's database with nothing between them and SQLite.

Flower asks SQLite through SQLAlchemy, which puts every statement together anew: 0.3 to 0.6 ms of
processor for what SQLite does in 0.01 to 0.02. Here statements are constant, and prepared once.
"""

# Why: docs/adr/0074-the-ordinary-message.md

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeVar, cast

from flwr.supercore.constant import SQLITE_PRAGMAS

from privacy.transaction import transaction

SqlRow = tuple[Any, ...]
PlainMethod = TypeVar("PlainMethod", bound=Callable[..., Any])
_STATEMENTS: Final = 256  # that stay prepared


class NotOrdinary(Exception):
    """What is asked is not the ordinary case: Flower's own code has to answer it."""


class PlainSql:
    """One connection, opened as Flower opens its own. For one caller at a time."""

    def __init__(self, path: str) -> None:
        """`path` is a database that exists. Raises `sqlite3.Error`."""
        self._connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS
        )
        for name, value in SQLITE_PRAGMAS:
            self._connection.execute(f"PRAGMA {name} = {value}")

    def rows(self, statement: str, values: Iterable[Any] = ()) -> list[SqlRow]:
        """All rows that a statement gives."""
        return self._connection.execute(statement, tuple(values)).fetchall()

    def row(self, statement: str, values: Iterable[Any] = ()) -> SqlRow:
        """The first row that a statement gives; raises `NotOrdinary` if it gives none."""
        found = self._connection.execute(statement, tuple(values)).fetchone()
        if found is None:
            raise NotOrdinary
        return cast(SqlRow, found)

    def change(self, statement: str, values: Iterable[Any] = ()) -> int:
        """How many rows a statement has changed."""
        return self._connection.execute(statement, tuple(values)).rowcount

    def transaction(self) -> AbstractContextManager[None]:
        """Everything or nothing of what is changed within; nobody else writes meanwhile."""
        return transaction(self._connection)


class BesideFlowers(Protocol):
    """Something of Flower's, of which some methods are answered in plain SQL."""

    sql: PlainSql
    flowers: Any


def reads(method: PlainMethod) -> PlainMethod:
    """`method`, or Flower's own of its name where the case is not ordinary or SQLite refuses."""

    @functools.wraps(method)
    def answered(self: BesideFlowers, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        try:
            return method(self, *given, **named)
        except (NotOrdinary, sqlite3.Error):
            return getattr(self.flowers, method.__name__)(*given, **named)

    return cast(PlainMethod, answered)


one_statement = reads  # that changes something: SQLite does it altogether or not at all


def writes(method: PlainMethod) -> PlainMethod:
    """The same for a method of several statements: in a transaction, taken back if it fails."""

    @functools.wraps(method)
    def within(self: BesideFlowers, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        with self.sql.transaction():
            return method(self, *given, **named)

    return cast(PlainMethod, reads(within))
