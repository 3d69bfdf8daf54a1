"""The records of a ledger as bytes: one byte string for each record, so it can be signed.

    version u8 (1) | kind u8 | ledger 16 | sequence u64 | previous 32 | time u64 | content

`previous` is the hash of the record before (zeros for the first), `time` counts microseconds
since 1970. A record's hash is SHA-256 over `_TAG` and these bytes. The content by kind:

    1 genesis  public key 32 | site, text of at most 64 bytes
    2 intent   run u64 | round u32 | attempt u32 | study digest 32 | delta f64 | event, text
    3 charge   sequence u64 of the intent that is charged
    4 bound    identity's public key 32 | its signature 64 (see `binding`) | replaced 56
    5 intent   as 2 | label 32 | session u64 | sites u16 | each of their ids, u16: of a sealed step
    6 sent     sequence u64 of the intent | SHA-256 32 of the masked vector that is about to leave
    7 session  study digest 32 | run u64 | number u64 | session digest 32
    8 tried    passed u8 | known u8 | deviation u64 | draws u32 | variance, shared, fit, f64 each

Integers and floats are big-endian; a text is its length (u16) and UTF-8; an event is the
canonical JSON of `privacy.events`. A record's meaning never changes; a new record gets a new kind,
and so does every new event. A reader that meets an unknown kind refuses the whole ledger
(`Chain.apply`): skipping a record could mean skipping a charge.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from privacy.errors import AccountingError, LedgerError
from privacy.events import Event
from privacy.ledger.attempts import AttemptKey, Charge, StepMark
from privacy.mechanisms.registry import event_from_json
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.codec import Reader, Writer, malformed
from privacy.wire.reasons import RefusedMessage
from privacy.wire.sites import check_ids, read_ids, write_ids

_TAG: Final = b"craftsfl/ledger/record/v1\0"
VERSION: Final = 1
NO_PREVIOUS: Final = bytes(32)
NO_LEDGER: Final = Checkpoint(bytes(16), 0, bytes(32))
_GENESIS, _INTENT, _CHARGE, _BOUND, _LABELLED, _SENT, _SESSION, _TRIED = range(1, 9)
_LONGEST_SITE: Final = 64
_LONGEST_EVENT: Final = 4096


@dataclass(frozen=True, slots=True)
class Genesis:
    """The first record: whose ledger this is."""

    public_key: bytes  # Ed25519, 32 bytes
    site: str


@dataclass(frozen=True, slots=True)
class Intent:
    """Work on an attempt is about to begin, at this price if anything of it may leave.

    Of a sealed step, `mark` says for which one: nothing else may be masked for the attempt.
    """

    key: AttemptKey
    charge: Charge
    mark: StepMark | None = None

    def __post_init__(self) -> None:
        if self.key.study != self.charge.study_digest:
            raise LedgerError(
                "An attempt of one study cannot be charged to another.",
                "Nothing was recorded; install the same craftsfl version everywhere.",
            )


@dataclass(frozen=True, slots=True)
class Charged:
    """Something of an attempt may have left."""

    intent: int  # sequence of its intent


@dataclass(frozen=True, slots=True)
class Bound:
    """The site's identity, the one that the roster lists, signs for this ledger."""

    identity: bytes  # Ed25519, 32 bytes: the public half of site.key
    signature: bytes  # 64 bytes, see `privacy.ledger.binding`
    replaced: Checkpoint = NO_LEDGER  # of the lost ledger that this one replaces


@dataclass(frozen=True, slots=True)
class Sent:
    """This vector of a charged attempt is about to leave, and no other ever will."""

    intent: int  # sequence of its intent
    digest: bytes  # 32 bytes: SHA-256 of its masked lanes


@dataclass(frozen=True, slots=True)
class SessionBegun:
    """A key for the sealed steps of a session is about to leave; only for this one from now on."""

    study: bytes  # digest, 32 bytes
    run: int
    number: int  # above those of all earlier sessions of the study
    digest: bytes  # 32 bytes, of all that the session is about


@dataclass(frozen=True, slots=True)
class GeneratorTried:
    """What an agent's start has found of its generator of noise (`discrete_gaussian.trial`).

    `passed` is the agent's own word. A figure that is no number stands as infinite.
    """

    passed: bool
    known: bool  # the known answers
    deviation: int  # s, in 2^-16 grid units
    draws: int
    variance: float  # over s^2
    shared: float  # standard errors, like the next
    fit: float


Content = Genesis | Intent | Charged | Bound | Sent | SessionBegun | GeneratorTried


@dataclass(frozen=True, slots=True)
class Record:
    """One record."""

    ledger: bytes  # 16 random bytes, the same in all records
    sequence: int
    previous: bytes  # 32 bytes
    time: int  # microseconds since 1970
    content: Content

    def encode(self) -> bytes:
        """The record's bytes; raises `LedgerError` if a value does not fit."""
        writer = Writer()
        try:
            writer.u8(VERSION).u8(_kind(self.content)).fixed(self.ledger, 16).u64(self.sequence)
            writer.fixed(self.previous, 32).u64(self.time)
            _write(writer, self.content)
            return writer.done()
        except RefusedMessage as error:
            raise LedgerError(f"A ledger record cannot be written. {error.message}") from error


