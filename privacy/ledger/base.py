"""What a site's record of spending promises, whatever keeps it.

An attempt at a round is written twice: `intent` before any data is touched, `commit` before the
update leaves. Both have reached the disk when they return. An update may leave only after an
acknowledged commit, so the ledger's epsilon is never below what left; an attempt that died in
between stays an intent, cost nothing, and is never resumed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from privacy.accounting import epsilon
from privacy.errors import AccountingError, LedgerError
from privacy.events import Event
from privacy.ledger.head import Head
from privacy.mechanisms.registry import check_registered


@dataclass(frozen=True, slots=True, order=True)
class AttemptKey:
    """One attempt at one round of one federation run."""

    run: int  # 64 bits
    round: int  # 32 bits
    attempt: int  # 32 bits

    def __post_init__(self) -> None:
        for name, bits in (("run", 64), ("round", 32), ("attempt", 32)):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**bits:
                raise LedgerError(f"{name} is {value!r}; it must be an unsigned {bits}-bit number.")


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt costs, and which study's line pays."""

    study_digest: bytes  # 32 bytes
    event: Event
    delta: float

    def __post_init__(self) -> None:
        if not isinstance(self.study_digest, bytes) or len(self.study_digest) != 32:
            raise LedgerError("A study digest has 32 bytes.")
        check_registered(self.event)
        if not (isinstance(self.delta, float) and 0 < self.delta < 1):
            raise AccountingError(f"delta is {self.delta!r}; it must lie between 0 and 1.")


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
    intent_time: float  # seconds since 1970 by the site's clock, which orders nothing
    charge_time: float | None = None  # None: never charged


class Ledger(Protocol):
    """A site's record of spending. Every method raises `LedgerError` if the record is unusable."""

    def intent(self, key: AttemptKey, charge: Charge) -> None:
        """Record that `key` is about to be worked on; on disk when this returns.

        The same key and charge again change nothing. Raises `LedgerError` if `key` is known with
        another charge.
        """

    def commit(self, key: AttemptKey) -> None:
        """Charge `key`; on disk when this returns, and for ever.

        Again: no change. Raises `LedgerError` for a key without an intent.
        """

    def spent(self, extra: Charge | None = None) -> float:
        """Epsilon of all committed attempts, and of `extra` as if committed too.

        Composed by PLD within a study, whose schedule is frozen; summed over studies, which may
        be chosen after seeing results (then the deltas add up as well). Infinite if any attempt
        had no noise.
        """

    def spent_in(self, study_digest: bytes, extra: Charge | None = None) -> float:
        """The same for one study. Raises `LedgerError` if `extra` belongs to another one."""

    def rounds(self, study_digest: bytes) -> int:
        """Committed attempts of one study."""

    def no_privacy(self) -> bool:
        """True if a committed attempt had no noise, so that `spent` is infinite for ever."""

    def entries(self) -> tuple[Entry, ...]:
        """All attempts, in the order of their intents."""

    def head(self) -> Head:
        """The signed newest state, for others to keep: it proves a later copy older or foreign."""

    def close(self) -> None:
        """Let another process open the ledger. Calling it again changes nothing."""


class Spending(ABC):
    """The sums of `Ledger`, over whatever holds the entries."""

    @abstractmethod
    def entries(self) -> tuple[Entry, ...]:
        """See `Ledger.entries`."""

    def spent(self, extra: Charge | None = None) -> float:
        """See `Ledger.spent`."""
        return total([*self._committed(), *([extra] if extra else [])])

    def spent_in(self, study_digest: bytes, extra: Charge | None = None) -> float:
        """See `Ledger.spent_in`."""
        if extra is not None and extra.study_digest != study_digest:
            raise LedgerError("The extra charge belongs to another study.")
        mine = [charge for charge in self._committed() if charge.study_digest == study_digest]
        return total([*mine, *([extra] if extra else [])])

    def rounds(self, study_digest: bytes) -> int:
        """See `Ledger.rounds`."""
        return sum(charge.study_digest == study_digest for charge in self._committed())

    def no_privacy(self) -> bool:
        """See `Ledger.no_privacy`."""
        return any(charge.event.no_privacy for charge in self._committed())

    def _committed(self) -> list[Charge]:
        return [entry.charge for entry in self.entries() if entry.state is State.COMMITTED]


def total(charges: Iterable[Charge]) -> float:
    """Epsilon of `charges`: PLD within a study, the sum over studies; infinite without noise."""
    studies: dict[bytes, list[Charge]] = defaultdict(list)
    for charge in charges:
        studies[charge.study_digest].append(charge)
    return math.fsum(_of_one_study(group) for group in studies.values())


def _of_one_study(charges: list[Charge]) -> float:
    if any(charge.event.no_privacy for charge in charges):
        return math.inf
    # The digest fixes delta; should they differ all the same, the smallest overstates epsilon.
    return epsilon((c.event for c in charges), min(c.delta for c in charges))
