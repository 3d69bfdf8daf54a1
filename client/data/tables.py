"""The records of a folder's one table: CSV as spreadsheets write it, JSON, or parquet.

How a table is to be read follows from its name, its first bytes and its header, and from no row.
What a row's cells are depends on the row alone. Raised are faults of the whole table.
"""

# Why: docs/adr/0054-tables-as-hospitals-write-them.md

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from client.data.columns import (
    OPTIONAL,
    REQUIRED,
    TABLE_COLUMNS,
    check_header,
    known_names,
    likeness,
)
from client.data.delimited import LONGEST_CELL, SEPARATORS, records
from client.data.encodings import ENDS_OF_FILES, has_halves, other_encoding, table_text
from client.data.json_records import TableRecord, read_objects
from client.data.not_a_table import (
    check_first_line,
    check_not_json,
    check_parquet_kind,
    check_table_kind,
)
from privacy.errors import DataError
from privacy.visible import visible

if TYPE_CHECKING:
    from pyarrow import ChunkedArray

_NO_FOLDER: Final = "Check the path; of a site, it is data.folder in site.toml."
_TABLES: Final = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_SPREADSHEETS: Final = (
    *(".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods", ".numbers", ".json", ".jsonl", ".parquet"),
)
_SEP: Final = re.compile(r'"?sep=([^\w"\n])"?[,;\t|]*\n', re.IGNORECASE)


def read_table(folder: Path) -> Iterator[TableRecord]:
    """The records of the folder's table; raises `DataError` with the fix."""
    path = _table_of(folder)
    readers = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".json": read_objects,
        ".jsonl": read_objects,
        ".parquet": _read_parquet,
    }
    try:
        return readers[path.suffix.lower()](path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or 'its disk does not give it'}.",
            "Give the user who runs this the right to read it, and check the disk.",
        ) from None


def _table_of(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"The data folder {folder} does not exist.", _NO_FOLDER)
    found = [folder / name for name in _TABLES if (folder / name).is_file()]
    if not found:
        found = _other_names(folder)
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{folder} holds {names}.", "Keep the right one.")
    return found[0]


