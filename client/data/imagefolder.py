"""From a folder to `SiteData`: every row is either a tile that can be trained on or in quarantine.

A row never crashes the agent, and a tile is never counted for two patients.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from client.data.images import image_size, mask_size
from client.data.metadata import Row, read_rows
from client.data.suspicion import Appearance, doubt, refuse_doubtful
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
    lines: tuple[bytes, ...] = field(default=(), repr=False)  # of each patient, where asked for
    doubt: str = field(default="", repr=False)  # why the ids may be no patients'; names none

    def without(self, withdrawn: Collection[bytes]) -> SiteData:
        """The same without the tiles of these lines; numbers and count of patients stay."""
        out = {number for number, line in enumerate(self.lines) if line in withdrawn}
        return replace(self, tiles=tuple(tile for tile in self.tiles if tile.patient not in out))


# For each tile, given as (patient's id, SHA-256 of its file), the line that it belongs to.
LinesOf = Callable[[Sequence[tuple[str, bytes]]], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class _Usable:
    """A row whose file can be read; its caption and ids are in `row`."""

    row: Row
    path: Path
    digest: bytes  # SHA-256 of the file; empty where it cannot be read, which decoding will tell

    @property
    def patient_id(self) -> str:
        return self.row.values["patient_id"]


class _Unusable(Exception):
    """The reason why one row goes to quarantine."""


def load_site_data(
    folder: Path, *, lines_of: LinesOf | None = None, ids_confirmed: bool = False
) -> SiteData:
    """Read the folder's metadata and decode every file that it names once.

    With `lines_of`, tiles of one line are one patient's, whatever their ids; else those of one id.
    Raises `DataError` (which names files and stays at the site) if there is no metadata, a column
    is missing, or not one tile can be used; also where the ids do not seem to be patients', unless
    `ids_confirmed`: then `doubt` says why.
    """
    root = folder.resolve()
    located, quarantined = _locate(root, read_rows(root))
    quarantined += _drop_repeated(located)
    usable = {number: _Usable(*found, _digest(found[1])) for number, found in located.items()}
    quarantined += _drop_shared(usable)
    quarantined += _drop_unreadable(usable)
    if not usable:
        raise DataError(f"{folder} holds no tile that can be used.", _commonest(quarantined))
    reason = doubt(_appearances(usable.values()))
    if reason and not ids_confirmed:
        refuse_doubtful(reason)
    owners = _owners(tuple(usable.values()), lines_of)
    numbers = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
    tiles, without_mask = _tiles(root, usable.values(), [numbers[owner] for owner in owners])
    return SiteData(
        tiles=tuple(tiles),
        patients=len(numbers),
        quarantined=(*quarantined, *without_mask),
        lines=tuple(owner for owner in numbers if isinstance(owner, bytes)),
        doubt=reason,
    )


def _owners(usable: Sequence[_Usable], lines_of: LinesOf | None) -> Sequence[bytes | str]:
    """Whose each tile is: the line, or the id where nobody keeps lines."""
    if lines_of is None:
        return [tile.patient_id for tile in usable]
    return lines_of([(tile.patient_id, tile.digest) for tile in usable])


def _appearances(usable: Iterable[_Usable]) -> dict[str, Appearance]:
    tiles: Counter[str] = Counter()
    slides: dict[str, set[str]] = defaultdict(set)
    for tile in usable:
        tiles[tile.patient_id] += 1
        slides[tile.patient_id].add(tile.row.values["slide_id"])
    return {
        name: Appearance(count, frozenset(slides[name] - {""})) for name, count in tiles.items()
    }


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


def _drop_shared(usable: dict[int, _Usable]) -> list[Quarantined]:
    """Take files with the same bytes out of `usable` where they stand under several patients.

    Whose tile it is cannot be known, and a patient may not count under two names.
    """
    by_content: dict[bytes, list[_Usable]] = defaultdict(list)
    for tile in usable.values():
        by_content[tile.digest].append(tile)
    quarantined = []
    for content, tiles in by_content.items():
        if content and len({tile.patient_id for tile in tiles}) > 1:
            for tile in tiles:
                del usable[tile.row.number]
                reason = "the same picture stands for several patients"
                quarantined.append(_quarantined(tile.row, reason))
    return quarantined


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


def _drop_unreadable(usable: dict[int, _Usable]) -> list[Quarantined]:
    """Take files that do not decode out of `usable`."""
    quarantined = []
    for tile in tuple(usable.values()):
        try:
            image_size(tile.path)
        except DataError as fault:
            del usable[tile.row.number]
            quarantined.append(_quarantined(tile.row, fault.message))
    return quarantined


def _tiles(
    root: Path, usable: Iterable[_Usable], patients: Iterable[int]
) -> tuple[list[Tile], list[Quarantined]]:
    """The tiles, and the masks that cannot be used: the tiles themselves are fine."""
    tiles = []
    quarantined = []
    for found, patient in zip(usable, patients, strict=True):
        mask = None
        try:
            mask = _mask(root, found)
        except (DataError, _Unusable) as fault:
            quarantined.append(Quarantined(found.row.values["mask"], f"mask: {fault}"))
        tiles.append(_tile(found, patient, mask))
    return tiles, quarantined


def _mask(root: Path, found: _Usable) -> Path | None:
    name = found.row.values["mask"]
    if not name:
        return None
    path = _inside(root, name)
    if mask_size(path) != image_size(found.path):
        raise _Unusable("its size is not the tile's")
    return path


def _tile(found: _Usable, patient: int, mask: Path | None) -> Tile:
    values: Mapping[str, str] = found.row.values
    return Tile(
        path=found.path,
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
