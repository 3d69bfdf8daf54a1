"""What a log says of itself, and what its witnesses say of that.

In the forms of C2SP: tlog-checkpoint and tlog-cosignature.

A checkpoint is a signed note of three lines: the log's name ("origin"), its size and its root. The
log signs it with the coordinator's key; a witness signs "cosignature/v1", the time, and the same
three lines with its site's identity, and says by that: this continues what I have cosigned before.

    origin      craftsfl/log/CONSORTIUM/KEY     the coordinator's key, in hex: one log for one key
    a witness   craftsfl/site/CONSORTIUM/NAME   as the roster lists it

These keys sign other things too, all of them digests of 32 bytes or begun by a tag of ours; no text
of a note or a cosignature can be one of these.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from privacy.errors import LogError
from privacy.identity import PUBLIC_BYTES, Identity, verify
from privacy.log.merkle import EMPTY_ROOT, HASH_BYTES
from privacy.log.notes import NoteKey, NoteLine, NoteType, SignedNote
from privacy.secagg.roster import Member, Roster
from privacy.wire.codec import Reader, Writer

COSIGNATURE_BYTES: Final = 72

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_LATEST: Final = 2**63 - 1
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A log as it was at one size: its name, how many entries it had, and their root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.size} entries of {self.origin}, root {self.root.hex()[:16]}"

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def of_text(cls, text: str) -> Self:
        """The inverse of `text`; `LogError` for other lines, or more of them."""
        rows = text.split("\n")
        if len(rows) != 4 or rows[3] or not rows[0] or not _SIZE.fullmatch(rows[1]):
            raise _wrong_head("its lines are not origin, size and root")
        try:
            root = base64.b64decode(rows[2], validate=True)
        except (binascii.Error, ValueError):
            raise _wrong_head("its root is not base64") from None
        head = cls(rows[0], int(rows[1]), root)
        if len(root) != HASH_BYTES or head.text != text:
            raise _wrong_head("its root is not a hash")
        if (head.size == 0) != (root == EMPTY_ROOT):
            raise _wrong_head("its size and its root do not go together")
        return head


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's signature of a checkpoint, and when it was made (Unix seconds)."""

    time: int
    signature: bytes

    def encode(self) -> bytes:
        """72 bytes, as in a note's line: time u64 | Ed25519 signature 64."""
        return Writer().u64(self.time).fixed(self.signature, _SIGNATURE_BYTES).done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`; `LogError` for anything else."""
        if len(data) != COSIGNATURE_BYTES:
            raise LogError("A cosignature has another length.")
        reader = Reader(data)
        found = cls(reader.u64(), reader.fixed(_SIGNATURE_BYTES))
        if found.time > _LATEST:
            raise LogError("A cosignature has an impossible time.")
        return found

    def is_of(self, head: TreeHead, public: bytes) -> bool:
        """Whether the holder of `public` has cosigned `head`."""
        return verify(public, self.signature, _cosigned(head, self.time))


def log_origin(consortium: str, coordinator: bytes) -> str:
    """The name of the log that the holder of this key (32 bytes) keeps for a consortium."""
    if len(coordinator) != PUBLIC_BYTES:
        raise LogError("A coordinator's key does not have 32 bytes.")
    return f"craftsfl/log/{consortium}/{coordinator.hex()}"


def log_key(origin: str, coordinator: bytes) -> NoteKey:
    """The key that signs checkpoints of this origin."""
    return NoteKey(origin, NoteType.ED25519, coordinator)


def witness_key(consortium: str, member: Member) -> NoteKey:
    """The key with which a site of the roster cosigns."""
    name = f"craftsfl/site/{consortium}/{member.name}"
    return NoteKey(name, NoteType.COSIGNATURE, member.public_key)


def signed_checkpoint(head: TreeHead, coordinator: Identity) -> SignedNote:
    """The checkpoint of `head`, signed by the log."""
    signature = coordinator.sign(head.text.encode())
    return SignedNote(head.text, (log_key(head.origin, coordinator.public).line(signature),))


def open_checkpoint(note: SignedNote, origin: str, coordinator: bytes) -> TreeHead:
    """What the log of `origin` has signed in `note`; `LogError` if it has not."""
    head = TreeHead.of_text(note.text)
    if head.origin != origin:
        raise _wrong_head(f"it is of another log, {head.origin}")
    claimed = note.signatures_by(log_key(origin, coordinator))
    text = note.text.encode()
    if not claimed or not all(verify(coordinator, one, text) for one in claimed):
        raise _wrong_head("the coordinator that the study names has not signed it")
    return head


def cosign(head: TreeHead, identity: Identity, time: int) -> Cosignature:
    """A cosignature at `time` (Unix seconds). What it says has to be true: see `SiteWitness`."""
    return Cosignature(time, identity.sign(_cosigned(head, time)))


def witness_line(consortium: str, member: Member, cosignature: Cosignature) -> NoteLine:
    """A cosignature as it stands in a note, for other tools too."""
    return witness_key(consortium, member).line(cosignature.encode())


def cosignatures_of(note: SignedNote, roster: Roster) -> dict[int, Cosignature]:
    """The cosignatures of members of `roster`, by site; strangers' are ignored.

    Raises `LogError` for a bad one of a member.
    """
    head, found = TreeHead.of_text(note.text), {}
    for member in roster.members:
        for data in note.signatures_by(witness_key(roster.consortium, member)):
            cosignature = Cosignature.decode(data)
            if not cosignature.is_of(head, member.public_key):
                raise LogError(
                    f"The cosignature of {member.name} under {head} is wrong.",
                    "Get the checkpoint again, and ask that site what it has signed.",
                )
            found[member.site] = cosignature
    return found


def cosigned_by(
    head: TreeHead, cosignatures: Mapping[int, Cosignature], roster: Roster
) -> frozenset[int]:
    """The sites of `roster` that have cosigned `head`; whatever is not good does not count."""
    members = ((site, roster.member(site)) for site in cosignatures)
    return frozenset(
        site
        for site, member in members
        if member is not None and cosignatures[site].is_of(head, member.public_key)
    )


def names_without(roster: Roster, sites: Iterable[int], cosigned: Iterable[int]) -> str:
    """The names of those of `sites` that have not cosigned, for people."""
    missing = sorted(set(sites) - set(cosigned))
    found = (roster.member(site) for site in missing)
    return ", ".join(member.name for member in found if member is not None)


def _cosigned(head: TreeHead, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{head.text}".encode()


def _wrong_head(why: str) -> LogError:
    return LogError(
        f"A checkpoint of the log is not to be used: {why}.",
        "Get it again; if that does not help, compare it with the other sites'.",
    )
