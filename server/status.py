"""Reading the round state, from any process and at any time, even while a run writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from server.database import database_errors, read_database
from server.tables import (
    AttemptRow,
    AttemptState,
    FailureRow,
    PartRow,
    PartState,
    PhaseRow,
    ReleaseRow,
    RunRow,
    RunState,
    SiteRow,
    SiteState,
)


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """A site in a run. `epsilon` is what it has spent in total; +inf: no noise, no privacy."""

    name: str
    declared_patients: int
    state: SiteState
    reason: str
    rounds: int  # that include its update
    epsilon: float
    budget: float
    delta: float
    masked: bool


@dataclass(frozen=True, slots=True)
class PartStatus:
    """A site's part in an attempt; `epsilon` is its total after this round.

    `exchange` is where it dropped out. A site that had FINISHED by then is still in the sum.
    """

    name: str
    state: PartState
    reason: str
    epsilon: float | None
    exchange: str = ""


@dataclass(frozen=True, slots=True)
class RoundStatus:
    """An attempt at a round; if it has ended, `seconds` of wall clock, and when (Unix seconds)."""

    round: int
    attempt: int
    state: AttemptState
    reason: str
    updates: int
    adapter_norm: float | None
    seconds: float | None
    sites: tuple[PartStatus, ...]
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class RunFailure:
    """How a run failed: what is wrong, what to do next, and the `error`'s id."""

    message: str
    hint: str
    error: str


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """The files that a run released, with their SHA-256 in hex when it did."""

    adapter: str
    adapter_sha256: str
    samples: str
    samples_sha256: str


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run; `started` and `finished` in Unix seconds, `phases` in seconds.

    `message` says in one text how it failed; `failure` has the parts of that text. It is None if
    the run has not failed, or failed under a coordinator that did not keep them yet.
    """

    run: int
    study: str
    state: RunState
    message: str
    rounds_done: int
    rounds: int
    started: float
    finished: float | None
    sites: tuple[SiteStatus, ...]
    history: tuple[RoundStatus, ...]
    phases: Mapping[str, float]
    failure: RunFailure | None = None
    study_digest: str = ""  # hex
    release: ReleaseStatus | None = None


def read_status(url: str, run: int | None = None) -> RunStatus:
    """The state of `run`, or of the newest run. `url`: ConsortiumSettings.database_url().

    Raises `FederationError` if there is no such run.
    """
    engine = read_database(url)
    if engine is None:
        raise FederationError(
            "No run has started yet.", "Start one: craftsfl rounds start", id=ErrorId.NO_RUN
        )
    with database_errors(url), Session(engine) as session:
        status = status_of(session, run)
    engine.dispose()
    return status


def read_ended(url: str, study_digest: str) -> list[RunStatus]:
    """The runs of a study (digest in hex) that have finished or failed, the oldest first."""
    engine = read_database(url)
    if engine is None:
        return []
    query = select(RunRow.run).where(
        RunRow.study_digest == study_digest,
        RunRow.state.in_([RunState.FINISHED, RunState.FAILED]),
    )
    with database_errors(url), Session(engine) as session:
        runs = session.scalars(query.order_by(RunRow.started)).all()
        found = [status_of(session, int(run)) for run in runs]
    engine.dispose()
    return found


def status_of(session: Session, run: int | None) -> RunStatus:
    """The state of `run`, or of the newest one, as `session` sees it."""
    query = select(RunRow).order_by(RunRow.started.desc()).limit(1)
    if run is not None:
        query = select(RunRow).where(RunRow.run == str(run))
    row = session.scalars(query).first()
    if row is None:
        raise FederationError(
            "There is no such run.", "See the newest: craftsfl rounds status", id=ErrorId.NO_RUN
        )
    history = _history(session, row.run)
    return RunStatus(
        run=int(row.run),
        study=row.study,
        state=RunState(row.state),
        message=row.message,
        rounds_done=_rounds_done(history),
        rounds=row.rounds,
        started=row.started,
        finished=row.finished,
        sites=_sites(session, row.run, history),
        history=history,
        phases=_phases(session, row.run),
        failure=_failure(session, row.run),
        study_digest=row.study_digest,
        release=_release(session, row.run),
    )


def _sites(session: Session, run: str, history: tuple[RoundStatus, ...]) -> tuple[SiteStatus, ...]:
    rows = session.scalars(select(SiteRow).where(SiteRow.run == run).order_by(SiteRow.name))
    return tuple(
        SiteStatus(
            name=row.name,
            declared_patients=row.declared_patients,
            state=SiteState(row.state),
            reason=row.reason,
            rounds=_rounds_of(row.name, history),
            epsilon=row.epsilon,
            budget=row.budget,
            delta=row.delta,
            masked=row.masked,
        )
        for row in rows
    )


def _rounds_done(history: tuple[RoundStatus, ...]) -> int:
    finished = (item.round for item in history if item.state is AttemptState.FINISHED)
    return max(finished, default=0)


def _rounds_of(site: str, history: tuple[RoundStatus, ...]) -> int:
    finished = [item for item in history if item.state is AttemptState.FINISHED]
    parts = [part for item in finished for part in item.sites if part.name == site]
    return sum(part.state is PartState.FINISHED for part in parts)


def _history(session: Session, run: str) -> tuple[RoundStatus, ...]:
    parts: dict[tuple[int, int], list[PartStatus]] = {}
    for row in session.scalars(select(PartRow).where(PartRow.run == run).order_by(PartRow.site)):
        part = PartStatus(row.site, PartState(row.state), row.reason, row.epsilon, row.exchange)
        parts.setdefault((row.round, row.attempt), []).append(part)
    attempts = session.scalars(
        select(AttemptRow)
        .where(AttemptRow.run == run)
        .order_by(AttemptRow.round, AttemptRow.attempt)
    )
    return tuple(_attempt(row, parts.get((row.round, row.attempt), [])) for row in attempts)


def _attempt(row: AttemptRow, parts: list[PartStatus]) -> RoundStatus:
    return RoundStatus(
        round=row.round,
        attempt=row.attempt,
        state=AttemptState(row.state),
        reason=row.reason,
        updates=row.updates,
        adapter_norm=row.adapter_norm,
        seconds=None if row.finished is None else row.finished - row.started,
        sites=tuple(parts),
        finished=row.finished,
    )


def _phases(session: Session, run: str) -> Mapping[str, float]:
    rows = session.scalars(select(PhaseRow).where(PhaseRow.run == run))
    return {row.phase: row.seconds for row in rows}


def _failure(session: Session, run: str) -> RunFailure | None:
    if not inspect(session.connection()).has_table(FailureRow.__tablename__):
        return None  # written by an older version, and not opened for writing since
    row = session.get(FailureRow, run)
    return None if row is None else RunFailure(row.message, row.hint, row.error)


def _release(session: Session, run: str) -> ReleaseStatus | None:
    if not inspect(session.connection()).has_table(ReleaseRow.__tablename__):
        return None  # as above
    row = session.get(ReleaseRow, run)
    if row is None:
        return None
    return ReleaseStatus(row.adapter, row.adapter_sha256, row.samples, row.samples_sha256)
