"""One file of the data folder: where it leads, what it holds, whether it is a tile.

All of it depends on the file alone, so that it is looked at once, whoever lists it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from client.data.images import image_size, mask_size
from privacy.errors import DataError

MAX_BYTES: Final = 2**28

# What a decoder may raise beside its own errors on a file that somebody has made up: one file costs
# its tile, never the start of the agent.
_UNFORESEEN: Final = (AssertionError, AttributeError, MemoryError, RuntimeError)


class Unusable(Exception):
    """The reason why one row, or one mask, is not used. Names no file."""


@dataclass(frozen=True, slots=True)
class TileFile:
    """A file that decodes completely."""

    path: Path = field(repr=False)
    digest: bytes = field(repr=False)  # SHA-256 of its bytes
    size: tuple[int, int]  # width, height in pixels


@dataclass(frozen=True, slots=True)
class Files:
    """The files below `root`, a resolved folder; one that is asked for twice is read once."""

    root: Path
    _seen: dict[Path, TileFile | str] = field(default_factory=dict, repr=False)

    def tile(self, name: str) -> TileFile:
        """The tile that `name` leads to; raises `Unusable` with the reason."""
        path = self._inside(name)
        if path not in self._seen:
            self._seen[path] = _looked_at(path)
        found = self._seen[path]
        if isinstance(found, str):
            raise Unusable(found)
        return found

    def mask(self, name: str, tile: TileFile) -> Path | None:
        """The mask of `tile` that `name` leads to, None for no name; raises `Unusable`."""
        if not name:
            return None
        path = self._inside(name)
        size = _size(path, mask_size)
        if size != tile.size:
            raise Unusable("its size is not the tile's")
        return path

    def _inside(self, name: str) -> Path:
        """The file that `name` leads to, links followed; refuses what lies outside of `root`."""
        try:
            path = (self.root / name).resolve()
            if not path.is_relative_to(self.root):
                raise Unusable("leads outside of the data folder")
            if not path.exists():
                raise Unusable("the file is missing")
            if not path.is_file():  # a folder, or a pipe that would block for ever
                raise Unusable("not a regular file")
            if path.stat().st_size > MAX_BYTES:
                raise Unusable(f"larger than {MAX_BYTES} bytes")
        except (OSError, ValueError, RuntimeError):
            raise Unusable("not a usable file name") from None
        return path


def _looked_at(path: Path) -> TileFile | str:
    """The tile, or why it is none."""
    try:
        size = _size(path, image_size)
        with path.open("rb") as file:
            return TileFile(path, hashlib.file_digest(file, "sha256").digest(), size)
    except Unusable as fault:
        return str(fault)
    except OSError:
        return "the file cannot be read"


def _size(path: Path, decode: Callable[[Path], tuple[int, int]]) -> tuple[int, int]:
    try:
        return decode(path)
    except DataError as fault:
        raise Unusable(fault.message) from None
    except _UNFORESEEN as error:
        raise Unusable(f"damaged image ({type(error).__name__})") from None
