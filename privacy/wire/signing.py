"""The signatures of a roster on their way: from each site up, and all of them down.

Site to server: RosterSignature, in answer to a greeting, while its roster lacks signatures. Server
to site: RosterSignatures. Neither carries a roster: a site has the one that its own people have
confirmed, and takes signatures of that one alone. Layouts as in `bodies`.
"""

# Why: docs/adr/0057-first-hour.md

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from privacy.wire.bodies import DIGEST_BYTES, SIGNATURE_BYTES, Body, Kind
from privacy.wire.codec import Reader, Writer, malformed
from privacy.wire.sites import MAX_SITES

_KEY_BYTES: Final = 32  # Ed25519
SIGNING_BYTES: Final = 1024 + MAX_SITES * (_KEY_BYTES + SIGNATURE_BYTES)
"""The most bytes of an envelope with either of them."""


@dataclass(frozen=True, slots=True, eq=False)
class RosterSignature(Body):
    """Up: the site's own signature of the roster with this digest, which is what it covers."""

    KIND: ClassVar[Kind] = Kind.ROSTER_SIGNATURE
    roster_digest: bytes
    public_key: bytes
    signature: bytes

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.roster_digest, DIGEST_BYTES).fixed(self.public_key, _KEY_BYTES)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            roster_digest=reader.fixed(DIGEST_BYTES),
            public_key=reader.fixed(_KEY_BYTES),
            signature=reader.fixed(SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RosterSignatures(Body):
    """Down: all signatures of the roster with this digest, as (key, signature) ascending by key."""

    KIND: ClassVar[Kind] = Kind.ROSTER_SIGNATURES
    roster_digest: bytes
    signatures: tuple[tuple[bytes, bytes], ...]

    def __post_init__(self) -> None:
        keys = [key for key, _ in self.signatures]
        if len(keys) > MAX_SITES or keys != sorted(set(keys)):
            raise malformed("A roster's signatures are too many, repeated or out of order.")

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.roster_digest, DIGEST_BYTES).u16(len(self.signatures))
        for key, signature in self.signatures:
            writer.fixed(key, _KEY_BYTES).fixed(signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            roster_digest=reader.fixed(DIGEST_BYTES),
            signatures=tuple(
                (reader.fixed(_KEY_BYTES), reader.fixed(SIGNATURE_BYTES))
                for _ in range(reader.u16())
            ),
        )


SIGNING_BODIES: dict[int, type[Body]] = {
    body.KIND: body for body in (RosterSignature, RosterSignatures)
}
