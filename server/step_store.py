"""The round state of a pooled study's steps: sessions, requests, vectors and opened sums.

A request is durable before the first of its messages is sent, a vector as soon as it has arrived,
a sum together with the end of its step. So a coordinator that was killed sends the same bytes in
the same session, and vectors can be added again for as long as the database is kept.
"""

# Why: docs/adr/0045-sealed-rounds.md

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from server.clock import RunClock
from server.database import database_errors
from server.sealed_tables import (
    VECTORS,
    ClosedRow,
    ConfirmedRow,
    RequestRow,
    SessionRow,
    SumRow,
    VectorRow,
)
from server.tables import AdapterRow, AttemptRow, AttemptState, NumberRow, PartRow

StepKey = tuple[int, int]  # round, attempt


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A session; `state` is its machine's, times are Unix seconds."""

    number: int
    members: tuple[str, ...]
    opened: float
    expiry: float
    state: bytes
    ready: bool = False  # whether its keys are complete


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What an attempt's sites are asked, as it travels; `slot` in Unix seconds."""

    session: int
    slot: float
    cohort: tuple[str, ...]
    step: bytes


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """What a step leaves: who is in it, the adapter's L2 norm, the sum as it travels.

    `adapter`: (path, sha256) if a checkpoint was written.
    """

    sites: int
    norm: float
    total: bytes
    adapter: tuple[str, str] | None


