"""A coordinator's session as bytes, so that a restarted one goes on with the same requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from privacy.wire.bodies import Body
from privacy.wire.codec import Reader, Writer, malformed
from privacy.wire.sealed import SealedStep
from privacy.wire.session import SessionGroup, SessionKeys, SessionOffer
from privacy.wire.sites import check_ids, read_ids, write_ids

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class StoredMachine:
    """The offer, the keys so far, whether their list is closed, and what came after.

    `in_session` are the sites that have answered a step of it.
    """

    offer: SessionOffer
    keys: SessionKeys
    closed: bool
    group: SessionGroup | None
    step: SealedStep | None
    in_session: tuple[int, ...]

    def encode(self) -> bytes:
        """u16 format | offer, keys, closed (u8), group, step, sites; bodies after their u32 length.

        A length of 0 stands for a body that is not there.
        """
        writer = Writer().u16(_FORMAT)
        _write_body(writer, self.offer)
        _write_body(writer, self.keys)
        writer.u8(self.closed)
        _write_body(writer, self.group)
        _write_body(writer, self.step)
        write_ids(writer, self.in_session)
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
        sites = read_ids(reader)
        reader.end()
        check_ids(sites)
        return cls(
            offer,
            keys,
            closed,
            SessionGroup.decode(group) if group else None,
            SealedStep.decode(step) if step else None,
            sites,
        )


def _write_body(writer: Writer, body: Body | None) -> None:
    data = b"" if body is None else body.encode()
    writer.u32(len(data)).fixed(data, len(data))


def _read_body(reader: Reader) -> bytes:
    return reader.fixed(reader.u32())
