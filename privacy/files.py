"""Files that are replaced whole or not at all, however many share their folder.

Guarantees, each with a test: the new file has a random name until it is whole and on disk, then
takes `path`'s place in one step; it is made exclusively, so what somebody planted under a name, a
symbolic link above all, is neither followed nor written to; a link at `path` itself is replaced,
not followed; where anything fails, `path` is as it was and nothing is left beside it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

PRIVATE: Final = 0o600
PUBLIC: Final = 0o666  # less the umask
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_private(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`, readable by its owner alone; raises `OSError`."""
    with replacing(path) as stream:
        stream.write(data)


def write_public(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`, readable as the umask says; raises `OSError`."""
    with replacing(path, PUBLIC) as stream:
        stream.write(data)


@contextmanager
def replacing(path: Path, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """A stream whose contents take the place of `path` when the block ends well.

    On disk when it returns, the folder's entry too. Raises `OSError`.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    made = os.open(part, _NEW, mode)
    try:
        with os.fdopen(made, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the disk hold the folder's entries; raises `OSError`."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
