"""The rows of `metadata.csv`, `metadata.jsonl` or `metadata.parquet`, as texts.

The contents of a row depend on its own cells alone. Only faults of the whole table are refused: a
missing file, another encoding, a header without a required column, a file that is not parquet.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from client.data.delimited import LONGEST_CELL, records
from privacy.errors import DataError

if TYPE_CHECKING:
    from pyarrow import ChunkedArray

_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
REQUIRED = ("file_name", "text", "patient_id")
OPTIONAL = ("slide_id", "organ", "diagnosis", "mask")
_COLUMNS = REQUIRED + OPTIONAL
_PATHS = ("file_name", "mask")  # may hold bytes that are not UTF-8, as surrogates
# What exports write for "no value"; as a patient id it would merge unrelated people into one.
_NOTHING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})
_WHOLE_NUMBER = re.compile(r"([0-9]++)(?:\.0*+)?")
_LONGEST_ID: Final = 256  # characters
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_WHY_PATIENTS = (
    "Privacy is promised per patient, so every tile needs its patient: add a column patient_id "
    "(any stable code; it never leaves this site)."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: every known column as stripped text, "" where empty; `number` counts from 1.

    `patient_id` is in the form of `patient_key`. A row with a fault has at most that one.
    """

    number: int
    values: Mapping[str, str] = field(repr=False)
    fault: str = ""  # why the row cannot be read at all


_Record = Mapping[str, object] | str  # cells by column, or why there are none


def read_rows(folder: Path) -> list[Row]:
    """All rows of the folder's one metadata file; raises `DataError` with the fix."""
    path = _metadata_file(folder)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        found = readers[path.suffix](path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "") from None
    return [_row(number, record) for number, record in enumerate(found, start=1)]


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
    return (number[1].lstrip("0") or "0") if number else key


def _metadata_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"The data folder {folder} does not exist.", "Correct data.folder.")
    found = [folder / name for name in _TABLES if (folder / name).is_file()]
    if not found:
        raise DataError(
            f"{folder} holds no metadata file.",
            f"Put one of {', '.join(_TABLES)} there, with a row for each tile and the columns "
            f"{', '.join(REQUIRED)} (optional: {', '.join(OPTIONAL)}).",
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{folder} holds {names}.", "Keep the right one.")
    return found[0]


def _read_csv(path: Path) -> Iterator[_Record]:
    text = _text(path)
    header = next(records(text), None)
    if header is None:
        raise DataError(f"{path} has no header.", "Export it again as comma-separated CSV.")
    if _has_halves("".join(header)):
        raise _other_encoding(path)
    _check_columns(path, header)
    return _csv_records(text, header)


def _csv_records(text: str, header: list[str]) -> Iterator[_Record]:
    rows = records(text, cells=len(header))
    next(rows)
    for cells in rows:
        if cells is None:
            yield f"quotes that do not close, or a cell of more than {LONGEST_CELL} characters"
        elif len(cells) > len(header):
            yield "more cells than columns; quote texts that hold a comma"
        else:
            yield dict(zip(header, cells, strict=False))


def _read_jsonl(path: Path) -> Iterator[_Record]:
    """Every line names its own columns: a missing one is missing from that line only."""
    return map(_json, filter(str.strip, _text(path).split("\n")))


def _json(line: str) -> _Record:
    try:
        record = json.loads(line, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        record = None
    return record if isinstance(record, dict) else "the line is not a JSON object, or repeats a key"


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key appears twice")
    return values


def _read_parquet(path: Path) -> Iterator[_Record]:
    # Imported late: only a site with parquet files pays for it.
    from pyarrow import ArrowException, parquet

    try:
        columns = list(parquet.read_schema(path).names)
        wanted = [name for name in columns if name in _COLUMNS]
        table = parquet.read_table(path, columns=wanted)
    except (ArrowException, ValueError, OverflowError):
        raise DataError(f"{path} is damaged or not a parquet file.", "Export it again.") from None
    _check_columns(path, columns)
    cells = [_values(table.column(name)) for name in wanted]
    return (dict(zip(wanted, row, strict=True)) for row in zip(*cells, strict=True))


def _values(column: ChunkedArray) -> list[object]:
    """A column's values; an empty tuple, which is not text, for one that cannot be read."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):  # a text that is not UTF-8, a time out of range
        return [_value(column, number) for number in range(len(column))]


def _value(column: ChunkedArray, number: int) -> object:
    try:
        return column[number].as_py()
    except (ValueError, OverflowError):
        return ()


def _text(path: Path) -> str:
    """The file's text with line feeds only; bytes that are not UTF-8 become lone surrogates."""
    data = path.read_bytes()
    if data.startswith(_UTF_16):
        raise _other_encoding(path)
    text = data.decode("utf-8-sig", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _other_encoding(path: Path) -> DataError:
    return DataError(f"{path} is not UTF-8.", "Save it with the encoding UTF-8.")


def _has_halves(text: str) -> bool:
    """Whether it has a lone surrogate: that is not valid text, and no encoder accepts it."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_columns(path: Path, columns: list[str]) -> None:
    twice = [name for name in _COLUMNS if columns.count(name) > 1]
    if twice:
        raise DataError(
            f"{path} has the column {twice[0]} {columns.count(twice[0])} times.",
            "Keep the right one.",
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
        " ".join(hints) or f"Required are {', '.join(REQUIRED)}.",
    )


def _row(number: int, record: _Record) -> Row:
    if isinstance(record, str):
        return Row(number, {}, record)
    try:
        return Row(number, dict(_cells(record)))
    except TypeError as error:
        return Row(number, _whose(record), str(error))


def _whose(record: Mapping[str, object]) -> dict[str, str]:
    """The patient of a row that cannot be used: who is enrolled does not depend on the rest."""
    try:
        return {name: text for name, text in _cells(record, ("patient_id",)) if text}
    except TypeError:
        return {}


def _cells(
    record: Mapping[str, object], columns: tuple[str, ...] = _COLUMNS
) -> Iterator[tuple[str, str]]:
    for column in columns:
        text = _cell(column, record.get(column))
        yield column, "" if text.casefold() in _NOTHING else text


def _cell(column: str, value: object) -> str:
    """Raises `TypeError` with the reason where the value is not text of an acceptable length."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps comes back as floats
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise TypeError(f"{column} is not text")
    text = "" if value is None else str(value).strip()
    longest = _LONGEST_ID if column == "patient_id" else LONGEST_CELL
    if len(text) > longest:
        raise TypeError(f"{column} has more than {longest} characters")
    if column not in _PATHS and _has_halves(text):
        raise TypeError(f"{column} is not valid text")
    return patient_key(text) if column == "patient_id" else text