class StepStore:
    """The steps of one run. Every method is one transaction; raises `DeploymentError`."""

    def __init__(self, url: str, engine: Engine, run: str, clock: RunClock) -> None:
        self._url = url
        self._engine = engine
        self._run = run
        self._clock = clock

    def newest_session(self) -> int:
        """The largest number that a session of any run has had; 0 for none."""
        with self._transaction() as session:
            return session.scalar(select(func.max(SessionRow.session))) or 0

    def live_session(self) -> KeptSession | None:
        """The session that has not ended."""
        query = select(SessionRow).where(SessionRow.run == self._run, SessionRow.ended == "")
        with self._transaction() as session:
            row = session.scalars(query.order_by(SessionRow.session.desc()).limit(1)).first()
            return None if row is None else _session(row)

    def open_session(self, new: KeptSession) -> None:
        """`new` is about to be offered; earlier ones have ended."""
        earlier = select(SessionRow).where(SessionRow.run == self._run, SessionRow.ended == "")
        with self._transaction() as session:
            for row in session.scalars(earlier):
                row.ended = "a newer one was offered"
            row = SessionRow(run=self._run, session=new.number, members=",".join(new.members))
            row.opened, row.expiry, row.state = new.opened, new.expiry, new.state
            row.ready, row.ended = new.ready, ""
            session.add(row)

    def session_ready(self, number: int, state: bytes) -> None:
        """The keys of the session are complete."""
        with self._transaction() as session:
            row = session.get_one(SessionRow, (self._run, number))
            row.ready, row.state = True, state

    def end_session(self, number: int, why: str) -> None:
        """No further step is sent in the session."""
        with self._transaction() as session:
            session.get_one(SessionRow, (self._run, number)).ended = why

    def keep_request(self, key: StepKey, request: StoredRequest, state: bytes) -> None:
        """`request` is about to be sent; `state` is the session's with it.

        An attempt has one request: a second one is refused by the database.
        """
        with self._transaction() as session:
            row = RequestRow(run=self._run, round=key[0], attempt=key[1])
            row.session, row.slot = request.session, request.slot
            row.cohort, row.step = ",".join(request.cohort), request.step
            session.add(row)
            session.get_one(SessionRow, (self._run, request.session)).state = state

    def keep_state(self, number: int, state: bytes) -> None:
        """Where the machine of the session stands."""
        with self._transaction() as session:
            session.get_one(SessionRow, (self._run, number)).state = state

    def missed(self) -> int:
        """How many vectors of this run were asked for, and did not come."""
        query = select(func.count()).select_from(PartRow)
        mine = PartRow.run == self._run, PartRow.exchange == VECTORS
        with self._transaction() as session:
            return session.scalar(query.where(*mine)) or 0

    def request(self, key: StepKey) -> StoredRequest | None:
        """What the sites of the attempt `key` were asked, or are to be asked again."""
        with self._transaction() as session:
            row = session.get(RequestRow, (self._run, *key))
            if row is None:
                return None
            return StoredRequest(row.session, row.slot, tuple(row.cohort.split(",")), row.step)

    def cohorts(self) -> list[tuple[str, ...]]:
        """Who was asked in each attempt of the study, over all its runs, in the order of asking."""
        own = select(NumberRow.study_digest).where(NumberRow.run == self._run).scalar_subquery()
        query = (
            select(RequestRow.cohort)
            .join(NumberRow, NumberRow.run == RequestRow.run)
            .where(NumberRow.study_digest == own)
            .order_by(NumberRow.number, RequestRow.round, RequestRow.attempt)
        )
        with self._transaction() as session:
            return [tuple(names.split(",")) for names in session.scalars(query)]

    def keep_vector(self, key: StepKey, site: str, sealed: bytes) -> None:
        """The vector of `site` has arrived."""
        with self._transaction() as session:
            row = VectorRow(run=self._run, round=key[0], attempt=key[1], site=site)
            row.sealed = sealed
            session.merge(row)

    def vectors(self, key: StepKey) -> Mapping[str, bytes]:
        """The vectors of an attempt that have arrived, by site."""
        mine = VectorRow.run == self._run, VectorRow.round == key[0], VectorRow.attempt == key[1]
        with self._transaction() as session:
            rows = session.scalars(select(VectorRow).where(*mine).order_by(VectorRow.site))
            return {row.site: row.sealed for row in rows}

    def finish(self, key: StepKey, step: FinishedStep) -> None:
        """The attempt `key` has opened its sum."""
        with self._transaction() as session:
            row = session.get_one(AttemptRow, (self._run, *key))
            row.state, row.finished = AttemptState.FINISHED, self._clock.time()
            row.updates, row.adapter_norm = step.sites, step.norm
            total = SumRow(run=self._run, round=key[0], attempt=key[1], total=step.total)
            session.add(total)
            if step.adapter is not None:
                path, sha256 = step.adapter
                session.merge(AdapterRow(run=self._run, round=key[0], path=path, sha256=sha256))

    def forget_sum(self, key: StepKey, reason: str) -> None:
        """The sum of the newest finished step, `key`, is none: the step is open again."""
        with self._transaction() as session:
            row = session.get_one(AttemptRow, (self._run, *key))
            row.state, row.reason, row.adapter_norm = AttemptState.FAILED, reason, None
            session.delete(session.get_one(SumRow, (self._run, key[0])))
            adapter = session.get(AdapterRow, (self._run, key[0]))
            if adapter is not None:
                session.delete(adapter)

    def keep_closed(self, confirmed: Mapping[str, bytes]) -> None:
        """The sites were asked what the run has come to; what those who agree have signed."""
        with self._transaction() as session:
            session.add(ClosedRow(run=self._run, closed=self._clock.time()))
            for site, signature in confirmed.items():
                session.add(ConfirmedRow(run=self._run, site=site, signature=signature))

    def is_closed(self) -> bool:
        """Whether the sites were asked what the run has come to."""
        with self._transaction() as session:
            return session.get(ClosedRow, self._run) is not None

    def sums(self, after: int = 0) -> list[tuple[int, int, bytes]]:
        """(round, attempt, sum) of the finished steps after step `after`, in order."""
        query = select(SumRow).where(SumRow.run == self._run, SumRow.round > after)
        with self._transaction() as session:
            rows = session.scalars(query.order_by(SumRow.round))
            return [(row.round, row.attempt, row.total) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with database_errors(self._url), Session(self._engine) as session, session.begin():
            yield session


def _session(row: SessionRow) -> KeptSession:
    return KeptSession(
        number=row.session,
        members=tuple(row.members.split(",")),
        opened=row.opened,
        expiry=row.expiry,
        state=row.state,
        ready=row.ready,
    )
