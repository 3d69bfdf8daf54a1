"""The rows of `metadata.csv`, `metadata.jsonl` or `metadata.parquet`, as texts."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from privacy.errors import DataError

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
REQUIRED = ("file_name", "text", "patient_id")
OPTIONAL = ("slide_id", "organ", "diagnosis", "mask")
_COLUMNS = REQUIRED + OPTIONAL
_PATHS = ("file_name", "mask")  # may hold bytes that are not UTF-8, as surrogates
# What exports write for "no value"; as a patient id it would merge strangers into one patient.
_NOTHING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})
_WHOLE_NUMBER = re.compile(r"0*([0-9]+?)(?:\.0*)?")
_WHY_PATIENTS = (
    "Privacy is promised per patient, so every tile needs its patient: add a column patient_id "
    "(any stable code; it never leaves this site)."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: every known column as stripped text, "" where empty; `number` counts from 1.

    `patient_id` is in the form of `patient_key`.
    """

    number: int
    values: Mapping[str, str] = field(repr=False)
    fault: str = ""  # why the row cannot be read at all


def read_rows(folder: Path) -> list[Row]:
    """All rows of the folder's one metadata file; raises `DataError` with the fix."""
    path = _metadata_file(folder)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        columns, records = readers[path.suffix](path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "") from None
    _check_columns(path, columns)
    return [_row(number, record) for number, record in enumerate(records, start=1)]


def patient_key(text: str) -> str:
    """One form for all the ways in which tables write one patient's id.

    `P1`, `p1` and `P 1` are one patient, so are `001`, `1` and `1.0`, and letters that only look
    alike in Unicode's eyes (NFKC). Patients who are taken for one are still protected, together;
    a patient who is taken for two would be protected half.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    shown = (c for c in folded if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf"))
    key = "".join(shown)
    number = _WHOLE_NUMBER.fullmatch(key)
    return number[1] if number else key


def _metadata_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"The data folder {folder} does not exist.", "Correct data.folder.")
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if not found:
        raise DataError(
            f"{folder} holds no metadata file.",
            f"Put one of {', '.join(NAMES)} there, with a row for each tile and the columns "
            f"{', '.join(REQUIRED)} (optional: {', '.join(OPTIONAL)}).",
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{folder} holds {names}.", "Keep the one that counts.")
    return found[0]


def _read_csv(path: Path) -> tuple[list[str], Iterable[object]]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        return list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: {error}.", "Export it again as comma-separated CSV."
        ) from None


def _read_jsonl(path: Path) -> tuple[list[str], Iterable[object]]:
    lines = [line for line in _text(path).split("\n") if line.strip()]
    records = [_json(line) for line in lines]
    columns = {name: None for record in records if isinstance(record, dict) for name in record}
    return list(columns), records


def _json(line: str) -> object:
    try:
        return json.loads(line, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        return None


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice")
    return values


def _read_parquet(path: Path) -> tuple[list[str], Iterable[object]]:
    # Imported late: only a site with parquet files pays for it.
    from pyarrow import ArrowException, parquet

    try:
        columns = list(parquet.read_schema(path).names)
        wanted = [name for name in columns if name in _COLUMNS]
        return columns, parquet.read_table(path, columns=wanted).to_pylist()
    except (ArrowException, ValueError, OverflowError):  # also texts that are not UTF-8
        raise DataError(f"{path} is damaged or no parquet file.", "Export it again.") from None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start}).", "Save it with the encoding UTF-8."
        ) from None


def _check_columns(path: Path, columns: list[str]) -> None:
    twice = [name for name in _COLUMNS if columns.count(name) > 1]
    if twice:
        raise DataError(
            f"{path} has the column {twice[0]} {columns.count(twice[0])} times.",
            "Keep the one that counts.",
        )
    missing = [name for name in REQUIRED if name not in columns]
    if not missing:
        return
    hints = [_WHY_PATIENTS] if "patient_id" in missing else []
    for name in missing:
        near = difflib.get_close_matches(name, columns, n=1)
        hints.extend(f"Rename the column {found} to {name}." for found in near)
    raise DataError(
        f"{path} has no column {' and no column '.join(missing)}.",
        " ".join(hints) or f"Needed are {', '.join(REQUIRED)}.",
    )


def _row(number: int, record: object) -> Row:
    if not isinstance(record, dict):
        return Row(number, {}, "the line is no JSON object, or repeats a key")
    if None in record:  # DictReader's key for cells beyond the header
        return Row(number, {}, "more cells than columns; quote texts that hold a comma")
    try:
        return Row(number, dict(_cells(record)))
    except TypeError as error:
        return Row(number, {}, str(error))


def _cells(record: Mapping[object, object]) -> Iterator[tuple[str, str]]:
    for column in _COLUMNS:
        value = record.get(column)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # a column of whole numbers with gaps comes back as floats
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise TypeError(f"{column} is no text")
        text = "" if value is None else str(value).strip()
        if column not in _PATHS and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise TypeError(f"{column} is no valid text")  # half of a pair; no encoder takes it
        if column == "patient_id":
            text = patient_key(text)
        yield column, "" if text.casefold() in _NOTHING else text
