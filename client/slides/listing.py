"""The slides of a folder, by its table: like a tile folder's, with a row for each slide."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final

from client.data.columns import REQUIRED
from client.data.imagefolder import Quarantined
from client.data.metadata import Row, read_rows
from client.data.spelling import Spelling
from client.slides.unusable import UnusableSlide
from privacy.errors import DataError

# What OpenSlide's formats are called. Not DICOM, whose slides are several files each.
_SLIDES: Final = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif"),
    ".czi",
)


@dataclass(frozen=True, slots=True)
class ListedSlide:
    """A slide's file, and what the table says of it."""

    path: Path = field(repr=False)
    name: str = field(repr=False)  # seen from the slides' folder
    values: Mapping[str, str] = field(repr=False)

    @property
    def patient(self) -> str:
        """The id, in the form of `patient_key`."""
        return self.values["patient_id"]

    def stamp(self) -> str:
        """Changes when the file does; raises `UnusableSlide` where it is gone."""
        try:
            facts = self.path.stat()
        except OSError:
            raise UnusableSlide("the file is missing") from None
        return f"{facts.st_size}-{facts.st_mtime_ns}"


@dataclass(frozen=True, slots=True)
class SlideList:
    """A folder's slides: those to be cut, rows that name none, and files that no row names."""

    slides: list[ListedSlide]
    left_out: list[Quarantined]
    unnamed: int


def list_slides(folder: Path) -> SlideList:
    """The slides that the folder's table names, and what is not among them.

    A slide under two patients' ids is nobody's: nothing says which of the two is wrong. Raises
    `DataError` where the table as a whole cannot be read.
    """
    if not folder.is_dir():
        wrong = f"{folder} is a file" if folder.exists() else f"The folder {folder} does not exist"
        raise DataError(
            f"{wrong}.",
            "Give the folder with the slides and their metadata.csv.",
        )
    root = folder.resolve()
    spelling = Spelling()
    found, left_out = [], []
    for row in _rows(root):
        try:
            found.append(_listed(root, row, spelling))
        except UnusableSlide as fault:
            name = row.values.get("file_name") or f"(row {row.number})"
            left_out.append(Quarantined(name, str(fault)))
    kept, repeated = _without_repeated(found)
    named = {slide.path for slide in found}
    spelt = {_plain(PurePath(entry.file.replace("\\", "/")).name) for entry in left_out}
    unnamed = sum(path not in named and _plain(path.name) not in spelt for path in _slides_in(root))
    return SlideList(kept, left_out + repeated, unnamed)


def _slides_in(root: Path) -> Iterator[Path]:
    """Files below `root` that are called as slides are."""
    for folder, _, names in os.walk(root):
        yield from (Path(folder, name) for name in names if name.lower().endswith(_SLIDES))


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _rows(root: Path) -> list[Row]:
    try:
        return read_rows(root)
    except DataError as fault:
        raise DataError(
            fault.message, f"{fault.hint} In this folder, each row is a slide.".strip()
        ) from None


def _listed(root: Path, row: Row, spelling: Spelling) -> ListedSlide:
    if row.fault:
        raise UnusableSlide(row.fault)
    for column in REQUIRED:
        if not row.values[column]:
            raise UnusableSlide(f"{column} is empty")
    path = _path(root, row.values["file_name"], spelling)
    return ListedSlide(path, path.relative_to(root).as_posix(), row.values)


def _path(root: Path, name: str, spelling: Spelling) -> Path:
    """The file below `root`; it may be a link, as slides often lie in an archive."""
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise UnusableSlide("leads outside of the slides' folder")
    try:
        path = root / PurePath(name)
        if not path.exists():
            path = spelling.find(root, name)
        if not path.is_file():
            raise UnusableSlide("not a regular file")
    except LookupError as fault:
        raise UnusableSlide(str(fault)) from None
    except (OSError, ValueError):
        raise UnusableSlide("not a usable file name") from None
    return path


def _without_repeated(
    found: Iterable[ListedSlide],
) -> tuple[list[ListedSlide], list[Quarantined]]:
    patients: dict[Path, set[str]] = defaultdict(set)
    slides = [(slide, slide.path.resolve()) for slide in found]
    for slide, file in slides:
        patients[file].add(slide.patient)
    seen: set[Path] = set()
    kept, left_out = [], []
    for slide, file in slides:
        if len(patients[file]) > 1:
            reason = "listed for several patients; correct the table"
            left_out.append(Quarantined(slide.values["file_name"], reason))
        elif file in seen:
            left_out.append(Quarantined(slide.values["file_name"], "listed before"))
        else:
            seen.add(file)
            kept.append(slide)
    return kept, left_out
