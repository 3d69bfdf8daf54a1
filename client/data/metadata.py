"""The rows of a folder's table, as texts.

The contents of a row depend on its own cells alone. Only faults of the whole table are refused: a
missing file, another encoding, a header without a required column, a file that is not parquet.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from client.data.captions import caption_fault
from client.data.cells import cell_fault, cell_text, unwrapped
from client.data.columns import REQUIRED, TABLE_COLUMNS, renaming
from client.data.delimited import LONGEST_CELL
from client.data.encodings import has_halves, western
from client.data.json_records import TableRecord
from client.data.patient_ids import (
    DATED,
    NOTHING,
    SEVERAL_IDS,
    SHORTENED,
    id_fault,
    patient_key,
)
from client.data.tables import read_table

__all__ = ["Row", "patient_key", "read_rows"]

_PATHS = ("file_name", "mask")  # may hold bytes that are not UTF-8, as surrogates
_LONGEST_ID: Final = 256  # characters
_EXACT: Final = 2.0**53  # from here on a float stands for several whole numbers
_INVISIBLE: Final = "\ufeff\u200b\u200c\u200d\u2060\u200e\u200f\u00ad"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: every known column as stripped text, "" where empty; `number` counts from 1.

    `patient_id` is in the form of `patient_key`. A row with a fault has at most that one.
    """

    number: int
    values: Mapping[str, str] = field(repr=False)
    fault: str = ""  # why the row cannot be read at all


def read_rows(folder: Path) -> list[Row]:
    """All rows of the folder's one metadata file; raises `DataError` with the fix."""
    records = enumerate(read_table(folder), start=1)
    return [_row(number, record) for number, record in records if not _is_blank(record)]


def _is_blank(record: TableRecord) -> bool:
    """Whether nothing stands in it: spreadsheets write thousands of such rows below a table."""
    return not isinstance(record, str) and all(value in ("", None) for value in record.values())


def _row(number: int, record: TableRecord) -> Row:
    if isinstance(record, str):
        return Row(number, {}, record)
    if absent := [name for name in REQUIRED if name not in record]:
        fault = f"it has no {absent[0]}; the names are {', '.join(REQUIRED)}"
        if near := renaming(absent, tuple(record)):
            fault += f": rename {near}"
        return Row(number, _whose(record), fault)
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
    record: Mapping[str, object], columns: tuple[str, ...] = TABLE_COLUMNS
) -> Iterator[tuple[str, str]]:
    for column in columns:
        text = _cell(column, record.get(column))
        yield column, "" if text.casefold() in NOTHING else text


def _cell(column: str, value: object) -> str:
    """Raises `TypeError` with the reason where the value is not text of an acceptable length."""
    text = unwrapped(_text(column, value))
    longest = _LONGEST_ID if column == "patient_id" else LONGEST_CELL
    if len(text) > longest:
        raise TypeError(f"{column} has more than {longest} characters")
    if column not in _PATHS:
        text = western(text)
        if has_halves(text):
            raise TypeError(
                f"{column} is not valid text"
                + _NOT_UTF_8 * any("\udc80" <= letter <= "\udcff" for letter in text)
            )
        text = cell_text(text)
        if fault := cell_fault(text):
            raise TypeError(f"{column} {fault}")
    if column == "text" and (fault := caption_fault(text)):
        raise TypeError(fault)
    if column != "patient_id":
        return text
    if fault := id_fault(text):
        raise TypeError(fault)
    return patient_key(text)


_NOT_UTF_8: Final = ": the table is not UTF-8 there; save it with that encoding"


_LIST: Final = "text is a list; write one text"


def _text(column: str, value: object) -> str:
    if column == "patient_id":
        if isinstance(value, float) and abs(value) >= _EXACT and math.isfinite(value):
            raise TypeError(SHORTENED)
        if isinstance(value, datetime.date | datetime.time):
            raise TypeError(DATED)
    if isinstance(value, list):
        cures = {"patient_id": SEVERAL_IDS, "text": f"{_LIST}, of several captions one or all"}
        raise TypeError(cures.get(column, f"{column} is a list; write one text"))
    if isinstance(value, bytes):  # a text of Spark's or Impala's, without a word of its encoding
        value = value.decode(errors="surrogateescape")
    if isinstance(value, Decimal) and value.is_finite():  # a number of a database's
        value = int(value) if value == value.to_integral_value() else format(value.normalize(), "f")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps comes back as floats
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise TypeError(f"{column} is not text")
    if isinstance(value, float) and math.isinf(value):
        raise TypeError(f"{column} is not text")
    return "" if value is None else str(value).strip().strip(_INVISIBLE).strip()
