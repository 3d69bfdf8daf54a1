"""The site's own list of what was left out and why."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from client.data.imagefolder import Quarantined
from privacy.errors import DataError


def write_quarantine(path: Path, quarantined: Iterable[Quarantined]) -> None:
    """Write `file,reason` rows to `path`, readable by its owner alone, replacing an older list.

    Raises `DataError` where it cannot be written.
    """
    try:
        _write(path, quarantined)
    except OSError as error:
        raise DataError(
            f"The list of unused tiles {path} cannot be written: {error.strerror}.",
            "Check the owner of the state folder and the free space.",
        ) from None


def _write(path: Path, quarantined: Iterable[Quarantined]) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "reason"))
        writer.writerows((entry.file, entry.reason) for entry in quarantined)
    fresh.replace(path)
