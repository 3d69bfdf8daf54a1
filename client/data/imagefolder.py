"""From a folder to `SiteData`: every row is either a tile that can be trained on or in quarantine.

A row never crashes the agent, and what happens to it depends only on the rows of its own patient
and the files that they name: adding or removing another patient, with any rows and files, changes
no tile, no caption and no order among the tiles of this one (ADR 15). A picture that several
patients list stays with each of them.
"""

# Why: docs/adr/0015-one-patients-rows.md

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from client.data.files import Files, TileFile, UnusableFile
from client.data.metadata import Row, read_rows
from client.data.suspicion import IdAppearance, doubt
from privacy.errors import DataError


@dataclass(frozen=True, slots=True)
class SiteTile:
    """One usable tile. `patient` is an index 0..enrolled-1; the id itself is not kept."""

    path: Path = field(repr=False)
    caption: str = field(repr=False)
    patient: int = field(repr=False)
    digest: bytes = field(repr=False)  # SHA-256 of the file's bytes when it was loaded
    slide: str = field(default="", repr=False)
    organ: str = field(default="", repr=False)
    diagnosis: str = field(default="", repr=False)
    mask: Path | None = field(default=None, repr=False)
    row: int = field(default=0, repr=False)  # of the table, from 1 below the header


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file (or row) that is not used, and why. Stays at the site."""

    file: str = field(repr=False)
    reason: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SiteData:
    """Everything usable, in the order of the metadata.

    A patient's number is the place of the id among the ids of the table, whatever becomes of the
    files and of other rows; it may change with the table, the line stays.
    """

    tiles: tuple[SiteTile, ...] = field(repr=False)
    patients: int = field(repr=False)  # with a usable tile
    quarantined: tuple[Quarantined, ...] = field(repr=False)
    # Of each patient, by number, on request: who it is, whoever else is in the table.
    lines: tuple[bytes, ...] = field(default=(), repr=False)
    doubt: str = field(default="", repr=False)  # why the ids may not be patients'; names none
    enrolled: int = field(default=0, repr=False)  # with a row: those without a usable tile too

    def without(self, withdrawn: Collection[bytes]) -> SiteData:
        """The same without the tiles of these lines; numbers and count of patients stay."""
        out = {number for number, line in enumerate(self.lines) if line in withdrawn}
        return replace(self, tiles=tuple(tile for tile in self.tiles if tile.patient not in out))


# For each tile, given as (patient's id, SHA-256 of its file), the line that it belongs to.
LinesOf = Callable[[Sequence[tuple[str, bytes]]], Sequence[bytes]]
# The line of a patient's id, of whom there may be no tile.
LineOf = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class _Usable:
    """A row whose file is a tile; its caption and ids are in `row`."""

    row: Row
    file: TileFile

    @property
    def patient_id(self) -> str:
        return self.row.values["patient_id"]


def load_site_data(
    folder: Path,
    *,
    lines_of: LinesOf | None = None,
    line_of: LineOf | None = None,
    look: Callable[[Path], TileFile] | None = None,
) -> SiteData:
    """Read the folder's metadata and decode every file that it names once.

    With `lines_of`, tiles with the same line belong to one patient, whatever their ids; otherwise
    those with the same id do. With lines, those who have no usable tile are enrolled only where
    `line_of`, asked after `lines_of`, says who they are. Raises `DataError` only for what no row
    can cause: no folder, no metadata file or several, a header without a required column, a table
    that cannot be read. There may be nothing usable in it, and `doubt` says why the ids may not be
    patients' (see `check_believable`). `look` reads a tile instead of `Files`, and may notice more.
    """
    root = folder.resolve()
    files = Files(root) if look is None else Files(root, look)
    rows = read_rows(root)
    usable, quarantined = _usable(files, rows)
    owners = _owners(usable, lines_of)
    kept, repeated = _without_repeated(zip(usable, owners, strict=True))
    known = {found.patient_id: owner for found, owner in zip(usable, owners, strict=True)}
    numbers = _numbers(rows, known, line_of if lines_of is not None else str)
    tiles, without_mask = _tiles(files, [(found, numbers[owner]) for found, owner in kept])
    return SiteData(
        tiles=tuple(tiles),
        patients=len(set(owners)),
        quarantined=(*quarantined, *repeated, *without_mask),
        lines=tuple(owner for owner in numbers if isinstance(owner, bytes)),
        doubt=doubt(_appearances(found for found, _ in kept)),
        enrolled=len(numbers),
    )


def check_usable(data: SiteData, folder: Path) -> None:
    """Raise `DataError` with the most common reason if no tile can be used."""
    if not data.tiles:
        raise DataError(f"{folder} holds no usable tile.", commonest(data.quarantined))


def commonest(quarantined: Iterable[Quarantined]) -> str:
    """The most common reason, as a sentence that names none of the entries."""
    reasons = Counter(entry.reason for entry in quarantined)
    if not reasons:
        return "The metadata file has no rows: list every tile there."
    reason, count = reasons.most_common(1)[0]
    return f"Most often ({count} of {reasons.total()}): {reason}."


def _usable(files: Files, rows: Iterable[Row]) -> tuple[list[_Usable], list[Quarantined]]:
    """The rows that name a tile, and the others."""
    usable, quarantined = [], []
    for row in rows:
        try:
            usable.append(_Usable(row, _file(files, row)))
        except UnusableFile as fault:
            name = row.values.get("file_name") or f"(row {row.number})"
            quarantined.append(Quarantined(name, str(fault)))
    return usable, quarantined


def _file(files: Files, row: Row) -> TileFile:
    if row.fault:
        raise UnusableFile(row.fault)
    for column in ("file_name", "text", "patient_id"):
        if not row.values[column]:
            cure = "; write it in every row, also of merged cells" * (column == "patient_id")
            raise UnusableFile(f"{column} is empty{cure}")
    return files.tile(row.values["file_name"])


def _owners(usable: Sequence[_Usable], lines_of: LinesOf | None) -> Sequence[bytes | str]:
    """The owner of each tile: the line, or the id where no lines are kept."""
    if lines_of is None:
        return [found.patient_id for found in usable]
    return lines_of([(found.patient_id, found.file.digest) for found in usable])


def _numbers(
    rows: Iterable[Row],
    known: Mapping[str, bytes | str],
    owner_of: Callable[[str], bytes | str] | None,
) -> dict[bytes | str, int]:
    """A number for every owner, in the order of the table; the ids of tiles are `known`.

    A file that cannot be read any more moves nobody: the rows of its patient keep their number.
    """
    owners = dict(known)
    numbers: dict[bytes | str, int] = {}
    for row in rows:
        name = row.values.get("patient_id", "")
        if name and name not in owners and owner_of is not None:
            owners[name] = owner_of(name)
        if name in owners:
            numbers.setdefault(owners[name], len(numbers))
    return numbers


_Owned = tuple[_Usable, bytes | str]


def _without_repeated(owned: Iterable[_Owned]) -> tuple[list[_Owned], list[Quarantined]]:
    """Each file once for each patient who lists it, by the first of the patient's own rows."""
    seen: set[tuple[bytes | str, Path]] = set()
    kept, repeated = [], []
    for found, owner in owned:
        if (owner, found.file.path) in seen:
            repeated.append(Quarantined(found.row.values["file_name"], "listed before"))
            continue
        seen.add((owner, found.file.path))
        kept.append((found, owner))
    return kept, repeated


