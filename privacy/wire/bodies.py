"""The bodies of all messages: frozen values with one fixed byte layout each (see `codec`).

Server to site: Hello. Site to server: SignedFacts, Running, Refusal. StartTraining is a part of
what begins an attempt (`privacy.wire.offer`). Fields are listed in the order of their bytes. What a
site sends is a function of public facts and noised results alone: no loss, no count of drawn
patients, no time, no free text.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

import numpy as np

from privacy.wire.codec import Reader, Vector, Writer, malformed
from privacy.wire.reasons import Reason

DIGEST_BYTES = 32
SIGNATURE_BYTES = 64  # Ed25519
MAX_NAME_BYTES = 32
_MASKED = 1  # a field of SiteFacts with one value
LARGEST_RUN = 2**32 - 1  # runs of a study are numbered from 1

ReleaseNumbers = tuple[int, int, int]  # major, minor, micro
SITE_NAME = r"^[a-z0-9][a-z0-9-]{0,31}$"  # as in `privacy.config`, which would import pydantic


class Kind(IntEnum):
    """The number of each body in the envelope. Numbers never change.

    4, 5 and 7 were those of updates without masks, and are never used again.
    """

    HELLO = 1
    SITE_FACTS = 2
    START_TRAINING = 3  # a part of TRAIN_MASKED; no site takes it by itself
    RUNNING = 6
    REFUSAL = 8
    SIGNED_FACTS = 9
    RUN_OVER = 11
    # Signatures of a roster: privacy/wire/signing.py
    ROSTER_SIGNATURE = 12
    ROSTER_SIGNATURES = 13
    # Secure aggregation: privacy/wire/secagg.py
    OFFER = 16
    ADVERTISE = 17
    ADVERTISEMENTS = 18
    SHARE_BUNDLE = 19
    DELIVER = 20
    MASKED_INPUT = 21
    SURVIVORS = 22
    CONSISTENCY = 23
    UNMASK_REQUEST = 24
    UNMASK = 25
    SECAGG_REFUSAL = 26
    TRAIN_MASKED = 27
    # Sealed steps: privacy/wire/sealed.py
    SESSION_OFFER = 32
    SESSION_KEY = 33
    SESSION_KEYS = 34
    SESSION_GROUP = 35
    STEP = 36
    SEALED = 37
    SEALED_READY = 38
    SEALED_COLLECT = 39
    SEALED_CLOSE = 40  # and what answers it: privacy/wire/closing.py
    SEALED_CONFIRMED = 41
    LOG_SHOWN = 42  # and what answers it: privacy/wire/log.py
    LOG_ANSWER = 43


class Body(ABC):
    """A message's contents. Two bodies are equal when their kinds and bytes are.

    `encode` and `decode` are inverses; both raise `RefusedMessage` for values that are not
    allowed, `decode` also for missing and trailing bytes.
    """

    __slots__ = ()
    KIND: ClassVar[Kind]

    @abstractmethod
    def _write(self, writer: Writer) -> None:
        """Append all fields."""

    @classmethod
    @abstractmethod
    def _read(cls, reader: Reader) -> Self:
        """Take all fields."""

    def encode(self) -> bytes:
        """The bytes that travel, and that signatures cover."""
        writer = Writer()
        self._write(writer)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The body whose bytes are `data`, all of them."""
        reader = Reader(data)
        body = cls._read(reader)
        reader.end()
        return body

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Body):
            return NotImplemented
        return self.KIND == other.KIND and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash((self.KIND, self.encode()))


