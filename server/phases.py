"""Where a run's time goes: named phases, added up in the store and told as events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.clock import Clock
from server.events import EventLog
from server.store import Store


@dataclass(frozen=True)
class Phases:
    """Measures phases of one run."""

    store: Store
    events: EventLog
    clock: Clock

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes to phase `name`, if it ends well."""
        begin = self.clock.monotonic()
        yield
        seconds = self.clock.monotonic() - begin
        self.store.add_seconds(name, seconds)
        self.events.emit("phase", phase=name, seconds=round(seconds, 2))
