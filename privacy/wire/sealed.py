"""The bodies of sealed steps, in the order in which they travel; layouts as in `bodies`.

Server to site: SealedStep, SealedCollect. Site to server: Sealed, SealedReady; `Running` and
SecAggRefusal as elsewhere. What comes before: `privacy.wire.session`. Lists of sites are strictly
ascending; lanes are little-endian u64. `head`, `checkpoint` and `cosignature` are of the
consortium's log (`privacy.log.news`): signed, at most `MAX_LOG_BYTES` each, and empty where there
is none. What the fields mean: `privacy.secagg.sealed` and docs/secure-aggregation.md.
"""

# Why: docs/adr/0040-sealed-steps.md

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

import numpy as np

from privacy.wire.bodies import DIGEST_BYTES, SIGNATURE_BYTES, Body, Kind
from privacy.wire.codec import Reader, Writer, malformed
from privacy.wire.log import MAX_LOG_BYTES, LogFields, read_log_fields, write_log_fields
from privacy.wire.secagg import KEY_BYTES, Lanes, lane_bytes
from privacy.wire.session import (
    BOX_BYTES,
    SESSION_KEY_BYTES,
    SessionGroup,
    SessionKey,
    SessionKeys,
    SessionOffer,
    SessionOpening,
)
from privacy.wire.sites import check_ids, read_ids, read_pairs, write_ids, write_pairs

CHECK_BYTES: Final = 8
PROOF_LANES: Final = 3  # behind the packed vector: one that is 0, and two of the MAC

_LANE = np.dtype("<u8")
_FRAME = 2048 + 3 * MAX_LOG_BYTES  # bytes: all of an envelope and a body but keys and lanes
_COMMITMENT_BYTES = DIGEST_BYTES + SIGNATURE_BYTES


class StepForm(IntEnum):
    """How the vectors of a step are collected. Numbers never change."""

    DIRECT = 0  # at the slot the answer to SealedStep is Sealed
    READY = 1  # at the slot it is SealedReady; SealedCollect with everybody's asks for Sealed


