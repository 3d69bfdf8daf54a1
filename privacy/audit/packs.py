"""Lists of byte strings as one file of a bundle: u32 length and bytes, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from privacy.errors import AuditError

MOST_ITEMS: Final = 2_000_000
_LENGTH: Final = 4


def packed_rows(items: Iterable[bytes]) -> bytes:
    """One file of `items`, each shorter than 2^32 bytes."""
    parts: list[bytes] = []
    for item in items:
        parts += (len(item).to_bytes(_LENGTH, "big"), item)
    return b"".join(parts)


def unpacked_rows(data: bytes, most: int = MOST_ITEMS) -> list[bytes]:
    """The reverse of `packed_rows`, of at most so many items; `AuditError` for anything else."""
    items: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        start = at + _LENGTH
        size = int.from_bytes(data[at:start], "big")
        if start + size > end or start > end:
            raise AuditError("A list in it is cut short.")
        if len(items) == most:
            raise AuditError(f"A list in it has more than {most} items.")
        at = start + size
        items.append(data[start:at])
    return items
