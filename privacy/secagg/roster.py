"""The consortium's roster: which sites there are, with which keys; signed by its members.

The server has no part in it. A site pins a roster by its digest, which people compare by phone
(`privacy.identity.fingerprint`). Rules, each with a test:

- The first roster is signed by at least `quorum` of its own members.
- A successor names its predecessor's digest, has the next sequence number, keeps the consortium's
  name, and is signed by at least the predecessor's `quorum` of the predecessor's members: those
  who were there decide who joins and who leaves.
- A quorum is more than half of the members, so two successors of one roster can both be signed
  only if somebody signed both.
- Ids, names and keys are unique; a roster has one byte string, and that is what signatures cover.
  Signatures of strangers and bad signatures are refused, not skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

from privacy.errors import SecAggError
from privacy.identity import PUBLIC_BYTES, Identity, fingerprint, verify
from privacy.secagg import transcript
from privacy.wire.bodies import DIGEST_BYTES, MAX_NAME_BYTES, SIGNATURE_BYTES, SITE_NAME
from privacy.wire.codec import Reader, Writer
from privacy.wire.sites import MAX_SITES

_FORMAT: Final = 1
FIRST: Final = bytes(DIGEST_BYTES)  # the predecessor of a first roster
MAX_ORGANISATION_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Member:
    """A site: its id (1 to 65535), its name in studies, its Ed25519 key, who runs it."""

    site: int
    name: str
    public_key: bytes
    organisation: str


@dataclass(frozen=True, slots=True)
class Roster:
    """The members by ascending id; `sequence` counts rosters of the consortium from 1."""

    consortium: str
    sequence: int
    quorum: int
    predecessor: bytes
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        _check_members(self.members)
        if not re.fullmatch(SITE_NAME, self.consortium):
            raise _wrong("the consortium's name is not in the allowed form (a-z, 0-9, hyphens)")
        if not len(self.members) < 2 * self.quorum <= 2 * len(self.members):
            raise _wrong(
                f"the quorum {self.quorum} of {len(self.members)} is not more than half of them"
            )
        if len(self.predecessor) != DIGEST_BYTES or self.sequence < 1:
            raise _wrong("the predecessor's digest or the sequence is out of range")
        if (self.sequence == 1) != (self.predecessor == FIRST):
            raise _wrong("the first roster, and only it, has no predecessor")

    @property
    def sites(self) -> tuple[int, ...]:
        """All ids, ascending."""
        return tuple(member.site for member in self.members)

    def member(self, site: int) -> Member | None:
        """The member with this id."""
        return next((member for member in self.members if member.site == site), None)

    def member_named(self, name: str) -> Member | None:
        """The member with this name in studies."""
        return next((member for member in self.members if member.name == name), None)

    def site_of(self, public_key: bytes) -> int | None:
        """The id of the member with this key."""
        found = (member.site for member in self.members if member.public_key == public_key)
        return next(found, None)

    def digest(self) -> bytes:
        """32 bytes: what pins a roster, names it, and is signed."""
        return transcript.roster_digest(self.encode())

    def fingerprint(self) -> str:
        """The digest in digits, to be compared by phone."""
        return fingerprint(self.digest())

    def encode(self) -> bytes:
        """The one byte string of this roster."""
        writer = Writer()
        self.write(writer)
        return writer.done()

    def write(self, writer: Writer) -> None:
        """Append all fields."""
        writer.u16(_FORMAT).text(self.consortium, MAX_NAME_BYTES).u32(self.sequence)
        writer.u16(self.quorum).fixed(self.predecessor, DIGEST_BYTES).u16(len(self.members))
        for member in self.members:
            writer.u16(member.site).text(member.name, MAX_NAME_BYTES)
            writer.fixed(member.public_key, PUBLIC_BYTES)
            writer.text(member.organisation, MAX_ORGANISATION_BYTES)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Take all fields; `RefusedMessage` or `SecAggError` for anything but a roster."""
        if reader.u16() != _FORMAT:
            raise _wrong("it has another format; install the same craftsfl version everywhere")
        return cls(
            consortium=reader.text(MAX_NAME_BYTES),
            sequence=reader.u32(),
            quorum=reader.u16(),
            predecessor=reader.fixed(DIGEST_BYTES),
            members=tuple(_read_member(reader) for _ in range(reader.u16())),
        )


