"""What a gateway says to its hospital's desk, read from its log.

The log belongs to the gateway's user, who may be taken over: nothing in it is trusted. A link in
its place is not followed, and nothing it holds can move a terminal's cursor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from client.gateway.desk import DESK_MARK
from privacy.visible import visible

_LONGEST_LINE = 1000  # characters
_LARGEST_READ = 64 * 1024  # bytes at once; what is more is read the next time


class DeskLines:
    """The lines for the desk that were added to `log` since the last look."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = _size(log)
        self._rest = b""

    def read(self) -> Iterator[str]:
        """The new lines, without time and mark."""
        data = self._rest + self._read()
        *whole, self._rest = data.split(b"\n")
        self._rest = self._rest[-_LONGEST_LINE:]
        for line in whole:
            _, found, text = line.decode("utf-8", "replace").partition(f" {DESK_MARK}")
            if found:
                yield visible(text, most=_LONGEST_LINE)

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
