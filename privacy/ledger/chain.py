"""What makes records a ledger: every transition, without any file.

Guarantees, each with a test: an illegal record raises `LedgerError` and changes nothing;
records are numbered from 0 without gaps; each holds the hash of the previous one and is signed by
the key of the first; only the first is a genesis; an attempt has one intent and at most one charge;
of a charged one at most one vector leaves; sessions of a study are numbered upwards;
a binding is signed by the identity that it names, and the newest one counts. A record that is
signed but cannot be read was written by a newer craftsfl: the refusal of the ledger says so.
"""

# Why: docs/adr/0008-ledger.md

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from privacy.error_ids import ErrorId
from privacy.errors import LedgerError
from privacy.ledger.attempts import AttemptKey, Entry
from privacy.ledger.head import Head
from privacy.ledger.records import (
    NO_PREVIOUS,
    Bound,
    Content,
    GeneratorTried,
    Genesis,
    Record,
    SessionBegun,
    decode,
    hash_of,
)
from privacy.ledger.story import LedgerStory, LedgerTrial

_RESTORE: Final = (
    "Restore the newest backup of the whole state folder; never start over with an empty ledger: "
    "the budget is spent."
)


class _Newer(LedgerError):
    """A record that is signed and of an unknown kind."""


class Chain:
    """The verified records of one ledger, in memory."""

    def __init__(self, ledger: bytes) -> None:
        self.ledger = ledger  # 16 bytes
        self.time = 0  # of the newest record, microseconds since 1970
        self.steps_back = 0  # how often a record has an earlier time than the previous one
        self._story = LedgerStory(ledger)
        self._heads: list[tuple[bytes, bytes]] = []  # hash and signature of each record

    def __len__(self) -> int:
        return len(self._heads)

    @property
    def genesis(self) -> Genesis:
        """The first record's content; `LedgerError` if there is none."""
        if self._story.genesis is None:
            raise LedgerError("The ledger holds no records.", _RESTORE)
        return self._story.genesis

    @property
    def bound(self) -> Bound | None:
        """The newest binding to an identity, or None."""
        return self._story.bindings[-1] if self._story.bindings else None

    @property
    def tried(self) -> tuple[GeneratorTried, float] | None:
        """The newest trial of the generator, and when (seconds since 1970); None before any."""
        newest = self._story.trials[-1] if self._story.trials else None
        return None if newest is None else (newest.found, newest.time)

    @property
    def trials(self) -> tuple[LedgerTrial, ...]:
        """All trials of the generator, in order."""
        return tuple(self._story.trials)

    @property
    def bindings(self) -> tuple[Bound, ...]:
        """All identities that have signed for the ledger, in order."""
        return tuple(self._story.bindings)

    @property
    def head(self) -> Head:
        """The newest record's head."""
        digest, signature = self._heads[-1] if self._heads else (NO_PREVIOUS, b"")
        key = self.genesis.public_key
        return Head(self.ledger, len(self) - 1, digest, key, signature)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All attempts, in the order of their intents."""
        return self._story.entries

    def find(self, key: AttemptKey) -> Entry | None:
        """The attempt `key`, or None."""
        return self._story.find(key)

    def session(self, study: bytes) -> SessionBegun | None:
        """The newest session of the study (its digest), or None."""
        return self._story.session(study)

    def head_at(self, sequence: int) -> Head:
        """The head that the ledger had when this record was its newest."""
        digest, signature = self._heads[sequence]
        return Head(self.ledger, sequence, digest, self.genesis.public_key, signature)

    def study_of(self, content: Content) -> bytes | None:
        """The study (its digest) that a record's content is about; None where it is about none."""
        return self._story.study_of(content)

    def next(self, content: Content, time: int) -> Record:
        """The record that would follow; `time` in microseconds since 1970."""
        previous = self._heads[-1][0] if self._heads else NO_PREVIOUS
        return Record(self.ledger, len(self), previous, time, content)

    @classmethod
    def under(cls, head: Head, bodies: Iterable[bytes]) -> Chain:
        """The records `bodies`, the newest of which `head` is: one signature covers all of them.

        Each holds the hash of the one before it. Raises `LedgerError` as `apply` does, and for a
        head that is not signed, or of another record.
        """
        head.verify()
        chain = cls(head.ledger)
        for body in bodies:
            chain.add_unsigned(body)
        if (len(chain) - 1, chain.head.hash) != (head.sequence, head.hash):
            raise LedgerError("Its head is not that of its newest record.", _RESTORE)
        if chain.genesis.public_key != head.public_key:
            raise LedgerError("Its head is signed with another key than its own.", _RESTORE)
        chain._heads[-1] = (head.hash, head.signature)
        return chain

    def add_unsigned(self, body: bytes) -> None:
        """Add a record for which the caller has, or will have, the signature of a later one."""
        self._add(body, b"")

    def hash_at(self, sequence: int) -> bytes:
        """The hash of a record, 32 bytes; `LedgerError` for one that is not there."""
        if not 0 <= sequence < len(self):
            raise LedgerError(f"The ledger holds no record {sequence}.", _RESTORE)
        return self._heads[sequence][0]

    def apply(self, body: bytes, signature: bytes) -> None:
        """Add the record `body`, after all checks."""
        if not signature:
            raise LedgerError(
                f"Record {len(self)} of the ledger is damaged or was changed: its signature is "
                "missing.",
                _RESTORE,
                id=ErrorId.LEDGER_DAMAGED,
            )
        self._add(body, signature)

    def _add(self, body: bytes, signature: bytes) -> None:
        """Add a record; without a `signature`, the caller has one of a later record."""
        digest = hash_of(body)
        try:
            record = self._decoded(body, digest, signature)
            self._check(record)
            key = self._key(record.content)
            if (
                signature
                and not Head(self.ledger, record.sequence, digest, key, signature).is_signed()
            ):
                raise LedgerError("its signature is wrong.")
            self._story.take(record)
        except _Newer:
            raise
        except LedgerError as error:
            raise LedgerError(
                f"Record {len(self)} of the ledger is damaged or was changed: {error.message}",
                error.hint or _RESTORE,
                id=ErrorId.LEDGER_DAMAGED,
            ) from error
        self._heads.append((digest, signature))
        self.steps_back += record.time < self.time
        self.time = record.time

    def check_head(self, head: Head, *, origin: str) -> None:
        """Raise `LedgerError` unless `head` belongs to this chain; `origin` says who kept it."""
        head.verify()
        if (head.ledger, head.public_key) != (self.ledger, self.genesis.public_key):
            raise LedgerError(
                f"The head that {origin} ({head}) belongs to another ledger than this one, "
                f"{self.ledger.hex()[:8]}.",
                "Find the ledger that it belongs to; this one may have been put in its place.",
                id=ErrorId.LEDGER_FOREIGN,
            )
        if head.sequence >= len(self):
            raise LedgerError(
                f"The head that {origin} ({head}) is newer than this ledger, which ends at record "
                f"{len(self) - 1}: its newest records were cut off, or it is an older copy.",
                _RESTORE,
                id=ErrorId.LEDGER_OLDER,
            )
        if head.hash != self._heads[head.sequence][0]:
            raise LedgerError(
                f"The head that {origin} ({head}) is not part of this ledger: it went on from an "
                "older copy.",
                _RESTORE,
                id=ErrorId.LEDGER_OLDER,
            )

    def _decoded(self, body: bytes, digest: bytes, signature: bytes) -> Record:
        try:
            return decode(body)
        except LedgerError as error:
            if self._story.genesis is None:
                raise
            key = self._story.genesis.public_key
            if not Head(self.ledger, len(self), digest, key, signature).is_signed():
                raise LedgerError(error.message, _RESTORE) from error
            raise _Newer(
                f"Record {len(self)} of the ledger is signed and whole, and this craftsfl cannot "
                f"read it: a newer version wrote it. {error.message}",
                "Install the newest craftsfl that this site has used; nothing was changed.",
            ) from error

    def _check(self, record: Record) -> None:
        expected = self.next(record.content, record.time)
        if record.sequence != expected.sequence:
            raise LedgerError(f"it calls itself record {record.sequence}.")
        if record.ledger != expected.ledger:
            raise LedgerError("it belongs to another ledger.")
        if record.previous != expected.previous:
            raise LedgerError("it does not follow from the previous record.")
        if isinstance(record.content, Genesis) != (record.sequence == 0):
            raise LedgerError("a genesis record comes first, and nowhere else.")

    def _key(self, content: Content) -> bytes:
        return content.public_key if isinstance(content, Genesis) else self.genesis.public_key
