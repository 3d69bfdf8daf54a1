"""What an auditor gets of a run from the coordinator's database: as it is kept, nothing derived."""

# Why: docs/adr/0060-auditors-bundle.md

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from privacy.audit.bundle import RunParts
from privacy.audit.evidence import RunEnd
from privacy.audit.records import AttemptRecord, RunRecord
from privacy.errors import ConfigError
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.stored import StoredMachine
from privacy.study.manifest import Study
from privacy.wire.closing import SealedClose
from privacy.wire.sealed import OpenedSum, SealedStep
from server.database import database_errors, read_database
from server.run_name import RunName
from server.sealed_tables import ConfirmedRow, RequestRow, SessionRow, SumRow, VectorRow
from server.tables import (
    AttemptRow,
    NumberRow,
    PartRow,
    PartState,
    ReleaseRow,
    RunRow,
    SiteRow,
    SiteState,
)


@dataclass(frozen=True, slots=True)
class ReleasedFile:
    """The adapter that a run released, and its SHA-256 in hex; "" and "" where it did not."""

    path: str = ""
    sha256: str = ""


class RoundEvidence:
    """All runs of a study in one database. Raises `DeploymentError` as reading it does.

    Raises `ConfigError` where there is no run of the study.
    """

    def __init__(self, url: str, study: Study) -> None:
        engine = read_database(url)
        self._url, self._study = url, study
        if engine is None or not self._numbers(engine):
            raise ConfigError(
                f"There is no run of the study {study.name}.", "Name the consortium.toml it has."
            )
        self._engine = engine

    def runs(self) -> tuple[int, ...]:
        """Their numbers."""
        return self._numbers(self._engine)

    def released(self, run: int) -> ReleasedFile:
        """What the run released."""
        with self._session() as session:
            row = session.get(ReleaseRow, self._key(run))
            return ReleasedFile() if row is None else ReleasedFile(row.adapter, row.adapter_sha256)

    def parts(self, run: int, epsilon: float) -> RunParts:
        """Everything of a run but its end; `epsilon`: what its adapter claims."""
        with self._session() as session:
            return RunParts(
                self._record(session, run, epsilon),
                *self._steps(session, self._key(run)),
                self._vectors(session, self._key(run)),
            )

    def confirmed(self, run: int, roster: Roster, close: SealedClose) -> RunEnd | None:
        """The end of a run, with what the sites have signed of it; None where none has."""
        query = select(ConfirmedRow).where(ConfirmedRow.run == self._key(run))
        words = []
        with self._session() as session:
            for row in session.scalars(query):
                member = roster.member_named(row.site)
                if member is not None:
                    words.append((member.site, row.signature))
        return RunEnd(close, tuple(sorted(words))) if words else None

    def _numbers(self, engine: Engine) -> tuple[int, ...]:
        own = NumberRow.study_digest == self._study.digest().hex()
        query = select(NumberRow.number).where(own).order_by(NumberRow.number)
        with database_errors(self._url), Session(engine) as session:
            return tuple(session.scalars(query))

    def _key(self, run: int) -> str:
        return RunName(self._study.digest(), run).key

    def _session(self) -> Session:
        return Session(self._engine)

    def _record(self, session: Session, run: int, epsilon: float) -> RunRecord:
        key = self._key(run)
        row = session.get_one(RunRow, key)
        release = session.get(ReleaseRow, key)
        ordered = (AttemptRow.round, AttemptRow.attempt)
        attempts = session.scalars(
            select(AttemptRow).where(AttemptRow.run == key).order_by(*ordered)
        ).all()
        parts = session.scalars(select(PartRow).where(PartRow.run == key)).all()
        refused = session.scalars(select(SiteRow).where(SiteRow.run == key)).all()
        refusals = [(one.name, one.reason) for one in refused if one.state == SiteState.REFUSED] + [
            (part.site, part.reason) for part in parts if part.state == PartState.DROPPED
        ]
        return RunRecord(
            run=run,
            state=row.state,
            epsilon=epsilon,
            released="" if release is None else release.adapter_sha256,
            attempts=tuple(_attempt(one, parts) for one in attempts),
            refusals=tuple(sorted(refusals)),
        )

    def _steps(
        self, session: Session, key: str
    ) -> tuple[tuple[StoredMachine, ...], tuple[SealedStep, ...], tuple[OpenedSum, ...]]:
        sessions = select(SessionRow).where(SessionRow.run == key).order_by(SessionRow.session)
        order = (RequestRow.round, RequestRow.attempt)
        requests = select(RequestRow).where(RequestRow.run == key).order_by(*order)
        sums = select(SumRow).where(SumRow.run == key).order_by(SumRow.round)
        return (
            tuple(StoredMachine.decode(row.state) for row in session.scalars(sessions)),
            tuple(SealedStep.decode(row.step) for row in session.scalars(requests)),
            tuple(OpenedSum.decode(row.total) for row in session.scalars(sums)),
        )

    def _vectors(self, session: Session, key: str) -> dict[str, tuple[bytes, ...]]:
        order = (VectorRow.round, VectorRow.attempt)
        found: dict[str, list[bytes]] = {}
        rows = session.scalars(select(VectorRow).where(VectorRow.run == key).order_by(*order))
        for row in rows:
            found.setdefault(row.site, []).append(row.sealed)
        return {site: tuple(rows) for site, rows in found.items()}


def _attempt(row: AttemptRow, parts: Iterable[PartRow]) -> AttemptRecord:
    sites = sorted(
        part.site
        for part in parts
        if (part.round, part.attempt) == (row.round, row.attempt)
        and part.state == PartState.FINISHED
    )
    finished = None if row.finished is None else float(row.finished)
    return AttemptRecord(
        row.round, row.attempt, row.state, row.reason, float(row.started), finished, tuple(sites)
    )
