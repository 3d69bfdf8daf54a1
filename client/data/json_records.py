"""The records of a table in JSON: one object a line, or one array of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from client.data.columns import REQUIRED, known_names
from client.data.encodings import ENDS_OF_FILES, other_encoding, table_text
from client.data.not_a_table import check_array, check_is_json, check_table_kind
from privacy.errors import DataError

_AROUND_JSON: Final = " \t\r\x1e\ufeff"  # a record separator, the mark of an appended file
_EXACT: Final = 2.0**53  # from here on a float stands for several whole numbers
_LONG: Final = 1000  # digits
_REPEATED: Final = object()
_NO_OBJECT: Final = (
    "the line is not a JSON object, or repeats a key; write one object in a line, with double "
    "quotes, and no comma behind it"
)

TableRecord: TypeAlias = Mapping[str, object] | str  # cells by column, or why there are none


def read_objects(path: Path) -> Iterator[TableRecord]:
    """JSON lines, each with its own columns, or one array of such objects."""
    check_table_kind(path)
    text = table_text(path)
    if "\0" in text.split("\n", 1)[0].rstrip(ENDS_OF_FILES):
        raise other_encoding(path)  # UTF-16 without its mark
    check_is_json(path, text)
    array = _array(path, text)
    if array is not None:
        return (_known(entry) if isinstance(entry, dict) else _NO_OBJECT for entry in array)
    if path.suffix.lower() == ".json":
        _check_lines(path, text)
    return map(_line, filter(str.strip, text.rstrip(ENDS_OF_FILES).split("\n")))


def _array(path: Path, text: str) -> list[object] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(
            text, object_pairs_hook=_marked, parse_float=_number, parse_int=_whole_number
        )
    except json.JSONDecodeError as error:
        check_array(path, text, error)
        return None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not any(isinstance(entry, dict) for entry in found):
        return None
    return found


def _check_lines(path: Path, text: str) -> None:
    """Raise `DataError` for a .json whose first line is no row: damaged, or told by columns."""
    first = next(filter(str.strip, text.split("\n")), "")
    record = _line(first)
    if isinstance(record, str) or not isinstance(record.get("file_name"), str):
        raise DataError(
            f"{path} is neither an array of objects nor one object a line, with {REQUIRED[0]}.",
            "Export one object for each tile (in pandas: to_json(..., orient='records', "
            "lines=True)), as metadata.jsonl.",
        )


def _line(line: str) -> TableRecord:
    try:
        record = json.loads(
            line.strip(_AROUND_JSON), object_pairs_hook=_without_repetition, parse_float=_number
        )
    except (ValueError, RecursionError):
        record = None
    return _known(record) if isinstance(record, dict) else _NO_OBJECT


def _known(record: dict[str, object]) -> TableRecord:
    names = known_names(tuple(record))
    found = dict(zip(names, record.values(), strict=True))
    return found if len(found) == len(names) else _NO_OBJECT


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key appears twice")
    return values


def _marked(pairs: list[tuple[str, object]]) -> object:
    """An object, or a mark where it repeats a key: that costs one object, not the array."""
    values = dict(pairs)
    return values if len(values) == len(pairs) else _REPEATED


def _number(literal: str) -> object:
    """A number of JSON; as it is written where its digits may not be all there."""
    value = float(literal)
    return literal if "e" in literal.lower() or abs(value) >= _EXACT else value


def _whole_number(literal: str) -> object:
    """A whole number; as text where its length would cost the whole array."""
    return int(literal) if len(literal) < _LONG else literal
