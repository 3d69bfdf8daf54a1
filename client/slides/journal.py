"""What was decided about the places of one slide, a line each, as it happens.

A process that is killed loses the line that it was writing, and the next one decides that place
again. A slide file that has changed since starts anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.slides.filters import TileShares, TileVerdict
from privacy.closing import Closing
from privacy.files import open_to_append

GridPlace = tuple[int, int]  # column, row


@dataclass(frozen=True, slots=True)
class PlaceDecision:
    """A place's shares and verdict; of a kept tile also its file's SHA-256 (hex)."""

    verdict: TileVerdict
    shares: TileShares
    sha256: str = ""


class SlideJournal(Closing):
    """The journal in `path` of a slide whose file has this `stamp`. Raises `OSError`.

    `decided` is what an earlier process left, in its order; `done` says whether it was all.
    """

    def __init__(self, path: Path, stamp: str) -> None:
        self.decided: dict[GridPlace, PlaceDecision] = {}
        self.done = False
        self.stamp = stamp
        self._path = path
        self.fresh = not self._load(path, stamp)
        if self.fresh:
            path.unlink(missing_ok=True)
        self._file = open_to_append(path)
        # After a torn line the next one must not continue it.
        self._say("" if not self.fresh else json.dumps({"slide": stamp}))

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def add(self, place: GridPlace, decision: PlaceDecision) -> None:
        """Note a decision; a later one about the same place counts."""
        self.decided[place] = decision
        shares = (round(decision.shares.tissue, 4), round(decision.shares.pen, 4))
        self._say(json.dumps([*place, decision.verdict.value, *shares, decision.sha256]))

    def finish(self) -> None:
        """Note that no place is left; on disk when it returns."""
        self.done = True
        self._say(json.dumps({"done": True}))
        os.fsync(self._file)

    def _say(self, line: str) -> None:
        try:
            os.write(self._file, line.encode() + b"\n")
        except OSError as error:  # of a full disk; the descriptor has no name to tell
            raise OSError(error.errno, error.strerror, os.fspath(self._path)) from None

    def _load(self, path: Path, stamp: str) -> bool:
        """Whether there is a journal of this very file."""
        try:
            entries = list(_entries(path.read_bytes()))
        except FileNotFoundError:
            return False
        if not entries or entries[0] != {"slide": stamp}:
            return False
        for entry in entries[1:]:
            if entry == {"done": True}:
                self.done = True
            elif isinstance(entry, list) and len(entry) == 6:
                column, row, verdict, tissue, pen, sha256 = entry
                self.decided[column, row] = PlaceDecision(
                    TileVerdict(verdict), TileShares(tissue, pen), sha256
                )
        return True


def _entries(data: bytes) -> Iterator[object]:
    """The whole lines; a torn one is skipped."""
    for line in data.split(b"\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue
