"""What a ledger's records say, one after the other: attempts, charges, sessions, bindings.

Whether they are signed, and follow from each other, is `Chain`'s or, of what is in the consortium's
log, `privacy.log.lines`'.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from privacy.errors import LedgerError
from privacy.ledger.attempts import AttemptKey, Entry, State
from privacy.ledger.binding import check_binding
from privacy.ledger.records import (
    Bound,
    Charged,
    Content,
    GeneratorTried,
    Genesis,
    Intent,
    Record,
    Sent,
    SessionBegun,
)

Undo: TypeAlias = Callable[[], object]

_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class LedgerTrial:
    """A trial of the generator: which record says it, when (seconds since 1970), what was found."""

    sequence: int
    time: float
    found: GeneratorTried


class LedgerStory:
    """The state that follows from the records of one ledger."""

    def __init__(self, ledger: bytes) -> None:
        self._ledger = ledger  # 16 bytes
        self.genesis: Genesis | None = None
        self.bindings: list[Bound] = []  # the newest one counts
        self.trials: list[LedgerTrial] = []
        self._entries: list[Entry] = []
        self._places: dict[AttemptKey, int] = {}  # index of an attempt in _entries
        self._intents: dict[int, AttemptKey] = {}  # by the sequence of the intent
        self._sessions: dict[bytes, SessionBegun] = {}  # the newest of each study

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All attempts, in the order of their intents."""
        return tuple(self._entries)

    def find(self, key: AttemptKey) -> Entry | None:
        """The attempt `key`, or None."""
        place = self._places.get(key)
        return None if place is None else self._entries[place]

    def session(self, study: bytes) -> SessionBegun | None:
        """The newest session of the study (its digest), or None."""
        return self._sessions.get(study)

    def study_of(self, content: Content) -> bytes | None:
        """The study (its digest) that a record's content is about; None where it is about none."""
        match content:
            case Intent():
                return content.key.study
            case SessionBegun():
                return content.study
            case Charged() | Sent():
                return self._intents[content.intent].study
        return None

    def take(self, record: Record) -> Undo:
        """Add what a record says; `LedgerError` before any change. Call the result to undo it."""
        content, seconds = record.content, record.time / _MICROSECONDS
        match content:
            case Genesis():
                return self._begin(content)
            case Bound():
                return self._bind(content)
            case Intent():
                return self._intend(content, record.sequence, seconds)
            case Sent():
                return self._send(content)
            case SessionBegun():
                return self._open_session(content)
            case Charged():
                return self._charge(content, seconds)
            case GeneratorTried():
                self.trials.append(LedgerTrial(record.sequence, seconds, content))
                return self.trials.pop

    def _begin(self, content: Genesis) -> Undo:
        self.genesis = content
        return partial(setattr, self, "genesis", None)

    def _bind(self, content: Bound) -> Undo:
        if self.genesis is None:
            raise LedgerError("it binds a ledger that has not begun.")
        check_binding(content, self._ledger, self.genesis.public_key, self.genesis.site)
        self.bindings.append(content)
        return self.bindings.pop

    def _intend(self, content: Intent, sequence: int, seconds: float) -> Undo:
        key = content.key
        if key in self._places:
            raise LedgerError("it repeats an attempt.")
        self._places[key] = len(self._entries)
        self._intents[sequence] = key
        self._entries.append(
            Entry(key, content.charge, State.INTENT, sequence, seconds, mark=content.mark)
        )

        def undo() -> None:
            self._entries.pop()
            del self._places[key], self._intents[sequence]

        return undo

    def _open_session(self, content: SessionBegun) -> Undo:
        before = self._sessions.get(content.study)
        if content.number <= (0 if before is None else before.number):
            raise LedgerError("it numbers a session that is not above an earlier one.")
        self._sessions[content.study] = content
        if before is None:
            return partial(self._sessions.pop, content.study)
        return partial(self._sessions.__setitem__, content.study, before)

    def _charge(self, content: Charged, seconds: float) -> Undo:
        place = self._place(content.intent, "it charges an attempt that was never begun.")
        entry = self._entries[place]
        if entry.state is State.COMMITTED:
            raise LedgerError("it charges an attempt twice.")
        self._entries[place] = dataclasses.replace(
            entry, state=State.COMMITTED, charge_time=seconds
        )
        return partial(self._entries.__setitem__, place, entry)

    def _send(self, content: Sent) -> Undo:
        place = self._place(content.intent, "something left of an attempt that was never begun.")
        entry = self._entries[place]
        if entry.state is not State.COMMITTED:
            raise LedgerError("something left of an attempt that was not charged.")
        if entry.sent:
            raise LedgerError("two vectors of one attempt left.")
        self._entries[place] = dataclasses.replace(entry, sent=content.digest)
        return partial(self._entries.__setitem__, place, entry)

    def _place(self, intent: int, otherwise: str) -> int:
        key = self._intents.get(intent)
        if key is None:
            raise LedgerError(otherwise)
        return self._places[key]
