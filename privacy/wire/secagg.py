"""The bodies of secure aggregation, in the order in which they travel; layouts as in `bodies`.

Server to site: Offer or TrainMasked (`privacy.wire.offer`), Advertisements, Deliver, Survivors,
UnmaskRequest. Site to server: Advertise, ShareBundle, MaskedInput, Consistency, Unmask,
SecAggRefusal. Site ids are u16 from 1 on; every list of sites is strictly ascending, so that a
set has one encoding. Lanes are little-endian u64. What the fields mean: `privacy.secagg` and
docs/secure-aggregation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.wire.bodies import SIGNATURE_BYTES, Body, Kind
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.codec import Reader, Writer, malformed
from privacy.wire.offer import Offer, TrainMasked
from privacy.wire.sites import check_ids, read_ids, read_pairs, write_ids, write_pairs

Lanes: TypeAlias = NDArray[np.uint64]

KEY_BYTES = 32  # an X25519 key, and a commitment
SHARE_BYTES = 33  # an element of the field of 2**256 + 297, big-endian
SEALED_BYTES = 2 * SHARE_BYTES + 16  # two shares and the tag of AES-256-GCM
ADVERTISE_BYTES = 218
COORDINATOR = 0  # in place of a site's id: the server itself

_LANE = np.dtype("<u8")
_FRAME = 1024  # bytes: a generous bound on the fields of the envelope and of any body


@dataclass(frozen=True, slots=True, eq=False)
class Advertise(Body):
    """Exchange 0, up: 218 bytes. One site's keys for one attempt, signed by its identity.

    `share_key` (X25519) encrypts shares, `mask_key` (X25519) makes the pairs' masks,
    `commitment` fixes the seed b of the self mask, `ledger` is where the site's ledger stands once
    the attempt is journalled.
    """

    KIND: ClassVar[Kind] = Kind.ADVERTISE
    site: int
    share_key: bytes
    mask_key: bytes
    commitment: bytes
    ledger: Checkpoint
    signature: bytes

    def __post_init__(self) -> None:
        check_ids((self.site,))

    def signed_part(self) -> bytes:
        """The 154 bytes before the signature."""
        return self.encode()[:-SIGNATURE_BYTES]

    def _write(self, writer: Writer) -> None:
        writer.u16(self.site).fixed(self.share_key, KEY_BYTES).fixed(self.mask_key, KEY_BYTES)
        writer.fixed(self.commitment, KEY_BYTES)
        self.ledger.write(writer)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        site = reader.u16()
        share_key, mask_key, commitment = (reader.fixed(KEY_BYTES) for _ in range(3))
        ledger = Checkpoint.read(reader)
        return cls(site, share_key, mask_key, commitment, ledger, reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class Advertisements(Body):
    """Exchange 1, down: the advertisements of all sites that made one (U1), by ascending id."""

    KIND: ClassVar[Kind] = Kind.ADVERTISEMENTS
    entries: tuple[Advertise, ...]

    def __post_init__(self) -> None:
        check_ids([entry.site for entry in self.entries])

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
        check_ids([sender for sender, _ in self.shares])

    def _write(self, writer: Writer) -> None:
        write_pairs(writer, self.shares, SEALED_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(read_pairs(reader, SEALED_BYTES))


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
        check_ids(self.sites)

    def _write(self, writer: Writer) -> None:
        write_ids(writer, self.sites)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(read_ids(reader))


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
        check_ids([site for site, _ in self.signatures])

    def _write(self, writer: Writer) -> None:
        write_pairs(writer, self.signatures, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(read_pairs(reader, SIGNATURE_BYTES))


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
    """A refusal: the check that failed, and the site it failed for (COORDINATOR: the server)."""

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


def masked_size_limit(sites: int, lanes: int, parameters: int) -> int:
    """The most bytes that any envelope of secure aggregation may have in a cohort of `sites`."""
    largest = max(ADVERTISE_BYTES * sites, 8 * lanes, 4 * parameters + 2 * sites)
    return largest + _FRAME


def _check(value: int) -> Check:
    try:
        return Check(value)
    except ValueError:
        raise malformed("A refusal names a check that does not exist.") from None
