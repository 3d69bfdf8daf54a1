"""Time that a simulation moves itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class SteppedClock:
    """A `server.clock.RunClock` whose time passes only by sleeping.

    `before` is called before any time passes: for whatever must have ended by then.
    """

    now: float = 1000.0
    before: Callable[[], object] = bool

    def time(self) -> float:
        """Unix time."""
        return self.now

    def monotonic(self) -> float:
        """The same: it never jumps back."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.before()
        self.now += seconds
