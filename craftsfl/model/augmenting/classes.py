"""A user's own classes: tiles whose label stands in a column of their table, and their captions."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import numpy as np

from client.data.imagefolder import SiteTile
from client.data.tables import read_table
from craftsfl.model.evaluation.inputs import TileFolder, read_tiles
from model.arrays import Groups
from privacy.errors import ConfigError, DataError
from privacy.visible import visible

_MARKUP: Final = re.compile(r"<[^<>]*>|&#?\w+;")
_LONGEST: Final = 300  # characters of a caption
MOST_CLASSES: Final = 200
_FORMULA: Final = re.compile(r"[=@]|[+-].*[(|!]")
_LISTED: Final = 5


@dataclass(frozen=True, slots=True)
class OwnClass:
    """One class: its label, what its pictures are drawn by, and how many real ones there are."""

    label: str
    organ: str
    captions: tuple[str, ...]
    tiles: int
    patients: int


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles [n] with the class of each, int64 [n], and whose it is."""

    folder: TileFolder = field(repr=False)
    tiles: tuple[SiteTile, ...] = field(repr=False)
    numbers: Groups = field(repr=False)
    patients: Groups = field(repr=False)
    classes: tuple[OwnClass, ...]
    unlabelled: int  # tiles without a label, which are left out
    mixed: int = 0  # patients who have tiles of several classes


def read_classes(
    folder: Path, column: str, captions: Path | None, folds: int, *, ids_confirmed: bool
) -> LabelledTiles:
    """The labelled tiles of `folder`, in every class of which are `folds` patients or more.

    Raises `DataError`, which may name classes and stays at the site, and `ConfigError`.
    """
    found = read_tiles(folder, ids_confirmed=ids_confirmed)
    labels = tile_labels(folder, column, found.data.tiles)
    rows = [row for row, label in enumerate(labels) if label]
    if not rows:
        raise DataError(
            f"No tile of {folder} has a label in the column {visible(column)}.",
            "Fill it in, or name another column with --label.",
        )
    names = sorted({labels[row] for row in rows})
    _check_names(names, column)
    if len(names) < 2:
        raise DataError(
            f"All labelled tiles are of one class, {visible(names[0])}.",
            "A classifier needs two classes or more: label others, or name another column "
            "(--label).",
        )
    tiles = tuple(found.data.tiles[row] for row in rows)
    numbers = np.array([names.index(labels[row]) for row in rows], np.int64)
    patients = np.array([tile.patient for tile in tiles], np.int64)
    said = None if captions is None else _read_captions(captions, names)
    classes = tuple(
        _class(name, [tiles[row] for row in np.flatnonzero(numbers == number)], said)
        for number, name in enumerate(names)
    )
    _check_patients(classes, folds)
    left, mixed = len(labels) - len(rows), _in_several(numbers, patients)
    return LabelledTiles(found, tiles, numbers, patients, classes, left, mixed)


def _check_names(names: Sequence[str], column: str) -> None:
    """Raise `DataError` for labels that are none, or would act where somebody opens a table."""
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"The column {visible(column)} holds {len(names)} different labels: at most "
            f"{MOST_CLASSES} can be compared.",
            "A class is shared by many patients; ids, file names and free texts are none. Name "
            "another column with --label.",
        )
    acting = [name for name in names if _FORMULA.match(name)]
    if acting:
        raise DataError(
            f"The label {visible(acting[0], most=80)} is a formula: whoever opens the tables of "
            "drawn pictures in a spreadsheet would run it.",
            "Write the label as words.",
        )


def _in_several(numbers: Groups, patients: Groups) -> int:
    """How many patients have tiles of more than one class."""
    pairs = np.unique(np.stack([patients, numbers]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def tile_labels(folder: Path, column: str, tiles: Sequence[SiteTile]) -> list[str]:
    """The label of each tile in the table's `column`, "" where it has none; raises `DataError`."""
    records = list(read_table(folder))
    columns = {name for record in records if isinstance(record, Mapping) for name in record}
    if column not in columns:
        near = get_close_matches(column, columns, n=3)
        raise DataError(
            f"The table of {folder} has no column {visible(column)}: there are no labels.",
            f"Did you mean --label {visible(near[0])}?"
            if near
            else f"Name one with --label; there are {visible(', '.join(sorted(columns)))}.",
        )
    labels = []
    for tile in tiles:
        record = records[tile.row - 1]
        value = record.get(column) if isinstance(record, Mapping) else None
        labels.append("" if value is None else " ".join(str(value).split()))
    return labels


def _class(
    name: str, tiles: Sequence[SiteTile], said: Mapping[str, tuple[str, ...]] | None
) -> OwnClass:
    organs = Counter(tile.organ for tile in tiles if tile.organ)
    organ = organs.most_common(1)[0][0] if organs else ""
    captions = (f"{name}, {organ}." if organ else f"{name}.",) if said is None else said[name]
    for text in captions:
        _check_plain(name, text)
    return OwnClass(name, organ, captions, len(tiles), len({tile.patient for tile in tiles}))


def _check_plain(name: str, text: str) -> None:
    """Raise `DataError` for a caption that is more, or less, than a line of plain text."""
    if _MARKUP.search(text):
        raise DataError(
            f"The caption of the class {visible(name)} holds markup: {visible(text, most=80)}",
            "A caption is plain text: take the tags out, in the table or with --captions.",
        )
    if visible(text) != text:
        raise DataError(
            f"The caption of the class {visible(name)} holds characters that cannot be seen: "
            f"{visible(text, most=80)}",
            "Type it anew.",
        )
    if not text.strip() or len(text) > _LONGEST:
        raise DataError(
            f"A caption of the class {visible(name)} is empty, or longer than {_LONGEST} "
            "characters.",
            "Give a sentence.",
        )


def _check_patients(classes: Sequence[OwnClass], folds: int) -> None:
    few = sorted((own.patients, own.label) for own in classes if own.patients < folds)
    if not few:
        return
    listed = ", ".join(f"{visible(name, most=60)} ({count})" for count, name in few[:_LISTED])
    more = f" and {len(few) - _LISTED} more" if len(few) > _LISTED else ""
    alone = sum(count < 2 for count, _ in few)
    cure = f"--folds {few[alone][0]}" if alone < len(few) else ""
    if alone:
        cure = (
            "Nobody can be tested on a class of one patient: empty its labels, or put it together "
            f"with another one in a column of your own (--label). {cure and f'Then {cure}.'}"
        ).strip()
    raise DataError(
        f"{len(few)} of {len(classes)} classes have tiles of fewer patients than the {folds} "
        f"folds: {listed}{more}.",
        cure,
    )


def _read_captions(path: Path, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The captions of each class, from a CSV file with the columns label and text."""
    found: dict[str, list[str]] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"label", "text"} <= set(rows.fieldnames or ()):
                raise ConfigError(
                    f"{path} has not the columns label and text.", "Write them in its first line."
                )
            for row in rows:
                found[" ".join((row["label"] or "").split())].append((row["text"] or "").strip())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"{path} is no CSV file in UTF-8.", "Export it again.") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise ConfigError(
            f"{path} has no caption for {visible(', '.join(missing), most=200)}.",
            "Write a line for each class.",
        )
    return {name: tuple(dict.fromkeys(found[name])) for name in names}
