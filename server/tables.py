"""The tables of the round state: one database, SQLite or PostgreSQL, the source of all views.

Flower's ids are unsigned 64-bit numbers, which neither database supports, so they are text. Times
are Unix seconds. An infinite epsilon (no noise) is stored as the float infinity.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class RunState(StrEnum):
    """What a run is doing."""

    WAITING = "waiting"  # for sites
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


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


class RunRow(Table):
    """A federation run, by Flower's run id."""

    __tablename__ = "runs"

    run: Mapped[str] = mapped_column(String(20), primary_key=True)
    study: Mapped[str] = mapped_column(String(64))
    study_digest: Mapped[str] = mapped_column(String(64))  # hex
    rounds: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text, default="")  # why it failed, and what to do
    started: Mapped[float]
    finished: Mapped[float | None]


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


class PhaseRow(Table):
    """Seconds that a run has spent in a phase, over all rounds and restarts."""

    __tablename__ = "phases"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    phase: Mapped[str] = mapped_column(String(32), primary_key=True)
    seconds: Mapped[float]
