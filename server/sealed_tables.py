"""The tables of a pooled study's steps: sessions, stored requests, signed vectors, opened sums.

Bytes are kept exactly as they are sent or arrive, so that a coordinator that was killed sends the
same ones again, and an auditor can add the signed vectors himself. All tables were added later:
older databases get them when they are opened for writing. `run` is the key of a `RunRow`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.tables import Table

# The exchanges of a step, in `PartRow.exchange`; READY is there in that form alone.
START, READY, VECTORS = "start", "ready", "vectors"


class StepsRow(Table):
    """A run whose rounds are steps; `spare` attempts of all its steps together may be lost."""

    __tablename__ = "step_runs"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    spare: Mapped[int]


class SessionRow(Table):
    """A session: its members' keys serve all steps until it ends. Numbers only grow."""

    __tablename__ = "step_sessions"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    session: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    members: Mapped[str] = mapped_column(Text)  # names, separated by commas
    opened: Mapped[float]
    expiry: Mapped[float]
    state: Mapped[bytes] = mapped_column(LargeBinary)  # of the server's machine; no secrets
    ready: Mapped[bool] = mapped_column(default=False)  # whether its keys are complete
    ended: Mapped[str] = mapped_column(Text, default="")  # why; "": it is live


class RequestRow(Table):
    """What the sites of an attempt at a step are asked; written before the first of it is sent."""

    __tablename__ = "step_requests"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    session: Mapped[int] = mapped_column(BigInteger)
    slot: Mapped[float]  # Unix seconds
    cohort: Mapped[str] = mapped_column(Text)  # K: names, separated by commas
    step: Mapped[bytes] = mapped_column(LargeBinary)  # the signed Step


class VectorRow(Table):
    """A site's signed, masked vector in an attempt at a step."""

    __tablename__ = "step_vectors"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(String(32), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)  # Sealed


class SumRow(Table):
    """The sum that a step has opened, as it travels to the sites."""

    __tablename__ = "opened_sums"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    total: Mapped[bytes] = mapped_column(LargeBinary)


class ClosedRow(Table):
    """All sites were asked, once, whether they come to what the run has come to."""

    __tablename__ = "step_ends"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    closed: Mapped[float]  # Unix seconds


class ConfirmedRow(Table):
    """A site has worked out the adapter that a run publishes: its signature of the SealedClose."""

    __tablename__ = "step_confirmations"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    site: Mapped[str] = mapped_column(String(32), primary_key=True)
    signature: Mapped[bytes] = mapped_column(LargeBinary)
