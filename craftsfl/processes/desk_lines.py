"""What a gateway and an agent say to their hospital's desk, read from their logs.

A log belongs to its process's user, who may be taken over: nothing in it is trusted. A link in
its place is not followed, and nothing it holds can move a terminal's cursor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from client.gateway.desk import DESK_MARK
from privacy.visible import visible

GATEWAYS: Final = (DESK_MARK,)  # a gateway marks what is for the desk; the rest is its own
AGENTS: Final = ("WARNING ", "ERROR ")  # of an agent and its trainer, these levels are
_LONGEST_LINE = 1000  # characters
_WHERE = 48  # characters within which a mark stands
_LARGEST_READ = 64 * 1024  # bytes at once; what is more is read the next time


class DeskLines:
    """The lines for the desk that were added to `log` since the last look: those with a mark.

    A mark stands after the time.
    """

    def __init__(self, log: Path, marks: Sequence[str] = GATEWAYS) -> None:
        self._log = log
        self._marks = [f" {mark}" for mark in marks]
        self._offset = _size(log)
        self._rest = b""

    def read(self) -> Iterator[str]:
        """The new lines, without time and mark."""
        data = self._rest + self._read()
        *whole, self._rest = data.split(b"\n")
        self._rest = self._rest[-_LONGEST_LINE:]
        for line in whole:
            text = line.decode("utf-8", "replace")
            found = [text.partition(mark)[2] for mark in self._marks if mark in text[:_WHERE]]
            if found:
                yield visible(found[0], most=_LONGEST_LINE)

    def _read(self) -> bytes:
        try:
            file = os.open(self._log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return b""
        try:
            facts = os.fstat(file)
            if not stat.S_ISREG(facts.st_mode):
                return b""
            if facts.st_size < self._offset:  # it was replaced
                self._offset = 0
            data = os.pread(file, _LARGEST_READ, self._offset)
        finally:
            os.close(file)
        self._offset += len(data)
        return data


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
