"""What every kind of round is made of, and what all of them do alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from privacy.wire.codec import Vector
from server.attendance import Attendance
from server.cohort import AttemptGate
from server.context import RunContext
from server.events import ROUND, STEP, RoundFailed, RoundFinished, RoundStarted
from server.spending import Spending
from server.status import RunStatus


class Tracker(Protocol):
    """Follows a run, round by round."""

    def round_finished(self, status: RunStatus) -> None:
        """`status` holds everything up to this round. Must neither raise nor block."""


@dataclass(frozen=True)
class RoundParts:
    """A run at work: whoever is there, what begins an attempt, what is told of a round."""

    context: RunContext
    attendance: Attendance
    gate: AttemptGate
    spending: Spending
    folder: Path
    tracker: Tracker

    @property
    def unit(self) -> str:
        """What the study calls a round."""
        return STEP if self.context.study.pools_noise else ROUND

    def file(self, number: int) -> Path:
        """Where the adapter after a round is kept."""
        return self.folder / self.context.label / f"round-{number:03d}.npz"

    def begun(self, key: tuple[int, int], sites: tuple[str, ...]) -> None:
        """Tell that an attempt, (round, attempt), begins."""
        rounds = self.context.study.rounds
        self.context.emit(RoundStarted(key[0], rounds, key[1], sites, self.unit))

    def failed(self, key: tuple[int, int], reason: str) -> None:
        """Store and tell that an attempt failed."""
        self.context.store.attempt_failed(key, reason)
        self.context.emit(RoundFailed(*key, reason, self.unit))

    def finished(self, key: tuple[int, int], sites: tuple[str, ...], norm: float) -> None:
        """Tell of a round whose end is in the store."""
        context = self.context
        status = context.store.status()
        context.emit(
            RoundFinished(
                round=key[0],
                rounds=context.study.rounds,
                attempt=key[1],
                updates=len(sites),
                adapter_norm=norm,
                seconds=status.history[-1].seconds,
                sites=sites,
                masked=True,
                unit=self.unit,
            )
        )
        self.tracker.round_finished(status)

    def given_up(self, number: int, reason: str) -> FederationError:
        """The error of a round at which no attempt is left; `reason` says how many there were."""
        unit = self.unit.capitalize()
        return FederationError(
            f"{unit} {number} of {self.context.study.rounds} failed {reason}",
            "Fix the sites named above, then start a new run: craftsfl rounds start "
            "consortium.toml",
            id=ErrorId.ROUND_FAILED,
        )


def in_words(reason: str, dropped: Mapping[str, str]) -> str:
    """`reason`, and why each site that dropped out did so."""
    named = " ".join(f"{name}: {why}" for name, why in sorted(dropped.items()))
    return f"{reason} {named}".strip()


def length_of(adapter: Vector) -> float:
    """The L2 norm of an adapter, [P]."""
    return float(np.linalg.norm(adapter.astype(np.float64)))
