"""The tables of the round state: one database, SQLite or PostgreSQL, the source of all views.

`run` is everywhere the key of a `RunRow`: a run's name as text (`server.run_name`), or Flower's id
in rows that an older version wrote. Flower's ids are unsigned 64-bit numbers, which neither
database supports, so they are text. Times are Unix seconds. An infinite epsilon (no noise) is
stored as the float infinity.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class RunState(StrEnum):
    """What a run is doing."""

    WAITING = "waiting"  # for sites
    RUNNING = "running"
    PAUSED = "paused"  # the operator wants no new attempt
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"  # by the operator, for good


ENDED = (RunState.FINISHED, RunState.FAILED, RunState.STOPPED)


class Wish(StrEnum):
    """What the operator wants of a run. It is in the database, so no restart forgets it."""

    RUN = "run"
    PAUSE = "pause"  # after the attempt under way
    STOP = "stop"  # for good, after the attempt under way
    STOP_NOW = "stop now"  # for good; the attempt under way is lost


class SiteState(StrEnum):
    """Where a site of the study stands in a run."""

    EXPECTED = "expected"
    JOINED = "joined"
    MISSING = "missing"  # no answer within the join deadline
    REFUSED = "refused"  # by the server: what it says contradicts the study


class AttemptState(StrEnum):
    """The state of an attempt at a round."""

    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"


class PartState(StrEnum):
    """What a site is doing in an attempt."""

    STARTING = "starting"
    TRAINING = "training"
    FINISHED = "finished"
    DROPPED = "dropped"


class Table(DeclarativeBase):
    """Base of all tables."""


class SchemaRow(Table):
    """Which version of these tables the database has: one row. Older databases have none."""

    __tablename__ = "schema_version"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]


class RunRow(Table):
    """A federation run."""

    __tablename__ = "runs"

    run: Mapped[str] = mapped_column(String(20), primary_key=True)
    study: Mapped[str] = mapped_column(String(64))
    study_digest: Mapped[str] = mapped_column(String(64))  # hex
    rounds: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text, default="")  # why it failed, and what to do
    started: Mapped[float]
    finished: Mapped[float | None]


class NumberRow(Table):
    """A run's name, and what stands around its rounds. Runs of older versions have none."""

    __tablename__ = "run_numbers"

    study_digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # hex
    number: Mapped[int] = mapped_column(primary_key=True)  # from 1, per study
    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), unique=True)
    served: Mapped[bool] = mapped_column(default=False)  # whether a ServerApp took it up
    wish: Mapped[str] = mapped_column(String(16), default=Wish.RUN)
    awaited: Mapped[str] = mapped_column(Text, default="")  # what the next attempt waits for
    last_words: Mapped[str] = mapped_column(Text, default="")  # of the last ServerApp that ended


class TransportRow(Table):
    """A Flower run that carries, or carried, a run of ours; the newest one counts."""

    __tablename__ = "transports"

    flower_run: Mapped[str] = mapped_column(String(20), primary_key=True)
    run: Mapped[str] = mapped_column(ForeignKey("runs.run"))
    started: Mapped[float]


class FailureRow(Table):
    """How a run failed: the parts of `RunRow.message`. Added to older databases on opening."""

    __tablename__ = "failures"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    message: Mapped[str] = mapped_column(Text)
    hint: Mapped[str] = mapped_column(Text)
    error: Mapped[str] = mapped_column(String(64))  # its id


class SiteRow(Table):
    """A site in a run: what it says about itself (public facts), and whether it takes part."""

    __tablename__ = "sites"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    node: Mapped[str] = mapped_column(String(20), default="")
    declared_patients: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    epsilon: Mapped[float] = mapped_column(default=0.0)
    budget: Mapped[float] = mapped_column(default=0.0)
    delta: Mapped[float] = mapped_column(default=0.0)
    masked: Mapped[bool] = mapped_column(default=False)


class LedgerRow(Table):
    """The newest checkpoint of a site's ledger, over all runs, by the identity's public key."""

    __tablename__ = "ledgers"

    public_key: Mapped[str] = mapped_column(String(64), primary_key=True)  # hex
    ledger: Mapped[str] = mapped_column(String(32))  # hex
    length: Mapped[str] = mapped_column(String(20))
    hash: Mapped[str] = mapped_column(String(64))  # hex


class AttemptRow(Table):
    """One attempt at a round; written before its first message is sent."""

    __tablename__ = "attempts"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    started: Mapped[float]
    finished: Mapped[float | None]
    updates: Mapped[int] = mapped_column(default=0)
    adapter_norm: Mapped[float | None]


class PartRow(Table):
    """A site's part in an attempt; its state is written before the message that follows from it."""

    __tablename__ = "parts"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    exchange: Mapped[str] = mapped_column(String(16), default="")  # at which it dropped out
    epsilon: Mapped[float | None]  # the site's total after this round


class CohortRow(Table):
    """The sites that may still be in a sum of a round, over all runs of a study.

    Each site keeps the same list, and refuses a cohort that has grown.
    """

    __tablename__ = "cohorts"

    study_digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # hex
    round: Mapped[int] = mapped_column(primary_key=True)
    sites: Mapped[str] = mapped_column(Text)  # their names, separated by commas


class AdapterRow(Table):
    """The adapter after a round (0: at the start), together with the strategy's state."""

    __tablename__ = "adapters"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))


class ReleaseRow(Table):
    """The files that a run released. Added to older databases on opening."""

    __tablename__ = "releases"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    adapter: Mapped[str] = mapped_column(Text)
    adapter_sha256: Mapped[str] = mapped_column(String(64))
    samples: Mapped[str] = mapped_column(Text)
    samples_sha256: Mapped[str] = mapped_column(String(64))  # the next run writes the same file


class QualityRow(Table):
    """A figure on public tiles, of the adapter after a round (0: of the base).

    `change` is the difference to the base, from `low` to `high` with 95 % confidence. Added to
    older databases on opening.
    """

    __tablename__ = "quality"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[float]
    change: Mapped[float]
    low: Mapped[float]
    high: Mapped[float]
    patients: Mapped[int]
    images: Mapped[int]
    measured: Mapped[float]


class PhaseRow(Table):
    """Seconds that a run has spent in a phase, over all rounds and restarts."""

    __tablename__ = "phases"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    phase: Mapped[str] = mapped_column(String(32), primary_key=True)
    seconds: Mapped[float]
