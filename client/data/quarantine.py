"""The site's own list of what was left out and why."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from client.data.imagefolder import Quarantined
from privacy.errors import DataError
from privacy.files import write_private


def write_quarantine(path: Path, quarantined: Iterable[Quarantined]) -> None:
    """Write `file,reason` rows to `path`, readable only by its owner, replacing an older list.

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
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("file", "reason"))
    writer.writerows((entry.file, entry.reason) for entry in quarantined)
    write_private(path, text.getvalue().encode("utf-8", "backslashreplace"))
