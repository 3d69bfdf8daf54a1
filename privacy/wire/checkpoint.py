"""A ledger's checkpoint: which ledger, how many records, and the newest one's hash.

Bytes: ledger 16 | length u64 | hash 32. It has no signature of its own: whatever contains it, an
`Advertise` or a ledger's binding, is signed by the site's identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from privacy.wire.codec import Reader, Writer


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The first `length` records of the ledger `ledger`; `hash` is the newest one's."""

    ledger: bytes  # 16 bytes
    length: int  # 64 bits
    hash: bytes  # 32 bytes

    def __str__(self) -> str:
        return f"{self.length} records of ledger {self.ledger.hex()}"

    def write(self, writer: Writer) -> None:
        """Append all fields."""
        writer.fixed(self.ledger, 16).u64(self.length).fixed(self.hash, 32)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Take all fields."""
        return cls(reader.fixed(16), reader.u64(), reader.fixed(32))
