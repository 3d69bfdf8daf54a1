"""From a folder to `SiteData`: every row is either a tile that can be trained on or in quarantine.

A row never crashes the agent, and a tile is never counted for two patients.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client.data.images import image_size, mask_size
from client.data.metadata import Row, read_rows
from privacy.errors import DataError


@dataclass(frozen=True, slots=True)
class Tile:
    """One usable tile. `patient` is an index 0..patients-1; the id itself is not kept."""

    path: Path = field(repr=False)
    caption: str = field(repr=False)
    patient: int = field(repr=False)
    slide: str = field(default="", repr=False)
    organ: str = field(default="", repr=False)
    diagnosis: str = field(default="", repr=False)
    mask: Path | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file (or row) that is not used, and why. Stays at the site."""

    file: str = field(repr=False)
    reason: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SiteData:
    """Everything usable, in the order of the metadata."""

    tiles: tuple[Tile, ...] = field(repr=False)
    patients: int = field(repr=False)
    quarantined: tuple[Quarantined, ...] = field(repr=False)


class _Unusable(Exception):
    """The reason why one row goes to quarantine."""


def load_site_data(folder: Path) -> SiteData:
    """Read the folder's metadata and decode every file that it names once.

    Raises `DataError` (which names files and stays at the site) if there is no metadata, a column
    is missing, or not one tile can be used.
    """
    root = folder.resolve()
    rows = read_rows(root)
    usable, quarantined = _locate(root, rows)
    quarantined += _drop_repeated(usable)
    quarantined += _drop_shared(usable)
    tiles, unread = _read(root, usable)
    quarantined += unread
    if not tiles:
        raise DataError(f"{folder} holds no tile that can be used.", _commonest(quarantined))
    return SiteData(tuple(tiles), len({tile.patient for tile in tiles}), tuple(quarantined))


def _locate(
    root: Path, rows: Iterable[Row]
) -> tuple[dict[int, tuple[Row, Path]], list[Quarantined]]:
    """The rows that name a regular file inside `root`, by row number; and the others."""
    usable: dict[int, tuple[Row, Path]] = {}
    quarantined = []
    for row in rows:
        try:
            usable[row.number] = (row, _tile_path(root, row))
        except _Unusable as fault:
            quarantined.append(_quarantined(row, str(fault)))
    return usable, quarantined


def _tile_path(root: Path, row: Row) -> Path:
    if row.fault:
        raise _Unusable(row.fault)
    for column in ("file_name", "text", "patient_id"):
        if not row.values[column]:
            raise _Unusable(f"{column} is empty")
    return _inside(root, row.values["file_name"])


def _inside(root: Path, name: str) -> Path:
    """The file that `name` leads to, links followed; refuses what lies outside of `root`."""
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise _Unusable("leads outside of the data folder")
        if not path.exists():
            raise _Unusable("the file is missing")
        if not path.is_file():  # a folder, or a pipe that would block for ever
            raise _Unusable("not a regular file")
    except (OSError, ValueError, RuntimeError):
        raise _Unusable("not a usable file name") from None
    return path


def _drop_repeated(usable: dict[int, tuple[Row, Path]]) -> list[Quarantined]:
    """Take repeated files out of `usable`: all of their rows if the patients differ."""
    by_path: dict[Path, list[Row]] = {}
    for row, path in usable.values():
        by_path.setdefault(path, []).append(row)
    quarantined = []
    for rows in by_path.values():
        one_patient = len({row.values["patient_id"] for row in rows}) == 1
        reason = "listed before" if one_patient else "listed for several patients"
        for row in rows[1:] if one_patient else rows:
            del usable[row.number]
            quarantined.append(_quarantined(row, reason))
    return quarantined


def _drop_shared(usable: dict[int, tuple[Row, Path]]) -> list[Quarantined]:
    """Take files with the same bytes out of `usable` where they stand under several patients.

    Whose tile it is cannot be known, and a patient may not count under two names.
    """
    by_content: dict[str, list[Row]] = defaultdict(list)
    for row, path in usable.values():
        by_content[_digest(path)].append(row)
    quarantined = []
    for content, rows in by_content.items():
        if content and len({row.values["patient_id"] for row in rows}) > 1:
            for row in rows:
                del usable[row.number]
                quarantined.append(
                    _quarantined(row, "the same picture stands for several patients")
                )
    return quarantined


def _digest(path: Path) -> str:
    """SHA-256 of the file; "" where it cannot be read, which decoding will tell."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _read(
    root: Path, usable: Mapping[int, tuple[Row, Path]]
) -> tuple[list[Tile], list[Quarantined]]:
    tiles = []
    quarantined = []
    patients: dict[str, int] = {}
    for row, path in usable.values():
        try:
            size = image_size(path)
        except DataError as fault:
            quarantined.append(_quarantined(row, fault.message))
            continue
        mask = None
        try:
            mask = _mask(root, row.values["mask"], size)
        except (DataError, _Unusable) as fault:  # the tile itself is fine
            quarantined.append(Quarantined(row.values["mask"], f"mask: {fault}"))
        patient = patients.setdefault(row.values["patient_id"], len(patients))
        tiles.append(_tile(row.values, path, patient, mask))
    return tiles, quarantined


def _mask(root: Path, name: str, size: tuple[int, int]) -> Path | None:
    if not name:
        return None
    path = _inside(root, name)
    if mask_size(path) != size:
        raise _Unusable("its size is not the tile's")
    return path


def _tile(values: Mapping[str, str], path: Path, patient: int, mask: Path | None) -> Tile:
    return Tile(
        path=path,
        caption=values["text"],
        patient=patient,
        slide=values["slide_id"],
        organ=values["organ"],
        diagnosis=values["diagnosis"],
        mask=mask,
    )


def _quarantined(row: Row, reason: str) -> Quarantined:
    return Quarantined(row.values.get("file_name") or f"(row {row.number})", reason)


def _commonest(quarantined: Iterable[Quarantined]) -> str:
    reasons = Counter(entry.reason for entry in quarantined)
    if not reasons:
        return "The metadata file has no rows: list every tile there."
    reason, count = reasons.most_common(1)[0]
    return f"Most often ({count} of {reasons.total()}): {reason}."
