"""Why a file is not the table that its name promises, with the cure; no cell of it is repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from client.data.columns import REQUIRED, known_names
from client.data.delimited import SEPARATORS, records
from model.file_kinds import file_kind, first_bytes
from privacy.errors import DataError

_ARRAY: Final = re.compile(r"\s*\[\s*\{")
_JSON: Final = re.compile(r"\s*(?:\{\s*[\"}]|\[\s*[\[{\"\]])")
_LINES: Final = 50  # so far below the top a header is looked for
_PICTURE: Final = re.compile(r".+\.(png|jpe?g|tiff?|bmp|webp|jp2)", re.IGNORECASE)
_OTHER_QUOTES: Final = re.compile(
    r"(?:['`\u00b4\u2018-\u201f\u00ab\u2039\u300c\[]).+"
    r"['`\u00b4\u2018-\u201f\u00bb\u203a\u300d\]]"
)
_OTHER_ENDS: Final = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_AS_CSV: Final = 'Open it in the program that made it and save it as "CSV UTF-8".'
_UNPACK: Final = "Unpack it, and put metadata.csv beside the tiles."
_CURES: Final = {
    "a zip archive, as Office documents (.xlsx) are too": _AS_CSV,
    "an old Office document (.xls, .doc), or Windows' Thumbs.db": _AS_CSV,
    "a web page, not a file that it offers": _AS_CSV,
    "an XML file, or an answer of a web server": _AS_CSV,
    "a parquet file": "Call it metadata.parquet.",
    "an Arrow or Feather file": "Export the table again, as metadata.parquet or metadata.csv.",
    "a SQLite database": "Export the table from it as metadata.csv.",
    "encrypted": "Decrypt it, and put metadata.csv beside the tiles.",
}


def check_table_kind(path: Path) -> None:
    """Raise `DataError` for a file of another kind than text, whatever its name says."""
    kind = file_kind(first_bytes(path))
    if kind in ("a text file", "a JSON file", "an empty file", ""):
        return
    if kind.startswith("a git-lfs pointer"):
        raise DataError(f"{path} is a git-lfs pointer.", "Fetch the file itself: git lfs pull.")
    cure = _CURES.get(kind, _UNPACK if kind.startswith("packed") else "Export the table again.")
    raise DataError(f"{path} is no table, but {kind}.", cure)


def check_parquet_kind(path: Path) -> None:
    """Raise `DataError` for a .parquet that is of another kind."""
    kind = file_kind(first_bytes(path))
    if kind in ("a parquet file", ""):
        return
    cures = {"a JSON file": "Call it metadata.jsonl.", "a text file": "Call it metadata.csv."}
    cure = cures.get(kind, _CURES.get(kind, "Export the table again."))
    raise DataError(f"{path} is no parquet file, but {kind}.", cure)


def check_not_json(path: Path, text: str) -> None:
    """Raise `DataError` for a .csv that holds JSON."""
    if _JSON.match(text):
        raise DataError(f"{path} holds JSON.", "Call it metadata.jsonl.")


def check_array(path: Path, text: str, error: json.JSONDecodeError) -> None:
    """Raise `DataError` for a broken array of objects: what is read line by line has none."""
    if _ARRAY.match(text):
        raise DataError(
            f"{path} is an array of objects that is broken in line {error.lineno}.",
            "Mend that place (a comma behind the last object, single quotes, a file cut short), or "
            "export it again, best with one object for each tile, in a line of its own "
            "(metadata.jsonl).",
        )


def check_is_json(path: Path, text: str) -> None:
    """Raise `DataError` for a .jsonl whose first line cannot be meant as JSON: a table of cells."""
    first = text.lstrip()[:1]
    if first in ("{", "[", ""):
        return
    line = text.lstrip().split("\n", 1)[0]
    if any(len(_ours(line, separator)) >= 2 for separator in SEPARATORS):
        raise DataError(f"{path} holds no JSON, but a table of cells.", "Call it metadata.csv.")


def check_first_line(path: Path, text: str, header: Sequence[str]) -> None:
    """Raise `DataError` where the first line is no header of ours, and it shows why."""
    if set(REQUIRED) <= {*known_names(tuple(header))}:
        return
    line = next(filter(str.strip, text.split("\n")), "")
    if mark := _odd_quote(line):
        raise DataError(
            f"{path}: its cells begin with {mark}, which is no quote of a CSV file.",
            'Export it again with straight double quotes ("…") around texts.',
        )
    if {*known_names(tuple(cell.strip('"') for cell in header if '"' in cell))} & set(REQUIRED):
        raise DataError(
            f"{path}: its cells are quoted twice.",
            'Export it again with one pair of double quotes ("…") around texts.',
        )
    if len(header) == 1 and any(len(_ours(header[0], mark)) >= 2 for mark in SEPARATORS):
        raise DataError(
            f"{path}: each line is one quoted cell.", "Export it without quotes around whole lines."
        )
    if len(header) == 1 and sum(name in line.casefold() for name in REQUIRED) >= 2:
        raise DataError(
            f"{path}: its cells are separated by something else than a comma, a semicolon, a tab "
            "or a bar.",
            "Export it again as comma-separated CSV.",
        )
    if any(end in line for end in _OTHER_ENDS) and set(REQUIRED) <= _ours_before(line):
        raise DataError(
            f"{path}: its lines do not end with a line feed.",
            "Export it again as comma-separated CSV, with the line ends of Windows or Unix.",
        )
    if number := _header_below(text):
        raise DataError(
            f"{path}: the names of the columns stand in line {number}, not in the first.",
            "Delete what stands above them.",
        )
    if any(_PICTURE.fullmatch(cell.strip()) for cell in header):
        raise DataError(
            f"{path} begins with a tile's row.",
            f"Put a line with the names of the columns above it: {', '.join(REQUIRED)}.",
        )


def _header_below(text: str) -> int:
    """The line, counted from 1, that would be a header; 0 where there is none."""
    for number, line in enumerate(islice(text.split("\n"), _LINES), start=1):
        if any(set(REQUIRED) <= _ours(line, separator) for separator in SEPARATORS):
            return number
    return 0


def _odd_quote(line: str) -> str:
    """What stands around our columns in place of straight double quotes; "" for nothing."""
    for separator in SEPARATORS:
        cells = [cell for cell in map(str.strip, line.split(separator)) if cell]
        quoted = [cell for cell in cells if _OTHER_QUOTES.fullmatch(cell)]
        if {*known_names(tuple(cell[1:-1] for cell in quoted))}.intersection(REQUIRED):
            return quoted[0][0]
    return ""


def _ours_before(line: str) -> set[str]:
    """The columns of ours before the first end of another kind in `line`."""
    first = line.splitlines()[0]
    return max((_ours(first, separator) for separator in SEPARATORS), key=len)


def _ours(line: str, separator: str) -> set[str]:
    cells = next(records(line, separator=separator), None) or ()
    return {*known_names(tuple(cells))}.intersection(REQUIRED)
