"""The runs of a coordinator: their numbers, what the operator wants, and which Flower run carries
them.

A run is (study digest, number); the numbers 1, 2, 3 ... are given here, in the transaction that
creates the run. Flower's run id is transport only and may change under a run. At most one run of a
database is open: two would destroy each other's attempts, and the sites would be charged for both.
"""

# Why: docs/adr/0034-run-life.md

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from privacy.closing import Closing
from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from privacy.study.manifest import Study
from server.clock import RunClock
from server.database import database_errors, open_database
from server.run_name import RunName
from server.sealed_tables import StepsRow
from server.tables import (
    ENDED,
    AdapterRow,
    NumberRow,
    RunRow,
    RunState,
    SiteRow,
    SiteState,
    TransportRow,
    Wish,
)


@dataclass(frozen=True, slots=True)
class Transport:
    """The Flower run that carries a run, since `started` (Unix seconds)."""

    flower_run: int
    started: float


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended. `rounds_done` is None before its first ServerApp got to work."""

    name: RunName
    study: str
    state: RunState
    wish: Wish
    transport: Transport | None
    rounds_done: int | None
    last_words: str  # of its last ServerApp, if that had any
    started: float  # Unix seconds


class Runs(Closing):
    """All runs of one database; a context manager. Every method is one transaction.

    Raises `DeploymentError`, as the database does.
    """

    def __init__(self, url: str, clock: RunClock) -> None:
        self._url = url
        self._clock = clock
        self._engine: Engine = open_database(url)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def begin(self, study: Study, after: int = 0) -> RunName:
        """A new run of `study`, numbered above all earlier ones and above `after`.

        Raises `FederationError` if a run is open.
        """
        digest = study.digest()
        with self._transaction(isolation_level="SERIALIZABLE") as session:
            other = _open(session)
            if other is not None:
                raise _still_open(other, digest)
            newest = session.scalar(
                select(func.max(NumberRow.number)).where(NumberRow.study_digest == digest.hex())
            )
            name = RunName(digest, max(newest or 0, after) + 1)
            add_run(session, name, study, self._clock.time())
        return name

    def open_run(self) -> OpenRun | None:
        """The run that has not ended; None if there is none."""
        with self._transaction() as session:
            found = _open(session)
            return None if found is None else _as_open(session, *found)

    def carried(self, name: RunName, flower_run: int) -> None:
        """From now on, Flower's run `flower_run` carries the run `name`."""
        with self._transaction() as session:
            note_transport(session, name, flower_run, self._clock.time())

    def ask(self, name: RunName, wish: Wish) -> None:
        """Store what the operator wants. A run that is to stop is not persuaded otherwise."""
        with self._transaction() as session:
            row = _number(session, name)
            if Wish(row.wish) not in (Wish.STOP, Wish.STOP_NOW) or wish is Wish.STOP_NOW:
                row.wish = wish

    def stopped(self, name: RunName) -> None:
        """The run has ended because the operator wanted it to."""
        with self._transaction() as session:
            row = session.get_one(RunRow, name.key)
            if row.state not in ENDED:
                row.state, row.finished = RunState.STOPPED, self._clock.time()

    def ended_with(self, name: RunName, words: str) -> None:
        """How the run's last ServerApp ended."""
        with self._transaction() as session:
            _number(session, name).last_words = words

    def awaits(self, name: RunName, what: str) -> None:
        """What has to happen before the run goes on, in words; "" if nothing."""
        with self._transaction() as session:
            _number(session, name).awaited = what

    @contextmanager
    def _transaction(self, **options: str) -> Iterator[Session]:
        engine = self._engine.execution_options(**options)
        with database_errors(self._url), Session(engine) as session, session.begin():
            yield session


def add_run(session: Session, name: RunName, study: Study, now: float) -> None:
    """Create the rows of a new run."""
    session.add(
        RunRow(
            run=name.key,
            study=study.name,
            study_digest=name.study_digest.hex(),
            rounds=study.rounds,
            state=RunState.WAITING,
            started=now,
        )
    )
    session.flush()
    if study.pooled is not None:
        session.add(StepsRow(run=name.key, spare=study.pooled.spare_attempts))
    session.add(NumberRow(study_digest=name.study_digest.hex(), number=name.number, run=name.key))
    session.add_all(
        SiteRow(
            run=name.key,
            name=site.name,
            declared_patients=site.declared_patients,
            state=SiteState.EXPECTED,
        )
        for site in study.sites
    )


def note_transport(session: Session, name: RunName, flower_run: int, now: float) -> None:
    """Store that Flower's run `flower_run` carries `name`, unless that is known."""
    if session.get(TransportRow, str(flower_run)) is None:
        session.add(TransportRow(flower_run=str(flower_run), run=name.key, started=now))


def _open(session: Session) -> tuple[RunRow, NumberRow] | None:
    query = (
        select(RunRow, NumberRow)
        .join(NumberRow, NumberRow.run == RunRow.run)
        .where(RunRow.state.not_in(ENDED))
        .order_by(RunRow.started.desc())
    )
    row = session.execute(query).first()
    return None if row is None else (row[0], row[1])


def _as_open(session: Session, row: RunRow, number: NumberRow) -> OpenRun:
    newest = select(TransportRow).where(TransportRow.run == row.run)
    carrier = session.scalars(newest.order_by(TransportRow.started.desc()).limit(1)).first()
    return OpenRun(
        name=RunName(bytes.fromhex(row.study_digest), number.number),
        study=row.study,
        state=RunState(row.state),
        wish=Wish(number.wish),
        transport=None if carrier is None else Transport(int(carrier.flower_run), carrier.started),
        rounds_done=session.scalar(
            select(func.max(AdapterRow.round)).where(AdapterRow.run == row.run)
        ),
        last_words=number.last_words,
        started=row.started,
    )


def _number(session: Session, name: RunName) -> NumberRow:
    return session.get_one(NumberRow, (name.study_digest.hex(), name.number))


def _still_open(other: tuple[RunRow, NumberRow], digest: bytes) -> FederationError:
    row, number = other
    if row.study_digest != digest.hex():
        return FederationError(
            f"Run {number.number} of {row.study} is open, and study.toml has been changed since.",
            "Restore the study file of that run, or end the run: craftsfl rounds stop "
            "consortium.toml",
            id=ErrorId.STUDY_CHANGED,
        )
    return FederationError(
        f"Run {number.number} of {row.study} is still open: two runs of one study would destroy "
        "each other's attempts.",
        "Follow it: craftsfl rounds watch consortium.toml; or end it: craftsfl rounds stop "
        "consortium.toml",
        id=ErrorId.RUN_STILL_OPEN,
    )
