"""Time as an argument, so that tests of deadlines need not wait."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class RunClock(Protocol):
    """What the rounds need from a clock; everything in seconds."""

    def time(self) -> float:
        """Unix time, for what is recorded."""

    def monotonic(self) -> float:
        """Time that never jumps, for deadlines."""

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Unix time."""
        return time.time()

    def monotonic(self) -> float:
        """Time that never jumps."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient the server is, in seconds.

    A message to a site takes several seconds on real Flower (its client process has to start), so
    a site that cannot answer is asked again at growing intervals.
    """

    join: float = 180.0  # until all sites have answered
    tell: float = 10.0  # until it is said which of them have not
    poll: float = 0.1  # between two checks for replies
    first_pause: float = 1.0  # before asking a site again; doubles up to `longest_pause`
    longest_pause: float = 5.0
    # Without a reply, until the same message is sent again. A gateway that is killed takes the
    # message that it was forwarding with it, and is back after five seconds.
    silence: float = 20.0
    patience: float = 60.0  # how long an agent may be unreachable before its site is dropped
    roll_call: float = 60.0  # before an attempt, for sites that are connected to answer
    fresh: float = 5.0  # how long after an answer a site need not be asked whether it is there
    wish: float = 1.0  # between two looks at what the operator wants
