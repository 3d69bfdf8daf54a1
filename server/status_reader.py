"""Reading the round state, from any process and at any time, even while a run writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from server.database import database_errors, read_database
from server.events import ROUND, STEP
from server.run_name import LARGEST_NUMBER
from server.sealed_tables import READY, START, ClosedRow, ConfirmedRow, StepsRow
from server.status import (
    PartStatus,
    QualityStatus,
    ReleaseStatus,
    RoundStatus,
    RunFailure,
    RunStatus,
    SiteStatus,
)
from server.tables import (
    ENDED,
    AttemptRow,
    AttemptState,
    FailureRow,
    NumberRow,
    PartRow,
    PartState,
    PhaseRow,
    QualityRow,
    ReleaseRow,
    RunRow,
    RunState,
    SiteRow,
    SiteState,
    Table,
    TransportRow,
    Wish,
)


def read_status(url: str, run: int | None = None) -> RunStatus:
    """The state of run `run`, or of the newest run. `url`: ConsortiumSettings.database_url().

    Of several studies' runs of that number, the newest. Raises `FederationError` if there is no
    such run.
    """
    engine = read_database(url)
    if engine is None:
        raise FederationError(
            "No run has started yet.",
            "Start one: craftsfl rounds start consortium.toml",
            id=ErrorId.NO_RUN,
        )
    with database_errors(url), Session(engine) as session:
        status = status_of(session, _key(session, run))
    engine.dispose()
    return status


def read_ended(url: str, study_digest: str) -> list[RunStatus]:
    """The runs of a study (digest in hex) that have ended, however, the oldest first."""
    engine = read_database(url)
    if engine is None:
        return []
    query = select(RunRow.run).where(RunRow.study_digest == study_digest, RunRow.state.in_(ENDED))
    with database_errors(url), Session(engine) as session:
        keys = session.scalars(query.order_by(RunRow.started)).all()
        found = [status_of(session, key) for key in keys]
    engine.dispose()
    return found


def status_of(session: Session, key: str) -> RunStatus:
    """The state of the run whose rows have this key, as `session` sees it."""
    row = session.get_one(RunRow, key)
    history = _history(session, key)
    number = (
        session.scalars(select(NumberRow).where(NumberRow.run == key)).first()
        if _has(session, NumberRow)
        else None
    )
    carrier = None if number is None else _carrier(session, key)
    spare = _spare(session, key)
    return RunStatus(
        run=int(key) if number is None else number.number,
        study=row.study,
        state=RunState(row.state),
        message=row.message,
        rounds_done=_rounds_done(history),
        rounds=row.rounds,
        started=row.started,
        finished=row.finished,
        sites=_sites(session, key, history),
        history=history,
        phases=_phases(session, key),
        failure=_failure(session, key),
        study_digest=row.study_digest,
        wish=Wish.RUN if number is None else Wish(number.wish),
        awaited="" if number is None else number.awaited,
        last_words="" if number is None else number.last_words,
        flower_run=int(key) if number is None else _flower_run(carrier),
        flower_since=None if carrier is None else carrier.started,
        release=_release(session, key),
        quality=_quality(session, key),
        unit=ROUND if spare is None else STEP,
        lost=sum(_is_lost(item) for item in history),
        spare=spare,
        confirmed=_confirmed(session, key),
    )


def _key(session: Session, run: int | None) -> str:
    query = select(RunRow.run)
    if run is not None:
        known = RunRow.run == str(run)  # Flower's id, in an older version's rows
        if run <= LARGEST_NUMBER and _has(session, NumberRow):
            numbers = select(NumberRow.run).where(NumberRow.number == run)
            known |= RunRow.run.in_(numbers)
        query = query.where(known)
    key = session.scalars(query.order_by(RunRow.started.desc()).limit(1)).first()
    if key is None:
        raise FederationError(
            "There is no such run.",
            "See the newest: craftsfl rounds status consortium.toml",
            id=ErrorId.NO_RUN,
        )
    return key


def _has(session: Session, row: type[Table]) -> bool:
    """Whether there is its table: older versions had fewer, and only writers add what lacks."""
    return inspect(session.connection()).has_table(row.__tablename__)


def _carrier(session: Session, key: str) -> TransportRow | None:
    query = select(TransportRow).where(TransportRow.run == key)
    return session.scalars(query.order_by(TransportRow.started.desc()).limit(1)).first()


def _flower_run(carrier: TransportRow | None) -> int | None:
    return None if carrier is None else int(carrier.flower_run)


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
    if not _has(session, FailureRow):
        return None
    row = session.get(FailureRow, run)
    return None if row is None else RunFailure(row.message, row.hint, row.error)


def _release(session: Session, run: str) -> ReleaseStatus | None:
    if not _has(session, ReleaseRow):
        return None
    row = session.get(ReleaseRow, run)
    if row is None:
        return None
    return ReleaseStatus(row.adapter, row.adapter_sha256, row.samples, row.samples_sha256)


def _is_lost(item: RoundStatus) -> bool:
    """Whether an attempt has failed and may be charged: not where no vector was asked for."""
    exchanges = {part.exchange for part in item.sites if part.reason}
    early = bool(exchanges) and exchanges <= {START, READY}
    sent = any(part.state is PartState.FINISHED for part in item.sites)
    return item.state is AttemptState.FAILED and (sent or not early)


def _spare(session: Session, run: str) -> int | None:
    if not _has(session, StepsRow):
        return None
    row = session.get(StepsRow, run)
    return None if row is None else row.spare


def _confirmed(session: Session, run: str) -> tuple[str, ...] | None:
    if not _has(session, ClosedRow):
        return None
    if session.get(ClosedRow, run) is None:
        return None
    query = select(ConfirmedRow.site).where(ConfirmedRow.run == run).order_by(ConfirmedRow.site)
    return tuple(session.scalars(query))


def _quality(session: Session, run: str) -> tuple[QualityStatus, ...]:
    if not _has(session, QualityRow):
        return ()
    rows = session.scalars(
        select(QualityRow)
        .where(QualityRow.run == run)
        .order_by(QualityRow.round, QualityRow.metric)
    )
    names = [part.name for part in fields(QualityStatus)]
    return tuple(QualityStatus(**{name: getattr(row, name) for name in names}) for row in rows)