def _appearances(usable: Iterable[_Usable]) -> dict[str, IdAppearance]:
    tiles: Counter[str] = Counter()
    slides: dict[str, set[str]] = defaultdict(set)
    for found in usable:
        tiles[found.patient_id] += 1
        slides[found.patient_id].add(found.row.values["slide_id"])
    return {
        name: IdAppearance(count, frozenset(slides[name] - {""})) for name, count in tiles.items()
    }


def _tiles(
    files: Files, owned: Iterable[tuple[_Usable, int]]
) -> tuple[list[SiteTile], list[Quarantined]]:
    """The tiles, and the masks that cannot be used: the tiles themselves are fine."""
    tiles, quarantined = [], []
    for found, patient in owned:
        name = found.row.values["mask"]
        mask = None
        try:
            mask = files.mask(name, found.file)
        except UnusableFile as fault:
            quarantined.append(Quarantined(name, f"mask: {fault}"))
        tiles.append(_tile(found, patient, mask))
    return tiles, quarantined


def _tile(found: _Usable, patient: int, mask: Path | None) -> SiteTile:
    values = found.row.values
    return SiteTile(
        path=found.file.path,
        caption=values["text"],
        patient=patient,
        digest=found.file.digest,
        slide=values["slide_id"],
        organ=values["organ"],
        diagnosis=values["diagnosis"],
        mask=mask,
        row=found.row.number,
    )