@dataclass(frozen=True, slots=True, eq=False)
class OpenedSum:
    """The sum of one step as it was opened: lanes uint64 [L + 3], of `cohort` under `label`.

    `session`, `step` and `attempt` say when. Equal when all bytes are.
    """

    session: int
    step: int
    attempt: int
    label: bytes
    cohort: tuple[int, ...]
    lanes: Lanes

    def __post_init__(self) -> None:
        check_ids(self.cohort)
        if self.lanes.ndim != 1 or self.lanes.dtype != np.uint64 or len(self.lanes) <= PROOF_LANES:
            raise malformed("An opened sum is not a flat uint64 vector with its proof.")

    @property
    def packed(self) -> Lanes:
        """The packed sum alone, uint64 [L]."""
        return self.lanes[:-PROOF_LANES]

    def encode(self) -> bytes:
        """The one byte string of this sum, for files and digests."""
        writer = Writer()
        self.write(writer)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The reverse of `encode`; `RefusedMessage` for anything else."""
        reader = Reader(data)
        opened = cls.read(reader)
        reader.end()
        return opened

    def digest(self) -> bytes:
        """SHA-256 of these bytes: what the consortium's log holds of a sum."""
        return hashlib.sha256(self.encode()).digest()

    def write(self, writer: Writer) -> None:
        """Append all fields."""
        writer.u32(self.session).u32(self.step).u32(self.attempt).fixed(self.label, DIGEST_BYTES)
        write_ids(writer, self.cohort)
        _write_lanes(writer, self.lanes)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Take all fields."""
        session, step, attempt = reader.u32(), reader.u32(), reader.u32()
        return cls(
            session,
            step,
            attempt,
            reader.fixed(DIGEST_BYTES),
            read_ids(reader),
            _read_lanes(reader),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpenedSum) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())


@dataclass(frozen=True, slots=True, eq=False)
class SealedStep(Body):
    """Down: one attempt at one step. The coordinator's signature covers all before it.

    `session_digest` is sd; `slot` is when the answer is due, in Unix milliseconds; `adapter`,
    `state` and `sums` are the digests of the adapter, of the optimiser's state and of the chain of
    opened sums before this step; `label` is what the coordinator's own label is. Behind the
    signature: the session's opening, and the sums that this site may not know yet. They
    are proven by the sites' signatures, by the label and by the MAC, and may differ from
    site to site.
    """

    KIND: ClassVar[Kind] = Kind.STEP
    session_digest: bytes
    step: int
    attempt: int
    form: StepForm
    slot: int
    adapter: bytes
    state: bytes
    sums: bytes
    cohort: tuple[int, ...]
    label: bytes
    head: bytes = b""
    checkpoint: bytes = b""
    cosignature: bytes = b""
    signature: bytes = bytes(SIGNATURE_BYTES)
    opening: SessionOpening | None = None
    opened: tuple[OpenedSum, ...] = ()

    def __post_init__(self) -> None:
        check_ids(self.cohort)

    @property
    def log(self) -> LogFields:
        """What it says of the consortium's log."""
        return LogFields(self.head, self.checkpoint, self.cosignature)

    def signed_part(self) -> bytes:
        """All bytes that the coordinator signs; two Steps with the same ones are one request."""
        writer = Writer()
        self._write_signed(writer)
        return writer.done()

    def _write_signed(self, writer: Writer) -> None:
        writer.fixed(self.session_digest, DIGEST_BYTES).u32(self.step).u32(self.attempt)
        writer.u8(self.form).u64(self.slot)
        for digest in (self.adapter, self.state, self.sums):
            writer.fixed(digest, DIGEST_BYTES)
        write_ids(writer, self.cohort)
        writer.fixed(self.label, DIGEST_BYTES)
        write_log_fields(writer, self.log)

    def _write(self, writer: Writer) -> None:
        self._write_signed(writer)
        writer.fixed(self.signature, SIGNATURE_BYTES)
        writer.u8(self.opening is not None)
        if self.opening is not None:
            self.opening.write(writer)
        writer.u16(len(self.opened))
        for opened in self.opened:
            opened.write(writer)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            session_digest=reader.fixed(DIGEST_BYTES),
            step=reader.u32(),
            attempt=reader.u32(),
            form=_form(reader.u8()),
            slot=reader.u64(),
            adapter=reader.fixed(DIGEST_BYTES),
            state=reader.fixed(DIGEST_BYTES),
            sums=reader.fixed(DIGEST_BYTES),
            cohort=read_ids(reader),
            label=reader.fixed(DIGEST_BYTES),
            **_read_log(reader),
            signature=reader.fixed(SIGNATURE_BYTES),
            opening=SessionOpening.read(reader) if _flag(reader.u8()) else None,
            opened=tuple(OpenedSum.read(reader) for _ in range(reader.u16())),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Sealed(Body):
    """Up, at the slot: the masked lanes, uint64 [L + 3], under `label`.

    `checks` has 8 bytes for every other site of the cohort, by ascending id; `nonce` opens the
    commitment of a SealedReady, and is zero where there was none.
    """

    KIND: ClassVar[Kind] = Kind.SEALED
    label: bytes
    lanes: Lanes
    checks: tuple[bytes, ...]
    nonce: bytes
    head: bytes = b""
    checkpoint: bytes = b""
    cosignature: bytes = b""
    signature: bytes = bytes(SIGNATURE_BYTES)

    def __post_init__(self) -> None:
        if self.lanes.ndim != 1 or self.lanes.dtype != np.uint64:
            raise malformed("Masked lanes are not a flat uint64 vector.")

    @property
    def log(self) -> LogFields:
        """What it says of the site's ledger and of the consortium's log."""
        return LogFields(self.head, self.checkpoint, self.cosignature)

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.label, DIGEST_BYTES)
        _write_lanes(writer, self.lanes)
        writer.u16(len(self.checks))
        for check in self.checks:
            writer.fixed(check, CHECK_BYTES)
        writer.fixed(self.nonce, KEY_BYTES)
        write_log_fields(writer, self.log)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            label=reader.fixed(DIGEST_BYTES),
            lanes=_read_lanes(reader),
            checks=_read_checks(reader),
            nonce=reader.fixed(KEY_BYTES),
            **_read_log(reader),
            signature=reader.fixed(SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SealedReady(Body):
    """Up, at the slot of a step in the form READY: a signed commitment to the masked lanes."""

    KIND: ClassVar[Kind] = Kind.SEALED_READY
    label: bytes
    commitment: bytes
    signature: bytes

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.label, DIGEST_BYTES).fixed(self.commitment, DIGEST_BYTES)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        label, commitment = reader.fixed(DIGEST_BYTES), reader.fixed(DIGEST_BYTES)
        return cls(label, commitment, reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class SealedCollect(Body):
    """Down: the commitments of the whole cohort with their signatures, by ascending site."""

    KIND: ClassVar[Kind] = Kind.SEALED_COLLECT
    label: bytes
    commitments: tuple[tuple[int, bytes], ...]  # (site, commitment 32 | signature 64)

    def __post_init__(self) -> None:
        check_ids([site for site, _ in self.commitments])

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.label, DIGEST_BYTES)
        write_pairs(writer, self.commitments, _COMMITMENT_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.fixed(DIGEST_BYTES), read_pairs(reader, _COMMITMENT_BYTES))


SEALED_BODIES: dict[int, type[Body]] = {
    body.KIND: body
    for body in (
        *(SessionOffer, SessionKey, SessionKeys, SessionGroup),
        *(SealedStep, Sealed, SealedReady, SealedCollect),
    )
}


def sealed_size_limit(sites: int, lanes: int, opened: int = 1) -> int:
    """The most bytes of any envelope of a session of `sites` with L = `lanes`, `opened` sums."""
    vector = 8 * (lanes + PROOF_LANES) + 2 * sites + 64
    keys = sites * (SESSION_KEY_BYTES + BOX_BYTES + _COMMITMENT_BYTES + CHECK_BYTES + 4)
    return max(1, opened) * vector + keys + _FRAME


def _write_lanes(writer: Writer, lanes: Lanes) -> None:
    writer.u32(lanes.size).fixed(lane_bytes(lanes), 8 * lanes.size)


def _read_lanes(reader: Reader) -> Lanes:
    return np.frombuffer(reader.fixed(8 * reader.u32()), dtype=_LANE)


def _read_checks(reader: Reader) -> tuple[bytes, ...]:
    data = reader.fixed(CHECK_BYTES * reader.u16())
    return tuple(data[at : at + CHECK_BYTES] for at in range(0, len(data), CHECK_BYTES))


def _read_log(reader: Reader) -> dict[str, bytes]:
    log = read_log_fields(reader)
    return {"head": log.head, "checkpoint": log.checkpoint, "cosignature": log.cosignature}


def _form(value: int) -> StepForm:
    try:
        return StepForm(value)
    except ValueError:
        raise malformed("A step names a form that does not exist.") from None


def _flag(value: int) -> bool:
    if value > 1:
        raise malformed("A flag of a message is neither 0 nor 1.")
    return bool(value)
