"""CSV according to RFC 4180 with any separator, where a broken line costs only that line.

Python's own reader stops at the first fault and at the first cell above a limit: the author of a
single cell would decide whether the whole table can be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

LONGEST_CELL: Final = 2**17  # characters

SEPARATORS: Final = (",", ";", "\t", "|")


def records(
    text: str, *, cells: int | None = None, separator: str = ","
) -> Iterator[list[str] | None]:
    """The records of `text`, whose lines end with a line feed; None for a broken line.

    A line is broken if it has a cell that is longer than `LONGEST_CELL`, whose quotes do not close,
    or that goes on after them; so is the first of several lines that form a record of more than
    `cells` cells, since a stray quote has joined them. The next line starts over. Empty lines are
    skipped, and so are blanks around a quoted cell.
    """
    pattern = _cell_pattern(separator)
    at = 0
    while at < len(text):
        found = text.find("\n", at)
        line_end = len(text) if found < 0 else found
        if line_end == at:
            at += 1
            continue
        record, end = _record(text, at, pattern, separator)
        joined = record is not None and cells is not None and len(record) > cells
        if record is None or (joined and end > line_end):
            record, end = None, line_end
        yield record
        at = end + 1


@cache
def _cell_pattern(separator: str) -> re.Pattern[str]:
    """A cell and what must follow it. Possessive: nothing is tried twice, whatever it contains."""
    mark = re.escape(separator)
    quoted, plain = r' *+"((?:[^"]++|"")*+)" *+', rf'(?!")([^{mark}\n]*+)'
    return re.compile(rf"(?:{quoted}|{plain})(?=[{mark}\n]|\Z)")


def _record(
    text: str, at: int, pattern: re.Pattern[str], separator: str
) -> tuple[list[str] | None, int]:
    """The record that begins at `at`, and the position of its line feed; None if it is broken."""
    found = []
    while True:
        limit = at + LONGEST_CELL + 2
        cell = pattern.match(text, at, limit)
        if cell is None or (cell.end() == limit < len(text)):
            return None, at
        quoted, plain = cell.groups()
        found.append(plain if quoted is None else quoted.replace('""', '"'))
        at = cell.end() + 1
        if text[cell.end() : at] != separator:
            return found, cell.end()
