"""What a site has on disk about its sealed steps; given to the machine, which has no disk.

Every function returns after its record is durable, or raises, and then nothing has happened: the
machine changes nothing and nothing leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from privacy.wire.checkpoint import Checkpoint
from privacy.wire.log import LogFields
from privacy.wire.sealed import SealedStep


@dataclass(frozen=True, slots=True)
class SealedPast:
    """What the journal says of all earlier sessions and attempts of the study.

    `session` is the highest number of a session (0: none), `newest` the newest
    (run, step, attempt), `cohort` that attempt's cohort, `changes` how often the cohort has changed
    from one attempt to the next.
    """

    session: int = 0
    newest: tuple[int, int, int] | None = None
    cohort: tuple[int, ...] = ()
    changes: int = 0


@dataclass(frozen=True, slots=True)
class SealedIntent:
    """An attempt that the site is about to take part in, and the label that it has for it."""

    run: int
    session: int
    step: int
    attempt: int
    epoch: int
    label: bytes
    cohort: tuple[int, ...]
    changes: int


class SealedJournal(Protocol):
    """The site's disk."""

    def past(self) -> SealedPast:
        """What is on disk now."""

    def open_session(self, run: int, session: int, digest: bytes) -> Checkpoint:
        """Record the session's number and sd; where the ledger stands with it."""

    def begin(self, intent: SealedIntent) -> None:
        """Record the attempt and its label, before a mask of it is made."""

    def see_log(self, step: SealedStep) -> Callable[[], None]:
        """Raise `Refused` unless what a step says of the log holds, and nothing has changed.

        Calling the result records it, once all else about the step has been accepted.
        """

    def charge(self, intent: SealedIntent, sent: bytes | None) -> LogFields:
        """Charge the attempt before its vector leaves; what to send for the log, or nothing.

        `sent` is SHA-256 of the masked lanes; None where there is no vector.
        """
