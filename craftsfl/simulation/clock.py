"""Time that a simulation moves itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SteppedClock:
    """A `server.clock.RunClock` whose time passes only by sleeping."""

    now: float = 1000.0

    def time(self) -> float:
        """Unix time."""
        return self.now

    def monotonic(self) -> float:
        """The same: it never jumps back."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.now += seconds
