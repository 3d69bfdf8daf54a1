"""The end of a run of sealed steps: what the coordinator says it has come to, and who agrees.

Server to site: SealedClose. Site to server: SealedConfirmed. What the fields mean:
`privacy.secagg.sealed.closing` and docs/secure-aggregation.md; layouts as in `bodies`.
"""

# Why: docs/adr/0050-dense-vectors-and-closed-runs.md

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from privacy.wire.bodies import DIGEST_BYTES, SIGNATURE_BYTES, Body, Kind
from privacy.wire.codec import Reader, Writer
from privacy.wire.sealed import OpenedSum


@dataclass(frozen=True, slots=True, eq=False)
class SealedClose(Body):
    """Down, after the last step. The coordinator's signature covers all before it.

    `session` is the number of the session of the last step; `adapter`, `state` and `sums` are the
    digests after it, `published` that of what is published. Behind the signature: the opened sums
    that this site may not know yet, the last one at least.
    """

    KIND: ClassVar[Kind] = Kind.SEALED_CLOSE
    run: int
    session: int
    steps: int
    study_digest: bytes
    adapter: bytes
    state: bytes
    sums: bytes
    published: bytes
    signature: bytes = bytes(SIGNATURE_BYTES)
    opened: tuple[OpenedSum, ...] = ()

    def signed_part(self) -> bytes:
        """All bytes that the coordinator signs, and that a confirmation is of."""
        writer = Writer()
        self._write_signed(writer)
        return writer.done()

    def _write_signed(self, writer: Writer) -> None:
        writer.u64(self.run).u32(self.session).u32(self.steps)
        for digest in (self.study_digest, self.adapter, self.state, self.sums, self.published):
            writer.fixed(digest, DIGEST_BYTES)

    def _write(self, writer: Writer) -> None:
        self._write_signed(writer)
        writer.fixed(self.signature, SIGNATURE_BYTES).u16(len(self.opened))
        for opened in self.opened:
            opened.write(writer)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            run=reader.u64(),
            session=reader.u32(),
            steps=reader.u32(),
            study_digest=reader.fixed(DIGEST_BYTES),
            adapter=reader.fixed(DIGEST_BYTES),
            state=reader.fixed(DIGEST_BYTES),
            sums=reader.fixed(DIGEST_BYTES),
            published=reader.fixed(DIGEST_BYTES),
            signature=reader.fixed(SIGNATURE_BYTES),
            opened=tuple(OpenedSum.read(reader) for _ in range(reader.u16())),
        )


@dataclass(frozen=True, slots=True)
class SealedConfirmed(Body):
    """Up: the site has worked out the same, and signs the SealedClose that it was asked with."""

    KIND: ClassVar[Kind] = Kind.SEALED_CONFIRMED
    signature: bytes

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.fixed(SIGNATURE_BYTES))


CLOSING_BODIES: dict[int, type[Body]] = {body.KIND: body for body in (SealedClose, SealedConfirmed)}