@dataclass(frozen=True, slots=True, eq=False)
class Hello(Body):
    """The server asks a site who it is and whether it has the same study (32-byte digest).

    `node` is Flower's id of the node being asked: the site signs its answer for that node.
    `roster_digest` is that of the roster in force at the server.
    """

    KIND: ClassVar[Kind] = Kind.HELLO
    study_digest: bytes
    node: int = 0
    roster_digest: bytes = bytes(DIGEST_BYTES)

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.study_digest, DIGEST_BYTES).u64(self.node)
        writer.fixed(self.roster_digest, DIGEST_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            study_digest=reader.fixed(DIGEST_BYTES),
            node=reader.u64(),
            roster_digest=reader.fixed(DIGEST_BYTES),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SiteFacts(Body):
    """What a site says about itself: public facts only; epsilon may be +inf if no noise is added.

    `declared_patients` is the study's rounded constant, never the true count. Epsilon spent, its
    budget and `epsilon_schedule`, what all attempts of the study cost, are this study's alone:
    figures over all studies would tell of the others. `newest_run` is the largest number of a run
    of this study that the site has begun an attempt of, 0 for none. `release` is the version of
    craftsfl: three numbers, each u16.
    """

    KIND: ClassVar[Kind] = Kind.SITE_FACTS
    name: str
    declared_patients: int
    study_digest: bytes
    base_digest: bytes
    layout_fingerprint: bytes
    parameters: int
    epsilon_spent: float
    epsilon_budget: float
    delta: float
    roster_digest: bytes
    noise_multiplier: float
    epsilon_schedule: float
    newest_run: int
    release: ReleaseNumbers

    def __post_init__(self) -> None:
        if not re.fullmatch(SITE_NAME, self.name):
            raise malformed("A site's name is not in the allowed form (a-z, 0-9, hyphens).")
        if len(self.release) != 3:
            raise malformed("A release has three numbers.")

    def _write(self, writer: Writer) -> None:
        writer.text(self.name, MAX_NAME_BYTES).u32(self.declared_patients)
        writer.fixed(self.study_digest, DIGEST_BYTES).fixed(self.base_digest, DIGEST_BYTES)
        writer.fixed(self.layout_fingerprint, DIGEST_BYTES).u32(self.parameters)
        writer.f64(self.epsilon_spent).f64(self.epsilon_budget).f64(self.delta)
        writer.u8(_MASKED).fixed(self.roster_digest, DIGEST_BYTES)
        writer.f64(self.noise_multiplier).f64(self.epsilon_schedule).u32(self.newest_run)
        for number in self.release:
            writer.u16(number)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            name=reader.text(MAX_NAME_BYTES),
            declared_patients=reader.u32(),
            study_digest=reader.fixed(DIGEST_BYTES),
            base_digest=reader.fixed(DIGEST_BYTES),
            layout_fingerprint=reader.fixed(DIGEST_BYTES),
            parameters=reader.u32(),
            epsilon_spent=reader.f64(),
            epsilon_budget=reader.f64(),
            delta=reader.f64(),
            roster_digest=_masked(reader).fixed(DIGEST_BYTES),
            noise_multiplier=reader.f64(),
            epsilon_schedule=reader.f64(),
            newest_run=reader.u32(),
            release=(reader.u16(), reader.u16(), reader.u16()),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SignedFacts(Body):
    """SiteFacts with the signature of the site's identity, 64 bytes, over run, node and facts.

    `privacy.secagg.transcript.site_facts` says what exactly is signed. SiteFacts are never sent
    unsigned.
    """

    KIND: ClassVar[Kind] = Kind.SIGNED_FACTS
    facts: SiteFacts
    signature: bytes

    def _write(self, writer: Writer) -> None:
        self.facts._write(writer)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(SiteFacts._read(reader), reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class StartTraining(Body):
    """Train one round from `adapter`, float32 [P], finite."""

    KIND: ClassVar[Kind] = Kind.START_TRAINING
    study_digest: bytes
    layout_fingerprint: bytes
    adapter: Vector

    def __post_init__(self) -> None:
        _check_vector(self.adapter)

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.study_digest, DIGEST_BYTES).fixed(self.layout_fingerprint, DIGEST_BYTES)
        writer.vector(self.adapter)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.fixed(DIGEST_BYTES), reader.fixed(DIGEST_BYTES), reader.vector())


class _Empty(Body):
    """A message without fields."""

    __slots__ = ()

    def _write(self, writer: Writer) -> None:
        pass

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls()


@dataclass(frozen=True, slots=True, eq=False)
class Running(_Empty):
    """There is nothing to collect yet.

    It does not say how far training is: the pace would reveal how many patients were drawn.
    """

    KIND: ClassVar[Kind] = Kind.RUNNING


@dataclass(frozen=True, slots=True, eq=False)
class RunOver(_Empty):
    """The coordinator asks for nothing more in this run; a site says the same back.

    A site ends what is under way in it, as it does for a newer attempt: what has not left does not
    leave any more, and what was charged stays charged. It takes nothing on trust, and costs nothing
    that silence would not.
    """

    KIND: ClassVar[Kind] = Kind.RUN_OVER


@dataclass(frozen=True, slots=True, eq=False)
class Refusal(Body):
    """A refusal and its reason.

    The epsilons are this study's alone, and 0 unless it is BUDGET or CANNOT_FINISH; then `would_be`
    is what the attempt, or all attempts, would make of it. `newest_run` is the newest of the study
    that the site knows, and 0 unless it is OLDER_RUN, RUN_OPEN or RUN_TOO_FAR; where it is
    MISSING_SUMS, it is how many steps of the run the site knows the opened sums of.
    """

    KIND: ClassVar[Kind] = Kind.REFUSAL
    reason: Reason
    spent: float = 0.0
    would_be: float = 0.0
    budget: float = 0.0
    newest_run: int = 0

    def _write(self, writer: Writer) -> None:
        writer.u8(self.reason).f64(self.spent).f64(self.would_be).f64(self.budget)
        writer.u32(self.newest_run)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        reason = _reason(reader.u8())
        return cls(reason, reader.f64(), reader.f64(), reader.f64(), reader.u32())


BODIES: dict[int, type[Body]] = {
    body.KIND: body
    for body in (Hello, SiteFacts, StartTraining, Running, Refusal, SignedFacts, RunOver)
}


def _check_vector(values: Vector) -> None:
    if values.ndim != 1 or values.dtype != np.float32:
        raise malformed("An adapter is not a flat float32 vector.")
    if not np.isfinite(values).all():
        raise malformed("An adapter has values that are not finite.")


def _masked(reader: Reader) -> Reader:
    """Read past the byte that once said whether a site masks its updates."""
    if reader.u8() != _MASKED:
        raise malformed("A site that does not mask its updates cannot take part.")
    return reader


def _reason(value: int) -> Reason:
    try:
        return Reason(value)
    except ValueError:
        raise malformed("A refusal gives a reason that does not exist.") from None
