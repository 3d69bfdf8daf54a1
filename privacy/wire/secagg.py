"""The bodies of secure aggregation, in the order in which they travel; layouts as in `bodies`.

Server to site: TrainMasked (the Offer with the model to train), Offer, Advertisements, Deliver,
Survivors, UnmaskRequest. Site to server: Advertise, ShareBundle, MaskedInput, Consistency,
Unmask, SecAggRefusal. Site ids are u16 from 1 on; every list of sites is strictly ascending, so
that a set has one encoding. Lanes are little-endian u64. What the fields mean: docs/secure-
aggregation.md and `privacy.secagg`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.wire.bodies import DIGEST_BYTES, Body, Kind, StartTraining
from privacy.wire.checks import Check
from privacy.wire.codec import Reader, Writer, malformed

Lanes: TypeAlias = NDArray[np.uint64]

VERSION = 1
KEY_BYTES = 32  # an X25519 key, and a commitment
SIGNATURE_BYTES = 64  # Ed25519
SHARE_BYTES = 33  # an element of the field of 2**256 + 297, big-endian
SEALED_BYTES = 82  # two shares and the tag of AES-256-GCM
ADVERTISE_BYTES = 162
MAX_SITES = 1000
COORDINATOR = 0  # in place of a site's id: the server itself

_LANE = np.dtype("<u8")
_FRAME = 1024  # bytes: the envelope's and every body's own fields, generously


class Mechanism(IntEnum):
    """Who adds the noise. Numbers never change."""

    PLAIN = 0  # nobody: the sum itself is published
    LOCAL = 1  # every site, enough for its own patients
    POOLED = 2  # every site a share


@dataclass(frozen=True, slots=True)
class Terms:
    """What a study fixes for all of its rounds: the recipe (its digest) and what follows from it.

    `dimension` is the number of values of an update, `bits` the width of a packed field, `bound`
    the largest magnitude of a coordinate (B, not the clip), `clipping_norm` the L2 bound of one
    patient (C), `weight_cap` the largest weight of a site, `noise_multiplier` sigma over C.
    """

    recipe_digest: bytes
    dimension: int
    bits: int
    bound: float
    clipping_norm: float
    weight_cap: float
    mechanism: Mechanism
    noise_multiplier: float

    def __post_init__(self) -> None:
        if not (self.dimension >= 1 and 2 <= self.bits <= 32):
            raise malformed("An offer's dimension or bits are out of range.")
        for value in (self.bound, self.clipping_norm, self.weight_cap):
            if not (math.isfinite(value) and value > 0):
                raise malformed("A bound of an offer is not a positive number.")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise malformed("An offer's noise multiplier is negative or infinite.")
        if (self.mechanism is Mechanism.PLAIN) != (self.noise_multiplier == 0):
            raise malformed("An offer's noise contradicts its mechanism.")

    def write(self, writer: Writer) -> None:
        """Append all fields."""
        writer.fixed(self.recipe_digest, DIGEST_BYTES).u32(self.dimension).u8(self.bits)
        writer.f64(self.bound).f64(self.clipping_norm).f64(self.weight_cap)
        writer.u8(self.mechanism).f64(self.noise_multiplier)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Take all fields."""
        return cls(
            recipe_digest=reader.fixed(DIGEST_BYTES),
            dimension=reader.u32(),
            bits=reader.u8(),
            bound=reader.f64(),
            clipping_norm=reader.f64(),
            weight_cap=reader.f64(),
            mechanism=_mechanism(reader.u8()),
            noise_multiplier=reader.f64(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Offer(Body):
    """Exchange 0, down: the attempt that is offered. `od` is the digest of exactly these bytes.

    `cohort` is a strictly ascending tuple of site ids, `threshold` is t, `expiry` is in Unix
    seconds: after it no site takes a further message of this attempt.
    """

    KIND: ClassVar[Kind] = Kind.OFFER
    version: int
    run: int
    round: int
    attempt: int
    roster_digest: bytes
    model_digest: bytes
    terms: Terms
    threshold: int
    expiry: int
    cohort: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_ids(self.cohort)

    def _write(self, writer: Writer) -> None:
        writer.u16(self.version).u64(self.run).u32(self.round).u32(self.attempt)
        writer.fixed(self.roster_digest, DIGEST_BYTES).fixed(self.model_digest, DIGEST_BYTES)
        self.terms.write(writer)
        writer.u16(self.threshold).u64(self.expiry)
        _write_ids(writer, self.cohort)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            version=reader.u16(),
            run=reader.u64(),
            round=reader.u32(),
            attempt=reader.u32(),
            roster_digest=reader.fixed(DIGEST_BYTES),
            model_digest=reader.fixed(DIGEST_BYTES),
            terms=Terms.read(reader),
            threshold=reader.u16(),
            expiry=reader.u64(),
            cohort=_read_ids(reader),
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrainMasked(Body):
    """Exchange 0 with the round's model in one message: an offer, and what to train from.

    The answer is the Advertise; it says that training has begun, too.
    """

    KIND: ClassVar[Kind] = Kind.TRAIN_MASKED
    offer: Offer
    start: StartTraining

    def _write(self, writer: Writer) -> None:
        self.offer._write(writer)
        self.start._write(writer)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(Offer._read(reader), StartTraining._read(reader))


@dataclass(frozen=True, slots=True, eq=False)
class Advertise(Body):
    """Exchange 0, up: 162 bytes. One site's keys for one attempt, signed by its identity.

    `share_key` (X25519) encrypts shares, `mask_key` (X25519) makes the pairs' masks,
    `commitment` fixes the seed b of the self mask.
    """

    KIND: ClassVar[Kind] = Kind.ADVERTISE
    site: int
    share_key: bytes
    mask_key: bytes
    commitment: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_ids((self.site,))

    def signed_part(self) -> bytes:
        """The 98 bytes before the signature."""
        return self.encode()[:-SIGNATURE_BYTES]

    def _write(self, writer: Writer) -> None:
        writer.u16(self.site).fixed(self.share_key, KEY_BYTES).fixed(self.mask_key, KEY_BYTES)
        writer.fixed(self.commitment, KEY_BYTES).fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        site = reader.u16()
        keys = [reader.fixed(KEY_BYTES) for _ in range(3)]
        return cls(site, *keys, signature=reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class Advertisements(Body):
    """Exchange 1, down: the advertisements of all sites that made one (U1), by ascending id."""

    KIND: ClassVar[Kind] = Kind.ADVERTISEMENTS
    entries: tuple[Advertise, ...]

    def __post_init__(self) -> None:
        _check_ids([entry.site for entry in self.entries])

    def _write(self, writer: Writer) -> None:
        writer.u16(len(self.entries))
        for entry in self.entries:
            entry._write(writer)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(tuple(Advertise._read(reader) for _ in range(reader.u16())))


@dataclass(frozen=True, slots=True, eq=False)
class ShareBundle(Body):
    """Exchange 1, up: 82 sealed bytes for every other site of U1, by ascending id of the peer."""

    KIND: ClassVar[Kind] = Kind.SHARE_BUNDLE
    sealed: tuple[bytes, ...]

    def _write(self, writer: Writer) -> None:
        writer.u16(len(self.sealed))
        for sealed in self.sealed:
            writer.fixed(sealed, SEALED_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(tuple(reader.fixed(SEALED_BYTES) for _ in range(reader.u16())))


@dataclass(frozen=True, slots=True, eq=False)
class Deliver(Body):
    """Exchange 2, down: the shares addressed to the receiver, one from each other site of U2.

    Answered with `Running` until training has ended, then with the MaskedInput.
    """

    KIND: ClassVar[Kind] = Kind.DELIVER
    shares: tuple[tuple[int, bytes], ...]  # (sender, sealed), ascending

    def __post_init__(self) -> None:
        _check_ids([sender for sender, _ in self.shares])

    def _write(self, writer: Writer) -> None:
        _write_pairs(writer, self.shares, SEALED_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(_read_pairs(reader, SEALED_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class MaskedInput(Body):
    """Exchange 2, up: the masked lanes, uint64 [L], and the site's signature."""

    KIND: ClassVar[Kind] = Kind.MASKED_INPUT
    lanes: Lanes
    signature: bytes

    def __post_init__(self) -> None:
        if self.lanes.ndim != 1 or self.lanes.dtype != np.uint64:
            raise malformed("Masked lanes are not a flat uint64 vector.")

    def _write(self, writer: Writer) -> None:
        writer.u32(self.lanes.size).fixed(lane_bytes(self.lanes), 8 * self.lanes.size)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        lanes = np.frombuffer(reader.fixed(8 * reader.u32()), dtype=_LANE)
        return cls(lanes, reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class Survivors(Body):
    """Exchange 3, down: U3, the sites whose masked input arrived, ascending."""

    KIND: ClassVar[Kind] = Kind.SURVIVORS
    sites: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_ids(self.sites)

    def _write(self, writer: Writer) -> None:
        _write_ids(writer, self.sites)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(_read_ids(reader))


@dataclass(frozen=True, slots=True, eq=False)
class Consistency(Body):
    """Exchange 3, up: the site's signature over the sets U2 and U3 that it was shown."""

    KIND: ClassVar[Kind] = Kind.CONSISTENCY
    signature: bytes

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class UnmaskRequest(Body):
    """Exchange 4, down: at least t consistency signatures, by ascending id of the signer."""

    KIND: ClassVar[Kind] = Kind.UNMASK_REQUEST
    signatures: tuple[tuple[int, bytes], ...]  # (site, signature)

    def __post_init__(self) -> None:
        _check_ids([site for site, _ in self.signatures])

    def _write(self, writer: Writer) -> None:
        _write_pairs(writer, self.signatures, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(_read_pairs(reader, SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class Unmask(Body):
    """Exchange 4, up: one share for every member of U2, by ascending id.

    A share of the self mask's seed where the member is in U3, else one of its mask key.
    """

    KIND: ClassVar[Kind] = Kind.UNMASK
    shares: tuple[bytes, ...]

    def _write(self, writer: Writer) -> None:
        writer.u16(len(self.shares))
        for share in self.shares:
            writer.fixed(share, SHARE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(tuple(reader.fixed(SHARE_BYTES) for _ in range(reader.u16())))


@dataclass(frozen=True, slots=True, eq=False)
class SecAggRefusal(Body):
    """No: the check that failed, and the site that it failed for (COORDINATOR: the server)."""

    KIND: ClassVar[Kind] = Kind.SECAGG_REFUSAL
    check: Check
    site: int

    def _write(self, writer: Writer) -> None:
        writer.u8(self.check).u16(self.site)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(_check(reader.u8()), reader.u16())


SECAGG_BODIES: dict[int, type[Body]] = {
    body.KIND: body
    for body in (
        *(Offer, TrainMasked, Advertise, Advertisements, ShareBundle, Deliver, MaskedInput),
        *(Survivors, Consistency, UnmaskRequest, Unmask, SecAggRefusal),
    )
}


def lane_bytes(lanes: Lanes) -> bytes:
    """The bytes of uint64 lanes as they travel and are signed."""
    return lanes.astype(_LANE, copy=False).tobytes()


def size_limit(sites: int, lanes: int, parameters: int) -> int:
    """The most bytes that any envelope of secure aggregation may have in a cohort of `sites`."""
    largest = max(ADVERTISE_BYTES * sites, 8 * lanes, 4 * parameters + 2 * sites)
    return largest + _FRAME


def _check_ids(sites: Sequence[int]) -> None:
    ascending = all(first < second for first, second in pairwise(sites))
    if len(sites) > MAX_SITES or not ascending or any(not 1 <= s <= 0xFFFF for s in sites):
        raise malformed("A list of sites is too long, out of order or out of range.")


def _write_ids(writer: Writer, sites: tuple[int, ...]) -> None:
    writer.u16(len(sites))
    for site in sites:
        writer.u16(site)


def _read_ids(reader: Reader) -> tuple[int, ...]:
    return tuple(reader.u16() for _ in range(reader.u16()))


def _write_pairs(writer: Writer, pairs: tuple[tuple[int, bytes], ...], length: int) -> None:
    writer.u16(len(pairs))
    for site, data in pairs:
        writer.u16(site).fixed(data, length)


def _read_pairs(reader: Reader, length: int) -> tuple[tuple[int, bytes], ...]:
    return tuple((reader.u16(), reader.fixed(length)) for _ in range(reader.u16()))


def _mechanism(value: int) -> Mechanism:
    try:
        return Mechanism(value)
    except ValueError:
        raise malformed("An offer names a mechanism that does not exist.") from None


def _check(value: int) -> Check:
    try:
        return Check(value)
    except ValueError:
        raise malformed("A refusal names a check that does not exist.") from None
