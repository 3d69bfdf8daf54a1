"""The bodies that set up a session of sealed steps; layouts as in `bodies`.

Server to site: SessionOffer to all, SessionKeys to the dealer alone. Site to server: SessionKey,
SessionGroup of the dealer. Keys and group ride on the session's first `SealedStep` to everybody.
"""

# Why: docs/adr/0040-sealed-steps.md

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from privacy.wire.bodies import DIGEST_BYTES, SIGNATURE_BYTES, Body, Kind
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.codec import Reader, Writer, malformed
from privacy.wire.secagg import KEY_BYTES
from privacy.wire.sites import check_ids, read_ids, read_pairs, write_ids, write_pairs

SEALED_VERSION: Final = 1
SESSION_KEY_BYTES: Final = 154
BOX_BYTES: Final = 48  # the group's secret and the tag of AES-256-GCM


@dataclass(frozen=True, slots=True, eq=False)
class SessionOffer(Body):
    """Set-up, down: a session of the run, signed by the coordinator's key of the study.

    `session` counts the sessions of the study from 1. The session is for the steps `first` to
    `last` with up to `attempts` attempts each; `members` are the sites that are asked for a key;
    after `expiry` (Unix seconds) nothing of the session is answered. `terms_digest` is that of the
    study's pooled terms.
    """

    KIND: ClassVar[Kind] = Kind.SESSION_OFFER
    version: int
    run: int
    session: int
    first: int
    last: int
    attempts: int
    study_digest: bytes
    roster_digest: bytes
    terms_digest: bytes
    expiry: int
    members: tuple[int, ...]
    signature: bytes

    def __post_init__(self) -> None:
        check_ids(self.members)
        if not (1 <= self.first <= self.last and self.attempts >= 1):
            raise malformed("A session has no step, or no attempt at one.")

    @property
    def epochs(self) -> int:
        """E: how many attempts at steps the session can number."""
        return (self.last - self.first + 1) * self.attempts

    def signed_part(self) -> bytes:
        """All bytes before the signature."""
        return self.encode()[:-SIGNATURE_BYTES]

    def _write(self, writer: Writer) -> None:
        writer.u16(self.version).u64(self.run).u32(self.session)
        writer.u32(self.first).u32(self.last).u16(self.attempts)
        for digest in (self.study_digest, self.roster_digest, self.terms_digest):
            writer.fixed(digest, DIGEST_BYTES)
        writer.u64(self.expiry)
        write_ids(writer, self.members)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            version=reader.u16(),
            run=reader.u64(),
            session=reader.u32(),
            first=reader.u32(),
            last=reader.u32(),
            attempts=reader.u16(),
            study_digest=reader.fixed(DIGEST_BYTES),
            roster_digest=reader.fixed(DIGEST_BYTES),
            terms_digest=reader.fixed(DIGEST_BYTES),
            expiry=reader.u64(),
            members=read_ids(reader),
            signature=reader.fixed(SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SessionKey(Body):
    """Set-up, up: 154 bytes. A site's X25519 key for one session, signed by its identity.

    `ledger` is where the site's ledger stands once the session's number is journalled.
    """

    KIND: ClassVar[Kind] = Kind.SESSION_KEY
    site: int
    key: bytes
    ledger: Checkpoint
    signature: bytes

    def __post_init__(self) -> None:
        check_ids((self.site,))

    def signed_part(self) -> bytes:
        """The 90 bytes before the signature."""
        return self.encode()[:-SIGNATURE_BYTES]

    def _write(self, writer: Writer) -> None:
        writer.u16(self.site).fixed(self.key, KEY_BYTES)
        self.ledger.write(writer)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        site, key, ledger = reader.u16(), reader.fixed(KEY_BYTES), Checkpoint.read(reader)
        return cls(site, key, ledger, reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class SessionKeys(Body):
    """Set-up, down to the dealer, and in the first Step to all: the keys that came, one list."""

    KIND: ClassVar[Kind] = Kind.SESSION_KEYS
    entries: tuple[SessionKey, ...]

    def __post_init__(self) -> None:
        check_ids(self.sites)

    @property
    def sites(self) -> tuple[int, ...]:
        """Whose keys these are, ascending."""
        return tuple(entry.site for entry in self.entries)

    def _write(self, writer: Writer) -> None:
        writer.u16(len(self.entries))
        for entry in self.entries:
            entry._write(writer)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(tuple(SessionKey._read(reader) for _ in range(reader.u16())))


@dataclass(frozen=True, slots=True, eq=False)
class SessionGroup(Body):
    """Set-up, up from the dealer, and in the first Step to all: the group's secret, in boxes.

    `commitment` is a digest of the secret, so that a dealer cannot give two of them away; `boxes`
    has 48 bytes for every other site of the list, by ascending id.
    """

    KIND: ClassVar[Kind] = Kind.SESSION_GROUP
    dealer: int
    commitment: bytes
    boxes: tuple[tuple[int, bytes], ...]
    signature: bytes

    def __post_init__(self) -> None:
        check_ids((self.dealer,))
        check_ids([site for site, _ in self.boxes])

    def signed_part(self) -> bytes:
        """All bytes before the signature."""
        return self.encode()[:-SIGNATURE_BYTES]

    def _write(self, writer: Writer) -> None:
        writer.u16(self.dealer).fixed(self.commitment, DIGEST_BYTES)
        write_pairs(writer, self.boxes, BOX_BYTES)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        dealer, commitment = reader.u16(), reader.fixed(DIGEST_BYTES)
        boxes = read_pairs(reader, BOX_BYTES)
        return cls(dealer, commitment, boxes, reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class SessionOpening:
    """What a site needs of the others before its first step of a session."""

    keys: SessionKeys
    group: SessionGroup

    def write(self, writer: Writer) -> None:
        """Append all fields."""
        self.keys._write(writer)
        self.group._write(writer)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Take all fields."""
        return cls(SessionKeys._read(reader), SessionGroup._read(reader))