@dataclass(frozen=True, slots=True)
class SignedRoster:
    """A roster with the signatures it has so far: (public key, signature), ascending by key."""

    roster: Roster
    signatures: tuple[tuple[bytes, bytes], ...] = ()

    def encode(self) -> bytes:
        """What is passed around offline, from hand to hand."""
        writer = Writer()
        self.roster.write(writer)
        writer.u16(len(self.signatures))
        for key, signature in self.signatures:
            writer.fixed(key, PUBLIC_BYTES).fixed(signature, SIGNATURE_BYTES)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The roster in `data`, all of it; `RefusedMessage` or `SecAggError` if it is not one."""
        reader = Reader(data)
        roster = Roster.read(reader)
        signatures = tuple(
            (reader.fixed(PUBLIC_BYTES), reader.fixed(SIGNATURE_BYTES)) for _ in range(reader.u16())
        )
        reader.end()
        keys = [key for key, _ in signatures]
        if keys != sorted(set(keys)):
            raise _wrong("its signatures are out of order or repeated")
        return cls(roster, signatures)


def propose_roster(
    members: Iterable[Member],
    quorum: int,
    *,
    consortium: str = "",
    predecessor: Roster | None = None,
) -> SignedRoster:
    """An unsigned roster: the first one of `consortium`, or the successor of `predecessor`."""
    ordered = tuple(sorted(members, key=lambda member: member.site))
    if predecessor is None:
        return SignedRoster(Roster(consortium, 1, quorum, FIRST, ordered))
    before, sequence = predecessor.digest(), predecessor.sequence + 1
    return SignedRoster(Roster(predecessor.consortium, sequence, quorum, before, ordered))


def add_signature(
    signed: SignedRoster, identity: Identity, predecessor: Roster | None
) -> SignedRoster:
    """`signed` with the signature of `identity`; `SecAggError` if that is not asked for."""
    voters = signed.roster if predecessor is None else predecessor
    if voters.site_of(identity.public) is None:
        raise SecAggError(
            "This site is not among those who sign this roster.",
            "A roster is signed by its predecessor's members, a first one by its own.",
        )
    signatures = dict(signed.signatures)
    signatures[identity.public] = identity.sign(signed.roster.digest())
    return replace(signed, signatures=tuple(sorted(signatures.items())))


def merge_signatures(first: SignedRoster, second: SignedRoster) -> SignedRoster:
    """One roster's signatures, collected in two places."""
    if first.roster != second.roster:
        raise _wrong("the two files hold different rosters; compare their fingerprints")
    together = {**dict(first.signatures), **dict(second.signatures)}
    return replace(first, signatures=tuple(sorted(together.items())))


def verify_roster(signed: SignedRoster, predecessor: Roster | None) -> Roster:
    """The roster, once its signatures and its place after `predecessor` are in order.

    Without a predecessor it has to be a first roster, and is worth as much as the comparison of
    its fingerprint. Raises `SecAggError`.
    """
    roster = check_signed(signed, predecessor)
    quorum = (predecessor or roster).quorum
    if len(signed.signatures) < quorum:
        have = len(signed.signatures)
        raise SecAggError(
            f"This roster cannot be used yet: it has {have} of {quorum} signatures.",
            "Each hospital signs when it joins (craftsfl site join), and its signature comes once "
            "craftsfl site serve and craftsfl rounds start run. Made by files: pass it to more "
            "members.",
        )
    return roster


def check_signed(signed: SignedRoster, predecessor: Roster | None) -> Roster:
    """The same for a roster that is still being signed: every signature that it has holds."""
    roster = signed.roster
    voters = roster if predecessor is None else predecessor
    if predecessor is None and roster.predecessor != FIRST:
        raise _wrong("it is a successor; give the chain of rosters from the pinned one")
    if predecessor is not None:
        _check_successor(roster, predecessor)
    digest = roster.digest()
    for key, signature in signed.signatures:
        if voters.site_of(key) is None or not verify(key, signature, digest):
            raise _wrong(f"the signature of {fingerprint(key)} is bad, or not asked for")
    return roster


def _check_successor(roster: Roster, predecessor: Roster) -> None:
    if roster.predecessor != predecessor.digest():
        raise _wrong("it does not name the roster in force as its predecessor")
    if roster.sequence != predecessor.sequence + 1 or roster.consortium != predecessor.consortium:
        raise _wrong("its sequence or consortium does not continue its predecessor's")


def _check_members(members: tuple[Member, ...]) -> None:
    sites = [member.site for member in members]
    if not 1 <= len(members) <= MAX_SITES or sites != sorted(set(sites)):
        raise _wrong("it has too many sites, or they are repeated or out of order")
    for member in members:
        if not 1 <= member.site <= 0xFFFF or len(member.public_key) != PUBLIC_BYTES:
            raise _wrong(f"the id or the key of site {member.site} is out of range")
        if not re.fullmatch(SITE_NAME, member.name):
            raise _wrong(f"the name of site {member.site} is not in the allowed form")
        if not member.organisation.isprintable() or not member.organisation.strip():
            raise _wrong(f"the organisation of site {member.site} cannot be printed")
    for what in ("name", "public_key"):
        if len({getattr(member, what) for member in members}) < len(members):
            raise _wrong(f"two sites have the same {what.replace('_', ' ')}")


def _read_member(reader: Reader) -> Member:
    return Member(
        site=reader.u16(),
        name=reader.text(MAX_NAME_BYTES),
        public_key=reader.fixed(PUBLIC_BYTES),
        organisation=reader.text(MAX_ORGANISATION_BYTES),
    )


def _wrong(what: str) -> SecAggError:
    return SecAggError(
        f"This roster cannot be used: {what}.",
        "Nothing was changed. Correct the cards, or ask whoever proposed the roster.",
    )
