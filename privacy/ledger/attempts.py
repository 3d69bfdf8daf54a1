"""An attempt, what it costs, and how far it got."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from privacy.errors import AccountingError, LedgerError
from privacy.events import Event
from privacy.mechanisms.registry import check_registered


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


def charged(entries: Iterable[Entry]) -> list[Charge]:
    """The charges of all attempts from which something may have left."""
    return [entry.charge for entry in entries if entry.state is State.COMMITTED]
