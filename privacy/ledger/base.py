"""The contract of a site's record of spending, whatever stores it.

An attempt at a round is recorded twice: `intent` before any data is touched, `commit` before the
update leaves. Both have reached the disk when they return. An update may leave only after an
acknowledged commit, so the ledger's charges never fall short of what left; an attempt that died in
between remains an intent, cost nothing, and is never resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from privacy.errors import AccountingError, LedgerError
from privacy.events import Event
from privacy.ledger.head import Head
from privacy.mechanisms.registry import check_registered

if TYPE_CHECKING:
    from privacy.ledger.chain import Chain


@dataclass(frozen=True, slots=True, order=True)
class AttemptKey:
    """One attempt at one round of one run of a study; a run is (study, its number).

    Runs of a study are numbered from 1, below 2^32. Before they were, a run was Flower's id of it,
    of 64 bits: such a run means what it meant, and is never compared with a number.
    """

    study: bytes  # the digest, 32 bytes
    run: int  # 64 bits
    round: int  # 32 bits
    attempt: int  # 32 bits

    def __post_init__(self) -> None:
        if not isinstance(self.study, bytes) or len(self.study) != 32:
            raise LedgerError("A study digest has 32 bytes.")
        for name, bits in (("run", 64), ("round", 32), ("attempt", 32)):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**bits:
                raise LedgerError(f"{name} is {value!r}; it must be an unsigned {bits}-bit number.")


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt costs, and which study pays."""

    study_digest: bytes  # 32 bytes
    event: Event
    delta: float

    def __post_init__(self) -> None:
        if not isinstance(self.study_digest, bytes) or len(self.study_digest) != 32:
            raise LedgerError("A study digest has 32 bytes.")
        check_registered(self.event)
        if not (isinstance(self.delta, float) and 0 < self.delta < 1):
            raise AccountingError(f"delta is {self.delta!r}; it must lie between 0 and 1.")


@dataclass(frozen=True, slots=True)
class StepMark:
    """Which sealed step an attempt is for: nothing but this is ever masked for it."""

    label: bytes  # 32 bytes
    session: int  # its number
    cohort: tuple[int, ...]  # the sites in the step, ascending ids of the roster


class State(StrEnum):
    """How far an attempt got."""

    INTENT = "intent"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt as the ledger holds it."""

    key: AttemptKey
    charge: Charge
    state: State
    sequence: int  # of its intent, counted from the ledger's beginning
    intent_time: float  # seconds since 1970 by the site's clock; not what orders entries
    charge_time: float | None = None  # None: never charged
    mark: StepMark | None = None  # of a sealed step
    sent: bytes = b""  # 32 bytes: SHA-256 of the masked vector that left; none where none did


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


def charged(entries: Iterable[Entry]) -> list[Charge]:
    """The charges of all attempts from which something may have left."""
    return [entry.charge for entry in entries if entry.state is State.COMMITTED]
