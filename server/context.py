"""What every part of a run works with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from privacy.secagg.roster import Roster
from privacy.study.manifest import Study
from server.clock import RunClock, Timing
from server.event_log import EventLog
from server.events import PhaseEnded, RunEvent
from server.messages import Exchange
from server.roster_signing import RosterSigning
from server.store import Store


@dataclass(frozen=True)
class RunContext:
    """One run and its surroundings: messages to the sites, durable state, events, time.

    `run` is the run's number among those of the study. `consortium` is the roster in force, or the
    one that `signing` collects signatures of; then no site takes part before it has them.
    """

    study: Study
    run: int
    exchange: Exchange
    store: Store
    events: EventLog
    clock: RunClock
    timing: Timing
    consortium: Roster
    signing: RosterSigning | None = None

    @property
    def label(self) -> str:
        """The run's name for files: its number, and which version of the study it is of."""
        return f"run-{self.run}-{self.study.digest().hex()[:8]}"

    def emit(self, event: RunEvent) -> None:
        """Append an event to `events.jsonl`. Raises `DeploymentError`."""
        self.events.emit(event)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes to the phase `name`, unless it raises."""
        begin = self.clock.monotonic()
        yield
        seconds = self.clock.monotonic() - begin
        self.store.add_seconds(name, seconds)
        self.emit(PhaseEnded(name, round(seconds, 2)))

    def roster_digest(self) -> bytes:
        """Of the roster in force."""
        return self.consortium.digest()
