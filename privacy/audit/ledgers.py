"""A site's ledger in a bundle: all records, and one signature, of the newest.

    head 153 bytes (`privacy.ledger.head`) | the records' bytes, as `packs` has lists

Every record holds the hash of the one before, so the signature of the newest covers all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from privacy.audit.packs import packed_rows, unpacked_rows
from privacy.errors import AuditError, LedgerError
from privacy.ledger.chain import Chain
from privacy.ledger.head import HEAD_BYTES, Head
from privacy.wire.checkpoint import Checkpoint

MOST_LEDGER_RECORDS: Final = 1_000_000


def encode_ledger(head: Head, records: Iterable[bytes]) -> bytes:
    """The file of a ledger: its newest head, and all records from the first."""
    return head.to_bytes() + packed_rows(records)


def decode_ledger(data: bytes) -> Chain:
    """The verified chain; `AuditError` or `LedgerError` says what does not hold."""
    if len(data) < HEAD_BYTES:
        raise AuditError("It is shorter than a ledger's head.")
    head = Head.from_bytes(data[:HEAD_BYTES])
    return Chain.under(head, unpacked_rows(data[HEAD_BYTES:], MOST_LEDGER_RECORDS))


def holds(chain: Chain, checkpoint: Checkpoint) -> bool:
    """Whether the ledger was once as `checkpoint` says."""
    if checkpoint.length == 0 or checkpoint.ledger != chain.ledger:
        return False
    try:
        return chain.hash_at(checkpoint.length - 1) == checkpoint.hash
    except LedgerError:
        return False
