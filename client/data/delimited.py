"""CSV as RFC 4180 has it, where one broken line costs that line and no other.

Python's own reader ends at the first fault, and at the first cell above a limit: then whoever wrote
one cell would decide whether anybody's table can be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

LONGEST_CELL: Final = 2**17  # characters

# A cell and what has to follow it. Possessive: nothing is tried twice, however a cell is written.
_CELL: Final = re.compile(r'(?:"((?:[^"]++|"")*+)"|(?!")([^,\n]*+))(?=[,\n]|\Z)')


def records(text: str, *, cells: int | None = None) -> Iterator[list[str] | None]:
    """The records of `text`, whose lines end with a line feed; None for a line that is none.

    Broken is a line with a cell that is longer than `LONGEST_CELL`, whose quotes do not close, or
    that goes on after them; also the first line of several that make a record of more than `cells`
    cells, for then a quote too many has joined them. The next line begins afresh. Empty lines are
    skipped.
    """
    at = 0
    while at < len(text):
        found = text.find("\n", at)
        line_end = len(text) if found < 0 else found
        if line_end == at:
            at += 1
            continue
        record, end = _record(text, at)
        joined = record is not None and cells is not None and len(record) > cells
        if record is None or (joined and end > line_end):
            record, end = None, line_end
        yield record
        at = end + 1


def _record(text: str, at: int) -> tuple[list[str] | None, int]:
    """The record that begins at `at`, and where its line feed is; None where it is broken."""
    found = []
    while True:
        limit = at + LONGEST_CELL + 2
        cell = _CELL.match(text, at, limit)
        if cell is None or (cell.end() == limit < len(text)):
            return None, at
        quoted, plain = cell.groups()
        found.append(plain if quoted is None else quoted.replace('""', '"'))
        at = cell.end() + 1
        if text[cell.end() : at] != ",":
            return found, cell.end()
