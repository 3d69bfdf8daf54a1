"""The list of pictures left out, and the limit at which there are too many."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from model.lab.stage_one.examples import PictureFault, reason
from model.lab.stage_one.pictures import Unusable, decode_square
from model.lab.stage_one.source import PictureSource
from privacy.errors import ModelError

_PATTERN = "quarantine-*.csv"


class Quarantine:
    """What one process left out: kept in `folder` across resumed runs, each picture once."""

    def __init__(self, folder: Path, process: int, source: PictureSource, limit: float) -> None:
        self._file = folder / _PATTERN.replace("*", str(process))
        self._source, self._limit = source, limit
        self._reasons = {int(row[0]): row[2] for row in _rows(self._file)}

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, faults: Iterable[PictureFault]) -> None:
        """Record `faults`. Raises `ModelError` once there are more than `limit` of all pictures."""
        fresh = [fault for fault in dict(faults).items() if fault[0] not in self._reasons]
        if not fresh:
            return
        with self._file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows((n, self._source.name(n), why) for n, why in fresh)
        self._reasons.update(fresh)
        allowed = math.ceil(self._limit * len(self._source))
        if len(self._reasons) > allowed:
            why, count = Counter(self._reasons.values()).most_common(1)[0]
            raise ModelError(
                f"{len(self._reasons)} of {len(self._source)} pictures cannot be used, more than "
                f"broken_limit allows ({allowed}). Most often ({count}): {why}.",
                f"{self._file} lists them. Repair them, or raise broken_limit in stage-one.toml.",
            )


def merge(folder: Path, target: Path) -> int:
    """Write `file,reason` of every process to `target`; returns the number of pictures."""
    rows = {int(row[0]): row[1:] for path in folder.glob(_PATTERN) for row in _rows(path)}
    if rows:
        with target.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "reason"))
            writer.writerows(rows[number] for number in sorted(rows))
    return len(rows)


def _rows(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.reader(file) if len(row) == 3 and row[0].isdigit()]


def survey(source: PictureSource, size: int, looks: int = 32) -> None:
    """Try pictures from all over the source before anything is loaded.

    Raises `ModelError` if half of them or more cannot be used.
    """
    numbers = sorted({n * len(source) // looks for n in range(looks)})
    reasons: Counter[str] = Counter()
    for number in numbers:
        try:
            source.caption(number)
            decode_square(source.picture(number), size)
        except (Unusable, OSError) as fault:
            reasons[reason(fault)] += 1
    if 2 * reasons.total() >= len(numbers):
        why, count = reasons.most_common(1)[0]
        raise ModelError(
            f"{reasons.total()} of {len(numbers)} inspected pictures cannot be used. Most often "
            f"({count}): {why}.",
            "Check the data and, in stage-one.toml, size and caption.",
        )