def _other_names(folder: Path) -> list[Path]:
    """`METADATA.CSV`, `metadata.tsv` or `metadata.json`; raises `DataError` where none is there."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"{folder} cannot be listed: {error.strerror}.", "Give its owner the right to read it."
        ) from None
    read = (*_TABLES, "metadata.tsv", "metadata.json")
    found = [path for path in entries if path.name.lower() in read and path.is_file()]
    if found:
        return found
    words = (
        f"Put one of {', '.join(_TABLES)} there, with a row for each tile and the columns "
        f"{', '.join(REQUIRED)} (optional: {', '.join(OPTIONAL)})."
    )
    raise DataError(f"{folder} holds no metadata file.", f"{_near_miss(entries)}{words}")


def _near_miss(entries: Sequence[Path]) -> str:
    """What to do with the file that is probably meant, and a blank; "" where there is none."""
    shown = [path for path in entries if not path.name.startswith((".", "~$"))]
    files = [path for path in shown if path.suffix.lower() in _SPREADSHEETS and path.is_file()]
    named = [path for path in shown if path.stem.lower().startswith("metadata") and path.is_file()]
    below = [path for path in shown if (path / _TABLES[0]).is_file()]
    if named or len(files) == 1:
        shown_name = visible((named or files)[0].name, most=80)
        if shown_name.lower().endswith((".gz", ".zip", ".bz2", ".xz", ".7z")):
            return f"{shown_name} is not read: unpack it. "
        return (
            f"{shown_name} is not read: save it as metadata.csv "
            '(in Excel: Save as, "CSV UTF-8"), and have Windows show the endings of file names. '
        )
    if below:
        return (
            f"There is one in {visible(below[0].name, most=80)}: name that folder as the data "
            "folder if all tiles are in it. "
        )
    return ""


def _read_csv(path: Path) -> Iterator[TableRecord]:
    check_table_kind(path)
    text = table_text(path, utf_16=True)
    check_not_json(path, text)
    text = text.rstrip(ENDS_OF_FILES)
    announced = _SEP.match(text)
    if announced:
        text = text[announced.end() :]
    separator, header = _header(text, announced[1] if announced else "")
    if header is None:
        raise DataError(f"{path} has no header.", "Export it again as comma-separated CSV.")
    if has_halves("".join(header)) or "\0" in "".join(header):
        raise other_encoding(path)
    columns = known_names(tuple(header))
    check_first_line(path, text, header)
    check_header(path, columns)
    return _csv_records(text, columns, separator, spaced=any(name[:1] == " " for name in header))


def _header(text: str, announced: str) -> tuple[str, list[str] | None]:
    """The separator that makes most of the header our columns, and the header."""
    found = {}
    for separator in dict.fromkeys((*announced, *SEPARATORS)):
        header = next(records(text, separator=separator), None)
        found[separator] = (likeness(header or ()), header)
    best = max(found, key=lambda separator: found[separator][0])
    return best, found[best][1]


def _csv_records(
    text: str, columns: Sequence[str], separator: str, *, spaced: bool
) -> Iterator[TableRecord]:
    rows = records(text, cells=len(columns), separator=separator)
    next(rows)
    for cells in rows:
        if cells is None:
            yield (
                f"quotes that do not close, or a cell of more than {LONGEST_CELL} characters; "
                "write a quote within a text twice"
            )
        elif len(cells) > len(columns) and not any(map(str.strip, cells[len(columns) :])):
            yield (
                "more cells than columns, the last ones empty; take the separators off the ends of "
                "the lines, or end the first line with as many"
            )
        elif len(cells) > len(columns):
            yield (
                "more cells than columns; quote texts that hold a comma, as "
                '"…", and name every column in the first line'
            ).replace("a comma", _SEPARATOR_WORDS.get(separator, "the separator"))
        elif len(cells) == 1 and (other := _other_separator(cells[0], len(columns))):
            yield (
                f"its cells are separated by {_SEPARATOR_WORDS[other]}, those of the first line by "
                f"{_SEPARATOR_WORDS.get(separator, 'another sign')}; write the same in every line"
            )
        elif len(cells) < len(columns) and any(map(str.strip, cells)):
            yield (
                "fewer cells than columns, so that nobody can tell which one is missing; write "
                "every cell, also the empty ones" + _ENDS_TOO_LATE * (columns[-1] == "")
            )
        else:
            record = dict(zip(columns, cells, strict=False))
            yield _shifted(columns, record, spaced=spaced) or record


_ENDS_TOO_LATE: Final = ", or take the separator off the end of the first line"
_SEPARATOR_WORDS: Final = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}


def _other_separator(line: str, cells: int) -> str:
    """What makes `cells` cells of a line that is one cell by the first line's; "" for nothing."""
    found = (
        separator
        for separator in SEPARATORS
        if len(next(records(line, separator=separator), None) or ()) == cells
    )
    return next(found, "")


def _shifted(columns: Sequence[str], record: Mapping[str, str], *, spaced: bool) -> str:
    """Why the cells seem to stand one column too far to the right, or "".

    The rest of an unquoted `glands, colon` begins with a blank, where the caption does not. It has
    a place to go to only where a column follows.
    """
    cell = record.get("patient_id", "")
    if spaced or columns[-1] == "patient_id" or cell[:1] != " " or not cell[1:2].isalpha():
        return ""
    others = [text for name, text in record.items() if name != "patient_id" and text]
    if all(text[0] == " " for text in others[1:]):
        return ""
    return (
        "patient_id begins with a blank, as the rest of a text does that holds a comma; quote such "
        "texts, so that every cell stands under its column"
    )


def _read_parquet(path: Path) -> Iterator[TableRecord]:
    # Imported late: only a site with parquet files pays for it.
    from pyarrow import ArrowException, parquet

    try:
        schema = parquet.read_schema(path)
        names = known_names(tuple(schema.names))
        wanted = {name: own for own, name in zip(schema.names, names, strict=True)}
        wanted = {name: own for name, own in wanted.items() if name in TABLE_COLUMNS}
        table = parquet.read_table(path, columns=list(wanted.values()))
    except (ArrowException, ValueError, OverflowError):
        check_parquet_kind(path)
        raise DataError(f"{path} is damaged or not a parquet file.", "Export it again.") from None
    if "file_name" not in wanted and any(str(kind).startswith("struct<") for kind in schema.types):
        raise DataError(
            f"{path} has no column file_name, and seems to hold the pictures themselves.",
            "Write each to a file beside the table, and the files' names into file_name.",
        )
    check_header(path, names)
    if str(schema.field(wanted["patient_id"]).type) in ("float", "halffloat"):
        raise DataError(
            f"{path}: patient_id is a column of 32- or 16-bit floating-point numbers, which cannot "
            "hold every id.",
            "Store the ids as text, from the source: several may have become one.",
        )
    cells = [_values(table.column(own)) for own in wanted.values()]
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
