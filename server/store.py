"""Writing the round state: a fact is durable before any message that follows from it is sent.

Whichever ServerApp takes a run up after another one was killed therefore continues at the same
round with the last adapter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from privacy.study.manifest import Study
from privacy.wire.bodies import SiteFacts
from privacy.wire.checkpoint import Checkpoint
from server.clock import RunClock
from server.database import database_errors, open_database
from server.run_name import RunName
from server.runs import add_run, note_transport
from server.status import QualityStatus, ReleaseStatus, RunFailure, RunStatus
from server.status_reader import status_of
from server.step_store import StepStore
from server.tables import (
    ENDED,
    AdapterRow,
    AttemptRow,
    AttemptState,
    CohortRow,
    FailureRow,
    LedgerRow,
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
    Wish,
)


class Store:
    """The state of one run. Every method is one transaction; raises `DeploymentError`."""

    def __init__(self, url: str, name: RunName, clock: RunClock) -> None:
        self._url = url
        self._name = name
        self._run = name.key
        self._clock = clock
        self._engine = open_database(url)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    @property
    def steps(self) -> StepStore:
        """What a pooled study's run keeps in addition."""
        return StepStore(self._url, self._engine, self._run, self._clock)

    def begin(self, study: Study) -> bool:
        """Create the run, or resume it; returns whether a ServerApp has served it before.

        Raises `FederationError` if the run has ended or belongs to another study.
        """
        check_study(self._name, study)
        with self._transaction() as session:
            row = session.get(RunRow, self._run)
            if row is None:
                add_run(session, self._name, study, self._clock.time())
                row = session.get_one(RunRow, self._run)
            _check_resumable(row)
            number = session.get_one(NumberRow, self._number)
            resumed, number.served = number.served, True
            row.state, number.awaited, number.last_words = RunState.WAITING, "", ""
        return resumed

    def carried(self, flower_run: int) -> None:
        """From now on, Flower's run `flower_run` carries this run."""
        with self._transaction() as session:
            note_transport(session, self._name, flower_run, self._clock.time())

    def wish(self) -> Wish:
        """What the operator wants of the run."""
        with self._transaction() as session:
            return Wish(session.get_one(NumberRow, self._number).wish)

    def awaits(self, what: str) -> None:
        """What the next attempt waits for, in words; "" once it need not wait."""
        with self._transaction() as session:
            session.get_one(NumberRow, self._number).awaited = what

    def interrupted(self, words: str) -> None:
        """This ServerApp ends, the run does not; `words` say why."""
        with self._transaction() as session:
            session.get_one(NumberRow, self._number).last_words = words

    def set_state(self, state: RunState, message: str = "") -> None:
        """Whether the run waits, runs, or has ended."""
        with self._transaction() as session:
            row = session.get_one(RunRow, self._run)
            row.state, row.message = state, message
            row.finished = self._clock.time() if state in ENDED else None

    def fail(self, failure: RunFailure) -> None:
        """The run has failed; one that had ended stays as it was."""
        with self._transaction() as session:
            row = session.get_one(RunRow, self._run)
            if row.state in ENDED:
                return
            row.state, row.finished = RunState.FAILED, self._clock.time()
            row.message = f"{failure.message} {failure.hint}".strip()
            session.flush()
            session.merge(FailureRow(run=self._run, **asdict(failure)))

    def site_joined(self, facts: SiteFacts, node: int) -> None:
        """A site takes part."""
        self._put_site(facts, node, SiteState.JOINED, "")

    def site_refused(self, facts: SiteFacts, node: int, reason: str) -> None:
        """The server refuses a site, because what it says contradicts the study."""
        self._put_site(facts, node, SiteState.REFUSED, reason)

    def node_refused(self, node: int, reason: str) -> None:
        """A node may not speak for the site that it names."""
        # No site's name contains a space, so this one is free.
        row = SiteRow(run=self._run, name=f"node {node}", node=str(node), declared_patients=0)
        row.state, row.reason = SiteState.REFUSED, reason
        with self._transaction() as session:
            session.merge(row)

    def site_missing(self, name: str, reason: str) -> None:
        """A site did not answer in time."""
        with self._transaction() as session:
            row = session.get_one(SiteRow, (self._run, name))
            row.state, row.reason = SiteState.MISSING, reason

    def ledgers(self) -> dict[bytes, Checkpoint]:
        """The newest checkpoint of every site's ledger, by public key."""
        with self._transaction() as session:
            return {
                bytes.fromhex(row.public_key): Checkpoint(
                    bytes.fromhex(row.ledger), int(row.length), bytes.fromhex(row.hash)
                )
                for row in session.scalars(select(LedgerRow))
            }

    def keep_ledgers(self, newer: Mapping[bytes, Checkpoint]) -> None:
        """Replace older checkpoints by these."""
        with self._transaction() as session:
            for key, checkpoint in newer.items():
                row = LedgerRow(public_key=key.hex(), ledger=checkpoint.ledger.hex())
                row.length, row.hash = str(checkpoint.length), checkpoint.hash.hex()
                session.merge(row)

    def open_attempt(self, round: int, attempt: int, sites: Sequence[str]) -> None:
        """`sites` are about to be asked to train; an interrupted attempt is reopened."""
        with self._transaction() as session:
            row = AttemptRow(
                run=self._run,
                round=round,
                attempt=attempt,
                state=AttemptState.OPEN,
                started=self._clock.time(),
            )
            session.merge(row)
            for site in sites:
                part = PartRow(run=self._run, round=round, attempt=attempt, site=site)
                part.state, part.reason, part.exchange = PartState.STARTING, "", ""
                part.epsilon = None
                session.merge(part)

    def attempts(self, round: int) -> list[tuple[int, AttemptState]]:
        """The attempts at `round` so far, in order."""
        query = select(AttemptRow).where(AttemptRow.run == self._run, AttemptRow.round == round)
        with self._transaction() as session:
            rows = session.scalars(query.order_by(AttemptRow.attempt))
            return [(row.attempt, AttemptState(row.state)) for row in rows]

    def cohort(self, study: Study, round: int) -> frozenset[str] | None:
        """Who may still be in a sum of `round`, in any run; None before its first offer."""
        with self._transaction() as session:
            row = session.get(CohortRow, (study.digest().hex(), round))
            return None if row is None else frozenset(row.sites.split(","))

    def narrow_cohort(self, study: Study, round: int, sites: Iterable[str]) -> None:
        """`sites` are about to learn that they, and no others, form a sum of `round`."""
        key = (study.digest().hex(), round)
        with self._transaction() as session:
            row = session.get(CohortRow, key)
            kept = set(sites) if row is None else set(sites) & set(row.sites.split(","))
            session.merge(CohortRow(study_digest=key[0], round=round, sites=",".join(sorted(kept))))

    def part(
        self,
        key: tuple[int, int],
        site: str,
        state: PartState,
        reason: str = "",
        exchange: str = "",
    ) -> None:
        """What `site` does in the attempt `key`; if it dropped out, why and at which exchange."""
        with self._transaction() as session:
            row = session.get_one(PartRow, (self._run, *key, site))
            row.state, row.reason, row.exchange = state, reason, exchange

    def update_received(self, key: tuple[int, int], site: str, epsilon: float | None) -> None:
        """`site` has sent its update for the attempt `key`; `epsilon` is its total, if known."""
        with self._transaction() as session:
            row = session.get_one(PartRow, (self._run, *key, site))
            row.state, row.reason, row.epsilon = PartState.FINISHED, "", epsilon
            if epsilon is not None:
                session.get_one(SiteRow, (self._run, site)).epsilon = epsilon

    def attempt_failed(self, key: tuple[int, int], reason: str) -> None:
        """The attempt `key` failed."""
        with self._transaction() as session:
            row = session.get_one(AttemptRow, (self._run, *key))
            row.state, row.reason = AttemptState.FAILED, reason
            row.finished = self._clock.time()

    def round_finished(
        self, key: tuple[int, int], updates: int, norm: float, adapter: tuple[str, str]
    ) -> None:
        """The attempt `key` produced an adapter of L2 `norm`; `adapter` is its (path, sha256)."""
        with self._transaction() as session:
            row = session.get_one(AttemptRow, (self._run, *key))
            row.state, row.finished = AttemptState.FINISHED, self._clock.time()
            row.updates, row.adapter_norm = updates, norm
            session.merge(self._adapter_row(key[0], adapter))

    def keep_adapter(self, round: int, adapter: tuple[str, str]) -> None:
        """Keep the adapter after `round`, (path, sha256); for round 0, which has no attempts."""
        with self._transaction() as session:
            session.merge(self._adapter_row(round, adapter))

    def last_adapter(self) -> tuple[int, str, str] | None:
        """(round, path, sha256) of the newest adapter; None before the first."""
        query = select(AdapterRow).where(AdapterRow.run == self._run)
        with self._transaction() as session:
            row = session.scalars(query.order_by(AdapterRow.round.desc()).limit(1)).first()
            return None if row is None else (row.round, row.path, row.sha256)

    def keep_release(self, release: ReleaseStatus) -> None:
        """The files that this run has released."""
        with self._transaction() as session:
            session.merge(ReleaseRow(run=self._run, **asdict(release)))

    def keep_quality(self, figure: QualityStatus) -> None:
        """A figure on public tiles; the newest measurement counts."""
        with self._transaction() as session:
            session.merge(QualityRow(run=self._run, **asdict(figure)))

    def add_seconds(self, phase: str, seconds: float) -> None:
        """`seconds` more were spent in `phase`."""
        with self._transaction() as session:
            row = session.get(PhaseRow, (self._run, phase))
            if row is None:
                session.add(PhaseRow(run=self._run, phase=phase, seconds=seconds))
            else:
                row.seconds += seconds

    def status(self) -> RunStatus:
        """The whole state of this run."""
        with self._transaction() as session:
            return status_of(session, self._run)

    @property
    def _number(self) -> tuple[str, int]:
        return self._name.study_digest.hex(), self._name.number

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with database_errors(self._url), Session(self._engine) as session, session.begin():
            yield session

    def _put_site(self, facts: SiteFacts, node: int, state: SiteState, reason: str) -> None:
        row = SiteRow(run=self._run, name=facts.name, node=str(node))
        row.declared_patients = facts.declared_patients
        row.state, row.reason = state, reason
        row.epsilon, row.budget = facts.epsilon_spent, facts.epsilon_budget
        row.delta, row.masked = facts.delta, True
        with self._transaction() as session:
            session.merge(row)

    def _adapter_row(self, round: int, adapter: tuple[str, str]) -> AdapterRow:
        path, digest = adapter
        return AdapterRow(run=self._run, round=round, path=path, sha256=digest)


def check_study(name: RunName, study: Study) -> None:
    """Raise `FederationError` unless `name` is a run of exactly this study."""
    if name.study_digest != study.digest():
        raise FederationError(
            f"study.toml is not the study file with which run {name.number} was started.",
            "Restore the study file of the run, or end the run: craftsfl rounds stop "
            "consortium.toml",
            id=ErrorId.STUDY_CHANGED,
        )


def _check_resumable(row: RunRow) -> None:
    if row.state in ENDED:
        raise FederationError(
            f"This run has already {row.state}.",
            "Start a new run: craftsfl rounds start consortium.toml",
            id=ErrorId.RUN_ENDED,
        )
