"""The two small files beside a ledger: `.lock` keeps a second writer out, `.head` its newest head.

The head file holds two slots, each in a disk sector of its own and written in turn: a write that
is torn by a power cut leaves the other. It finds what the ledger alone cannot: that its newest
records are gone, for instance because only the main one of SQLite's files was copied.

The head follows the ledger: a record is on disk before its head is written, and the head is left
to the system to be brought there, which keeps an append at one fsync. After a power cut it may
lag behind the ledger, never run ahead, and the next opening brings it up.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privacy.errors import LedgerError
from privacy.ledger.head import HEAD_BYTES, VERSION, Head

_SECTOR: Final = 512
_SLOTS: Final = 2

_log = logging.getLogger("craftsfl.ledger")


@dataclass(frozen=True, slots=True)
class HeadFile:
    """The newest head that was acknowledged."""

    path: Path

    def read(self) -> Head | None:
        """The newest head; None where there is no file. `LedgerError` if no slot is whole."""
        try:
            data = self.path.read_bytes()
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
                create_whole(self.path, slots_of(head))
                return
            file = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                if os.pwrite(file, head.to_bytes(), slot) != HEAD_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(file)
        except OSError as error:
            raise self._unusable(error) from None

    def _refuse_newer(self, slots: Iterable[bytes]) -> None:
        """A head of a later version may be no damage, and then a backup would not help."""
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
            "Check the disk, its free space and the file's owner; nothing was lost.",
        )


def slots_of(head: Head) -> bytes:
    """The two slots with `head` in its own."""
    data = bytearray(_SLOTS * _SECTOR)
    slot = _SECTOR * (head.sequence % _SLOTS)
    data[slot : slot + HEAD_BYTES] = head.to_bytes()
    return bytes(data)


def create_whole(path: Path, data: bytes) -> None:
    """Make `path` (mode 0600) with `data`, wholly or not at all, on disk when this returns.

    Raises `FileExistsError` if it is there already.
    """
    remove_parts(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_new(part, data)
        os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def replace_whole(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file `path` (mode 0600), wholly or not at all, on disk."""
    remove_parts(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_new(part, data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _write_new(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_parts(path: Path) -> None:
    """Remove what a `create_whole` of `path` that was killed has left."""
    for part in path.parent.glob(f".{path.name}.*"):
        part.unlink(missing_ok=True)


def take_lock(path: Path, ledger: Path) -> int:
    """Lock the file `path` until the returned descriptor is closed; `LedgerError` if it is held."""
    held = f"{ledger} is in use by another process."
    return _lock(path, held, "Stop the other site agent, then try again.")


@contextmanager
def locked(path: Path, held: str, hint: str) -> Iterator[None]:
    """Lock the file `path` in this block; `LedgerError`(held, hint) if somebody else has it."""
    file = _lock(path, held, hint)
    try:
        yield
    finally:
        os.close(file)


def _lock(path: Path, held: str, hint: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o600)
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be opened for writing: {error.strerror}.",
            "Check that its folder exists and its owner.",
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise LedgerError(held, hint) from None
    return file


def _whole(slot: bytes) -> Head | None:
    try:
        head = Head.from_bytes(slot)
    except LedgerError:
        return None
    return head if head.is_signed() else None
