"""Two small files next to a ledger: `.lock` excludes a second writer, `.head` is its newest head.

The head file holds two slots, each in a disk sector of its own and written in turn: a write that
is torn by a power cut leaves the other intact. It reveals what the ledger alone cannot: that its
newest records are gone, for instance because only the main one of SQLite's files was copied.

The head follows the ledger: a record is on disk before its head is written, and the system decides
when the head reaches the disk, so that an append needs one fsync. After a power cut the head may
lag behind the ledger but never run ahead, and the next opening updates it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privacy.errors import LedgerError
from privacy.files import hint_for, lock, read_private, remove_parts, write_at, write_private_once
from privacy.ledger.head import HEAD_BYTES, VERSION, Head

_SECTOR: Final = 512
_SLOTS: Final = 2
LARGEST: Final = 16 << 20  # bytes of a head file or a marker, whose note grows with the studies

_log = logging.getLogger("craftsfl.ledger")


@dataclass(frozen=True, slots=True)
class HeadFile:
    """The newest head that was acknowledged."""

    path: Path

    def read(self) -> Head | None:
        """The newest head; None if there is no file. `LedgerError` if neither slot is whole."""
        try:
            data = read_private(self.path, LARGEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from None
        slots = [data[at : at + HEAD_BYTES] for at in range(0, _SLOTS * _SECTOR, _SECTOR)]
        heads = [head for head in map(_whole, slots) if head is not None]
        if not heads:
            self._refuse_newer(slots)
            raise LedgerError(
                f"The file {self.path} is damaged: it holds no ledger head.",
                "Restore the newest backup of the whole state folder.",
            )
        if len(heads) < sum(any(slot) for slot in slots):
            _log.warning("One of two copies of the ledger's head is damaged; the other is used.")
        return max(heads, key=lambda head: head.sequence)

    def write(self, head: Head) -> None:
        """Keep `head`, which is on disk in the ledger; survives the process, not a power cut."""
        slot = _SECTOR * (head.sequence % _SLOTS)
        try:
            if not self.path.exists():
                remove_parts(self.path)  # the ledger is locked: no one else writes it
                write_private_once(self.path, slots_of(head))
                return
            write_at(self.path, slot, head.to_bytes())
        except OSError as error:
            raise self._unusable(error) from None

    def _refuse_newer(self, slots: Iterable[bytes]) -> None:
        """A head of a later version may not be damage, and then a backup would not help."""
        for slot in slots:
            if len(slot) == HEAD_BYTES and slot[0] > VERSION:
                raise LedgerError(
                    f"The file {self.path} is damaged, or of version {slot[0]}; this craftsfl "
                    f"reads version {VERSION}.",
                    "Install the craftsfl that wrote it, or a newer one; only if that one refuses "
                    "it too, restore the newest backup of the whole state folder.",
                )

    def _unusable(self, error: OSError) -> LedgerError:
        return LedgerError(
            f"{self.path} cannot be read or written: {error.strerror}.",
            hint_for(
                error, "Check the disk, its free space and the file's owner; nothing was lost."
            ),
        )


def slots_of(head: Head) -> bytes:
    """Both slots, with `head` in the one where it belongs."""
    data = bytearray(_SLOTS * _SECTOR)
    slot = _SECTOR * (head.sequence % _SLOTS)
    data[slot : slot + HEAD_BYTES] = head.to_bytes()
    return bytes(data)


def take_lock(path: Path, ledger: Path) -> int:
    """Lock the file `path` until the returned descriptor is closed; `LedgerError` if it is held."""
    held = f"{ledger} is in use by another process."
    return _lock(path, held, "Stop the other site agent, then try again.")


@contextmanager
def locked(path: Path, held: str, hint: str) -> Iterator[None]:
    """Lock the file `path` in this block; `LedgerError`(held, hint) if someone else holds it."""
    file = _lock(path, held, hint)
    try:
        yield
    finally:
        os.close(file)


def _lock(path: Path, held: str, hint: str) -> int:
    try:
        return lock(path)
    except BlockingIOError:
        raise LedgerError(held, hint) from None
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be opened for writing: {error.strerror}.",
            hint_for(error, "Check that its folder exists and its owner."),
        ) from None


def _whole(slot: bytes) -> Head | None:
    try:
        head = Head.from_bytes(slot)
    except LedgerError:
        return None
    return head if head.is_signed() else None
