"""A coordinator's session as bytes, so that a restarted one goes on with the same requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from privacy.wire.bodies import DIGEST_BYTES, SIGNATURE_BYTES, Body
from privacy.wire.codec import Reader, Writer, malformed
from privacy.wire.sealed import SealedReady, SealedStep
from privacy.wire.session import SessionGroup, SessionKeys, SessionOffer
from privacy.wire.sites import check_ids, read_ids, read_pairs, write_ids, write_pairs

_FORMAT: Final = 2
_ENTRY_BYTES: Final = DIGEST_BYTES + SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class StoredMachine:
    """The offer, the keys so far, whether their list is closed, and what came after.

    `in_session` are the sites that have answered a step of it; `commitments` what all of K have
    committed to in the step, as it stands in a SealedCollect, or nothing.
    """

    offer: SessionOffer
    keys: SessionKeys
    closed: bool
    group: SessionGroup | None
    step: SealedStep | None
    in_session: tuple[int, ...]
    commitments: tuple[tuple[int, bytes], ...] = ()

    def ready(self, label: bytes) -> tuple[tuple[int, SealedReady], ...]:
        """The commitments as the sites sent them; `label` is the step's."""
        return tuple(
            (site, SealedReady(label, entry[:DIGEST_BYTES], entry[DIGEST_BYTES:]))
            for site, entry in self.commitments
        )

    def encode(self) -> bytes:
        """u16 format | offer, keys, closed (u8), group, step, sites, commitments.

        Bodies come after their u32 length. A length of 0 stands for a body that is not there.
        """
        writer = Writer().u16(_FORMAT)
        _write_body(writer, self.offer)
        _write_body(writer, self.keys)
        writer.u8(self.closed)
        _write_body(writer, self.group)
        _write_body(writer, self.step)
        write_ids(writer, self.in_session)
        write_pairs(writer, self.commitments, _ENTRY_BYTES)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The reverse; `RefusedMessage` for anything else."""
        reader = Reader(data)
        if reader.u16() != _FORMAT:
            raise malformed("A stored session has another format.")
        offer = SessionOffer.decode(_read_body(reader))
        keys, closed = SessionKeys.decode(_read_body(reader)), reader.u8() == 1
        group, step = _read_body(reader), _read_body(reader)
        sites, commitments = read_ids(reader), read_pairs(reader, _ENTRY_BYTES)
        reader.end()
        check_ids(sites)
        return cls(
            offer,
            keys,
            closed,
            SessionGroup.decode(group) if group else None,
            SealedStep.decode(step) if step else None,
            sites,
            commitments,
        )


def _write_body(writer: Writer, body: Body | None) -> None:
    data = b"" if body is None else body.encode()
    writer.u32(len(data)).fixed(data, len(data))


def _read_body(reader: Reader) -> bytes:
    return reader.fixed(reader.u32())
