"""One file of the data folder: where it leads, what it holds, whether it is a tile.

All of it depends on the file alone, so that it is read, hashed and decoded once, whoever lists it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from client.data.images import mask_size, stored_turned, tile_size
from client.data.spelling import Spelling
from privacy.errors import DataError

MAX_BYTES: Final = 2**28

# What a decoder may raise besides its own errors on a crafted file: one file costs its tile, never
# the start of the agent.
_UNFORESEEN: Final = (AssertionError, AttributeError, MemoryError, RuntimeError)


_Size = tuple[int, int]  # width, height in pixels
_Found = TypeVar("_Found")


class UnusableFile(Exception):
    """The reason why one row, or one mask, is not used. Names no file."""


@dataclass(frozen=True, slots=True)
class TileFile:
    """A file that decodes completely."""

    path: Path = field(repr=False)
    digest: bytes = field(repr=False)  # SHA-256 of its bytes
    size: _Size


@dataclass(frozen=True, slots=True)
class Files:
    """The files below `root`, a resolved folder; each is read once, however often it is listed.

    `look` reads a tile, and raises `UnusableFile` with the reason; it may notice more about it.
    """

    root: Path
    look: Callable[[Path], TileFile] = field(default=lambda path: _tile_file(path), repr=False)
    _tiles: dict[Path, TileFile | str] = field(default_factory=dict, repr=False)
    _masks: dict[Path, _Size | str] = field(default_factory=dict, repr=False)
    _spelling: Spelling = field(default_factory=Spelling, repr=False)

    def tile(self, name: str) -> TileFile:
        """The tile that `name` leads to; raises `UnusableFile` with the reason."""
        path = self._inside(name)
        return _once(self._tiles, path, self.look)

    def mask(self, name: str, tile: TileFile) -> Path | None:
        """The mask of `tile` that `name` leads to, None for no name; raises `UnusableFile`."""
        if not name:
            return None
        path = self._inside(name)
        if _once(self._masks, path, _mask_size) != tile.size:
            raise UnusableFile("its size is not the tile's")
        try:
            if stored_turned(tile.path) and not stored_turned(path):
                raise UnusableFile(
                    "its tile is turned by a note in the file (EXIF) and the mask is not, so that "
                    "nobody can tell whether they fit; save the tile upright"
                )
        except DataError as fault:
            raise UnusableFile(fault.message) from None
        return path

    def _inside(self, name: str) -> Path:
        """The file that `name` leads to, links followed; refuses anything outside `root`."""
        try:
            path = (self.root / name).resolve()
            if not path.exists() and path.is_relative_to(self.root):
                path = self._otherwise_spelled(name)
            if not path.is_relative_to(self.root):
                raise UnusableFile(
                    "leads outside of the data folder; write the name as it is seen from there"
                )
            if not path.is_file():  # a folder, or a pipe that would block forever
                raise UnusableFile("not a regular file")
            if path.stat().st_size > MAX_BYTES:
                raise UnusableFile(f"larger than {MAX_BYTES} bytes")
        except (OSError, ValueError, RuntimeError):
            raise UnusableFile("not a usable file name") from None
        return path

    def _otherwise_spelled(self, name: str) -> Path:
        """The one file that `name` may mean where none has exactly that name."""
        try:
            return self._spelling.find(self.root, name).resolve()
        except LookupError as fault:
            raise UnusableFile(str(fault)) from None


def _once(seen: dict[Path, _Found | str], path: Path, look: Callable[[Path], _Found]) -> _Found:
    """What `look` finds in the file, or the `UnusableFile` that it raises; each file once."""
    if path not in seen:
        try:
            seen[path] = look(path)
        except UnusableFile as fault:
            seen[path] = str(fault)
    found = seen[path]
    if isinstance(found, str):
        raise UnusableFile(found)
    return found


def _tile_file(path: Path) -> TileFile:
    return tile_file(path, tile_size)


def tile_file(path: Path, decode: Callable[[bytes], _Size]) -> TileFile:
    """The tile at `path`, whose bytes `decode` decodes; raises `UnusableFile` with the reason."""
    data = _content(path)
    return TileFile(path, hashlib.sha256(data).digest(), _size(data, decode))


def _mask_size(path: Path) -> _Size:
    return _size(_content(path), mask_size)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableFile(f"it cannot be read: {error.strerror}") from None
    except MemoryError:
        raise UnusableFile("it does not fit into memory") from None


def _size(data: bytes, decode: Callable[[bytes], _Size]) -> _Size:
    try:
        return decode(data)
    except DataError as fault:
        raise UnusableFile(fault.message) from None
    except _UNFORESEEN:
        raise UnusableFile("damaged image; copy it again, or export it again") from None
