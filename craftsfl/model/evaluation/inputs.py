"""Folders of tiles for an evaluation: who is in which, and nobody in two."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data import (
    Quarantined,
    SiteData,
    check_believable,
    check_usable,
    load_site_data,
    read_tile,
    read_tile_mask,
)
from client.data.images import tile_size
from model.lab.evaluation import ImageSet
from privacy.errors import DataError

_LARGEST = 1024  # px: nothing here is evaluated at a larger size
_APART = "Evaluate on patients whom training did not see: figures on its own would be flattering."


@dataclass(frozen=True)
class TileFolder:
    """A folder of tiles, decoded once. Ids and digests only serve to compare folders."""

    data: SiteData = field(repr=False)
    ids: frozenset[str] = field(repr=False)
    digests: frozenset[bytes] = field(repr=False)

    @property
    def left_out(self) -> int:
        """How many rows could not be used."""
        return len(self.data.quarantined)

    def side(self) -> int:
        """The side in px of its tiles, the smallest; at most `_LARGEST`."""
        return min(_LARGEST, *(min(tile_size(tile.path)) for tile in self.data.tiles[:100]))


def read_tiles(folder: Path, *, ids_confirmed: bool) -> TileFolder:
    """Check every tile. Raises `DataError`, which may name files and stays at the site."""
    seen: list[tuple[str, bytes]] = []

    def lines_of(tiles: Sequence[tuple[str, bytes]]) -> Sequence[bytes]:
        seen.extend(tiles)
        return [name.encode() for name, _ in tiles]

    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"The folder of tiles {folder} {what}.", "Name a folder of tiles.")
    data = load_site_data(folder, lines_of=lines_of)
    data = _without_shared(data)
    check_usable(data, folder)
    if not ids_confirmed:
        check_believable(data.doubt, confirm="--patient-ids-confirmed")
    return TileFolder(data, frozenset(name for name, _ in seen), frozenset(d for _, d in seen))


def _without_shared(data: SiteData) -> SiteData:
    """Without tiles whose bytes are listed for several patients: they would count several times."""
    digests = [hashlib.sha256(tile.path.read_bytes()).digest() for tile in data.tiles]
    owners: dict[bytes, set[int]] = defaultdict(set)
    for tile, digest in zip(data.tiles, digests, strict=True):
        owners[digest].add(tile.patient)
    shared = [len(owners[digest]) > 1 for digest in digests]
    reason = "the same picture is listed for several patients"
    left_out = [Quarantined(tile.path.name, reason) for tile in compress(data.tiles, shared)]
    return replace(
        data,
        tiles=tuple(tile for tile, out in zip(data.tiles, shared, strict=True) if not out),
        quarantined=(*data.quarantined, *left_out),
    )


def check_disjoint(real: TileFolder, training: TileFolder) -> None:
    """Raise `DataError` if a patient or a picture is in both; it names neither."""
    patients, pictures = real.ids & training.ids, real.digests & training.digests
    if patients:
        raise DataError(
            f"{len(patients)} of {len(real.ids)} patients are among the training tiles too.", _APART
        )
    if pictures:
        raise DataError(
            f"{len(pictures)} pictures are among the training tiles too, under other ids.", _APART
        )


def check_generated(real: TileFolder, generated: TileFolder) -> None:
    """Raise `DataError` if real files are among the generated ones."""
    common = real.digests & generated.digests
    if common:
        raise DataError(
            f"{len(common)} files are in the folder of generated images and in that of real ones.",
            "Name a folder that `craftsfl model sample --out-dir` wrote.",
        )


def image_set(folder: TileFolder, side: int, *, most: int, seed: int) -> ImageSet:
    """The tiles as square images of `side` px; a random `most` of them if there are more."""
    rows = np.arange(len(folder.data.tiles))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng([seed, 7]).permutation(rows)[:most])
    tiles = [folder.data.tiles[row] for row in rows]
    return ImageSet(
        np.stack([read_tile(tile.path, side) for tile in tiles]),
        tuple(tile.caption for tile in tiles),
        np.array([tile.patient for tile in tiles], np.int64),
    )


def masks(folder: TileFolder, side: int, images: ImageSet) -> NDArray[np.int64] | None:
    """Instance masks int64 [n, side, side], if every tile has one and none was left out."""
    paths = [tile.mask for tile in folder.data.tiles]
    if len(paths) != len(images) or any(path is None for path in paths):
        return None
    return np.stack([read_tile_mask(path, side) for path in paths if path is not None]).astype(
        np.int64
    )
