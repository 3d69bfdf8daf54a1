"""The contract of a site's record of spending, whatever stores it.

An attempt at a round is recorded twice: `intent` before any data is touched, `commit` before the
update leaves. Both have reached the disk when they return. An update may leave only after an
acknowledged commit, so the ledger's charges never fall short of what left; an attempt that died in
between remains an intent, cost nothing, and is never resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from privacy.ledger.attempts import AttemptKey, Charge, Entry, StepMark
from privacy.ledger.chain import Chain
from privacy.ledger.head import Head


class Ledger(Protocol):
    """A site's record of spending. Every method raises `LedgerError` if the record is unusable."""

    def intent(self, key: AttemptKey, charge: Charge, mark: StepMark | None = None) -> None:
        """Record that work on `key` is about to begin; on disk when this returns.

        `mark` says for which sealed step. Recording the same again changes nothing. Raises
        `LedgerError` if `key` is known with another charge or mark, or is not of the study that
        pays.
        """

    def commit(self, key: AttemptKey) -> None:
        """Charge `key`, permanently; on disk when this returns.

        Charging it again changes nothing. Raises `LedgerError` for a key without an intent.
        """

    def sent(self, key: AttemptKey, digest: bytes) -> None:
        """Record the SHA-256 of the masked vector that is about to leave of a charged `key`.

        On disk when this returns. Recording the same again changes nothing. Raises `LedgerError`
        for any other vector, and for a key that is not charged.
        """

    def begin_session(self, study: bytes, run: int, number: int, digest: bytes) -> None:
        """Record that a session of sealed steps begins; on disk when this returns.

        Recording the newest again changes nothing. Raises `LedgerError` unless `number` is above
        those of all sessions that the study has had here.
        """

    def newest_session(self, study: bytes) -> int:
        """The largest number of a session of the study (its digest); 0 before the first."""

    def entries(self) -> tuple[Entry, ...]:
        """All attempts, in the order of their intents."""

    def head(self) -> Head:
        """The signed newest state, for others to keep: it exposes an older or a foreign copy."""

    def chain(self) -> Chain:
        """What the records make; not to be changed, and only between two of the above."""

    def records(self, first: int, until: int) -> Sequence[bytes]:
        """The bytes of the records from `first` on, to before `until`."""

    def close(self) -> None:
        """Let another process open the ledger. Calling it again changes nothing."""
