"""How far every ledger is that the log holds records of: the last entry under each checkpoint.

    count u16 | for each identity, ascending by its public key: public key 32 | checkpoint 56

A site that reads its own row learns whether its ledger is the newest that the log has of it; it is
what a state folder put back to yesterday cannot know by itself. Every witness has seen the row
before: it signs no table in which a row goes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from privacy.errors import LogError
from privacy.identity import PUBLIC_BYTES
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.codec import Reader, Writer
from privacy.wire.reasons import RefusedMessage

_MOST_ROWS: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class HeadsTable:
    """The newest checkpoint of each identity's ledger, by the identity's public key."""

    rows: Mapping[bytes, Checkpoint] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The table's bytes."""
        if len(self.rows) > _MOST_ROWS:
            raise LogError("The log has more ledgers than a table can hold.")
        writer = Writer().u16(len(self.rows))
        for key in sorted(self.rows):
            writer.fixed(key, PUBLIC_BYTES)
            self.rows[key].write(writer)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`; `LogError` for anything else."""
        reader, rows = Reader(data), {}
        try:
            for _ in range(reader.u16()):
                key = reader.fixed(PUBLIC_BYTES)
                rows[key] = Checkpoint.read(reader)
            reader.end()
        except RefusedMessage:
            raise LogError("A table of heads in the log is cut off or too long.") from None
        table = cls(rows)
        if table.encode() != data:
            raise LogError("A table of heads in the log is out of order, or repeats a row.")
        return table
