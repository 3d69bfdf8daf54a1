"""Which runs of the study this site knows: what is older is refused, and so is what is far ahead.

A run is (study, number), and the coordinator gives the numbers: 1, 2, 3 ... A number is known once
an attempt of it is in the ledger, so a restart forgets none. A greeting is signed by nobody, and
teaches the site nothing. Guarantees, each with a test:

- A number below the newest is refused with OLDER_RUN, which names the newest: the coordinator can
  go on above it.
- A number more than `max_run_jump` (policy.toml) above the newest is refused with RUN_TOO_FAR,
  which names the newest too. So one attempt moves the numbers up by that much and no more; and as a
  study has a limited number of attempts, charged or lost, they never come near 2^32 - 1.
- Runs without a number, of ledgers from before there were any, are compared with nothing; none is
  begun any more.
"""

# Why: docs/adr/0035-whose-run-it-is.md

from __future__ import annotations

from collections.abc import Iterable

from privacy.ledger import AttemptKey
from privacy.wire.bodies import LARGEST_RUN, Refusal
from privacy.wire.reasons import Reason


class KnownRuns:
    """The newest attempt of one study. Not thread-safe."""

    def __init__(self, known: Iterable[AttemptKey], most_jump: int) -> None:
        self._most_jump = most_jump
        self._newest: AttemptKey | None = None
        for key in known:
            self.add(key)

    @property
    def newest(self) -> int:
        """The largest number of a run, 0 before the first."""
        return 0 if self._newest is None else self._newest.run

    @property
    def newest_attempt(self) -> tuple[int, int, int] | None:
        """The newest (run, round, attempt), None before the first."""
        known = self._newest
        return None if known is None else (known.run, known.round, known.attempt)

    def add(self, key: AttemptKey) -> None:
        """An attempt that is in the ledger."""
        if key.run <= LARGEST_RUN and (self._newest is None or key > self._newest):
            self._newest = key

    def has(self, key: AttemptKey) -> bool:
        """Whether the attempt, or a newer one, is known."""
        return self._newest is not None and key <= self._newest

    def objection(self, run: int) -> Refusal | None:
        """Why nothing of the run `run` is taken; None if it may be."""
        newest = self.newest
        if run < max(newest, 1):
            return Refusal(Reason.OLDER_RUN, newest_run=newest)
        if run > min(newest + self._most_jump, LARGEST_RUN):
            return Refusal(Reason.RUN_TOO_FAR, newest_run=newest)
        return None
