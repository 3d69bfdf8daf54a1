"""Captioned pictures by number, wherever they are stored: what training reads from."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from model.lab.stage_one.folder import open_picture_folder
from model.lab.stage_one.shards import expand, open_shard
from privacy.errors import ModelError


class PictureSource(Protocol):
    """Pictures 0..n-1 with random access, so that any step of any process can be repeated."""

    def __len__(self) -> int:
        """Number of captioned pictures, broken ones included."""
        ...

    def picture(self, index: int) -> bytes:
        """The picture's file as it is. Raises `OSError`, `Unusable`."""
        ...

    def caption(self, index: int) -> str:
        """Its caption, stripped, never empty. Raises `OSError`, `Unusable`."""
        ...

    def name(self, index: int) -> str:
        """Its name in the list of broken pictures."""
        ...

    def fingerprint(self) -> bytes:
        """A hash of names and sizes, not of contents: it differs between sets."""
        ...


class Joined:
    """Several sources, one after another."""

    def __init__(self, parts: Sequence[PictureSource]) -> None:
        self._parts = tuple(parts)
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def picture(self, index: int) -> bytes:
        """See `PictureSource`."""
        part, within = self._find(index)
        return part.picture(within)

    def caption(self, index: int) -> str:
        """See `PictureSource`."""
        part, within = self._find(index)
        return part.caption(within)

    def name(self, index: int) -> str:
        """See `PictureSource`."""
        part, within = self._find(index)
        return part.name(within)

    def fingerprint(self) -> bytes:
        """See `PictureSource`."""
        return hashlib.sha256(b"".join(part.fingerprint() for part in self._parts)).digest()

    def _find(self, index: int) -> tuple[PictureSource, int]:
        number = bisect.bisect_right(self._ends, index)
        return self._parts[number], index - (self._ends[number - 1] if number else 0)


def open_sources(places: Sequence[str], caption: str, *, public: bool) -> PictureSource:
    """The image-caption folders and the shards (`x-{000..010}.tar`) that `places` name.

    `caption`: the column, or the key of a shard's JSON. Raises `ModelError` if one is missing,
    holds no captioned picture, or looks like a hospital's own and is not said to be `public`.
    """
    if not places:
        raise ModelError("No data to train on.", "Name folders or shards with --data.")
    parts: list[PictureSource] = []
    for place in places:
        if Path(place).is_dir():
            parts.append(open_picture_folder(Path(place), caption, public=public))
        else:
            parts += [open_shard(shard, caption, public=public) for shard in expand(place)]
    joined = Joined(parts)
    if len(joined) == 0:
        raise ModelError(
            f"{', '.join(places)}: no captioned picture.",
            "A folder lists them in metadata.csv; a shard holds a caption for each picture.",
        )
    return joined