def decode(data: bytes) -> Record:
    """The inverse of `Record.encode`; raises `LedgerError` for anything else."""
    reader = Reader(data)
    try:
        version, kind = reader.u8(), reader.u8()
        if version > VERSION:
            raise LedgerError(
                f"A ledger record of version {version}; this craftsfl reads version {VERSION}.",
                "Install a newer craftsfl.",
            )
        if version < VERSION:
            raise malformed("There is no version 0.")
        head = (reader.fixed(16), reader.u64(), reader.fixed(32), reader.u64())
        record = Record(*head, _read(reader, kind))
        reader.end()
    except (RefusedMessage, AccountingError) as error:
        raise LedgerError("It is not a record of this version.") from error
    return record


def hash_of(data: bytes) -> bytes:
    """SHA-256 (32 bytes) of a record's bytes."""
    return hashlib.sha256(_TAG + data).digest()


def _kind(content: Content) -> int:
    if isinstance(content, Genesis):
        return _GENESIS
    if isinstance(content, Bound):
        return _BOUND
    if isinstance(content, Sent):
        return _SENT
    if isinstance(content, SessionBegun):
        return _SESSION
    if isinstance(content, GeneratorTried):
        return _TRIED
    if isinstance(content, Intent):
        return _INTENT if content.mark is None else _LABELLED
    return _CHARGE


def _write(writer: Writer, content: Content) -> None:
    if isinstance(content, Genesis):
        writer.fixed(content.public_key, 32).text(content.site, _LONGEST_SITE)
    elif isinstance(content, Intent):
        key, charge = content.key, content.charge
        writer.u64(key.run).u32(key.round).u32(key.attempt)
        writer.fixed(charge.study_digest, 32).f64(charge.delta)
        writer.text(charge.event.to_json(), _LONGEST_EVENT)
        if content.mark is not None:
            check_ids(content.mark.cohort)
            writer.fixed(content.mark.label, 32).u64(content.mark.session)
            write_ids(writer, content.mark.cohort)
    elif isinstance(content, Bound):
        writer.fixed(content.identity, 32).fixed(content.signature, 64)
        content.replaced.write(writer)
    elif isinstance(content, Sent):
        writer.u64(content.intent).fixed(content.digest, 32)
    elif isinstance(content, SessionBegun):
        writer.fixed(content.study, 32).u64(content.run).u64(content.number)
        writer.fixed(content.digest, 32)
    elif isinstance(content, GeneratorTried):
        writer.u8(content.passed).u8(content.known).u64(content.deviation).u32(content.draws)
        writer.f64(content.variance).f64(content.shared).f64(content.fit)
    else:
        writer.u64(content.intent)


def _read(reader: Reader, kind: int) -> Content:
    if kind == _GENESIS:
        return Genesis(reader.fixed(32), reader.text(_LONGEST_SITE))
    if kind in (_INTENT, _LABELLED):
        numbers = (reader.u64(), reader.u32(), reader.u32())
        study, delta = reader.fixed(32), reader.f64()
        charge = Charge(study, _event(reader.text(_LONGEST_EVENT)), delta)
        mark = _mark(reader) if kind == _LABELLED else None
        return Intent(AttemptKey(study, *numbers), charge, mark)
    if kind == _CHARGE:
        return Charged(reader.u64())
    if kind == _BOUND:
        return Bound(reader.fixed(32), reader.fixed(64), Checkpoint.read(reader))
    if kind == _SENT:
        return Sent(reader.u64(), reader.fixed(32))
    if kind == _SESSION:
        return SessionBegun(reader.fixed(32), reader.u64(), reader.u64(), reader.fixed(32))
    if kind == _TRIED:
        return _tried(reader)
    raise LedgerError(f"A ledger record of the unknown kind {kind}.", "Install a newer craftsfl.")


def _tried(reader: Reader) -> GeneratorTried:
    flags = reader.u8(), reader.u8()
    if not {*flags} <= {0, 1}:
        raise malformed("A flag is neither 0 nor 1.")
    numbers = reader.u64(), reader.u32()
    return GeneratorTried(
        bool(flags[0]), bool(flags[1]), *numbers, reader.f64(), reader.f64(), reader.f64()
    )


def _mark(reader: Reader) -> StepMark:
    mark = StepMark(reader.fixed(32), reader.u64(), read_ids(reader))
    check_ids(mark.cohort)
    return mark


@lru_cache(maxsize=256)  # a study has one event, repeated in every intent
def _event(text: str) -> Event:
    event = event_from_json(text)
    if event.to_json() != text:
        raise AccountingError("An event record is not in its canonical form.")
    return event
