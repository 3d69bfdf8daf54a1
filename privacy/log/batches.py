"""The records that a site's ledger has got since it was last in the log, as one entry.

    head 153 (`privacy.ledger.head`) | first u64 | count u16 | for each item
        0 u8 | length u16 | a record's bytes
        1 u8 | how many u32 | hash 32 of the last of them

The head is that of the newest record here, signed by the ledger's key: with the hash that each
record holds of the one before, one signature covers all of them. Records of other studies are none
of this consortium's business: they are withheld, and only counted. What is withheld is still held
fast by its hash, which the next record holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self, TypeAlias

from privacy.errors import LedgerError, LogError
from privacy.ledger.chain import Chain
from privacy.ledger.head import HEAD_BYTES, Head
from privacy.ledger.records import decode, hash_of
from privacy.wire.codec import Reader, Writer, malformed
from privacy.wire.reasons import RefusedMessage

_OPEN: Final = 0
_WITHHELD: Final = 1
_FRAME: Final = HEAD_BYTES + 10
_MOST_ITEMS: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Withheld:
    """So many records that are not shown, and the hash of the last of them."""

    count: int
    last: bytes


BatchItem: TypeAlias = bytes | Withheld


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one ledger from number `first` on, up to the one that `head` is of."""

    head: Head
    first: int
    items: tuple[BatchItem, ...]

    def encode(self) -> bytes:
        """The batch's bytes; raises `LogError` for what does not fit."""
        try:
            writer = Writer().fixed(self.head.to_bytes(), HEAD_BYTES).u64(self.first)
            writer.u16(len(self.items))
            for item in self.items:
                if isinstance(item, Withheld):
                    writer.u8(_WITHHELD).u32(item.count).fixed(item.last, 32)
                else:
                    writer.u8(_OPEN).u16(len(item)).fixed(item, len(item))
        except (RefusedMessage, LedgerError) as error:
            raise LogError(f"Records cannot be put into the log. {error.message}") from error
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`; `LogError` for anything else. Verifies nothing."""
        reader = Reader(data)
        try:
            head, first = Head.from_bytes(reader.fixed(HEAD_BYTES)), reader.u64()
            items = tuple(_item(reader) for _ in range(reader.u16()))
            reader.end()
        except (RefusedMessage, LedgerError) as error:
            raise LogError(f"These are not a ledger's records. {error.message}") from None
        return cls(head, first, items)


class LedgerRecords(Protocol):
    """A ledger whose records can be shown."""

    def chain(self) -> Chain:
        """What the records make."""

    def records(self, first: int, until: int) -> Sequence[bytes]:
        """The bytes of these records, in order."""


def batch_of(ledger: LedgerRecords, first: int, study: bytes, most: int) -> RecordBatch | None:
    """What the log lacks from record `first` on, in `most` bytes; None if it lacks nothing.

    Open are the records of `study` and those about the ledger itself. Where not all fit, the batch
    ends earlier, and another one follows. Raises `LogError` if not even one record fits.
    """
    chain, items, room = ledger.chain(), list[BatchItem](), most - _FRAME
    at = first
    for body in ledger.records(first, len(chain)):
        item = _shown(chain, body, study)
        last = items[-1] if items else None
        if isinstance(item, Withheld) and isinstance(last, Withheld):
            items[-1] = Withheld(last.count + 1, item.last)
        else:
            room -= 37 if isinstance(item, Withheld) else 3 + len(item)
            if room < 0 or len(items) == _MOST_ITEMS:
                break
            items.append(item)
        at += 1
    if not items and first < len(chain):
        raise LogError(f"A record of the ledger does not fit into {most} bytes.")
    return RecordBatch(chain.head_at(at - 1), first, tuple(items)) if items else None


def _shown(chain: Chain, body: bytes, study: bytes) -> BatchItem:
    about = chain.study_of(decode(body).content)
    return body if about in (None, study) else Withheld(1, hash_of(body))


def _item(reader: Reader) -> BatchItem:
    tag = reader.u8()
    if tag == _OPEN:
        return reader.fixed(reader.u16())
    if tag != _WITHHELD:
        raise malformed("A batch of records has an item of an unknown kind.")
    count = reader.u32()
    if count == 0:
        raise malformed("A batch of records withholds nothing.")
    return Withheld(count, reader.fixed(32))
