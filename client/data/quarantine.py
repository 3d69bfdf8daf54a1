"""The site's own list of what was left out and why."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from client.data.imagefolder import Quarantined
from privacy.errors import DataError
from privacy.files import write_private

# Fullwidth signs too: some programs take them for the plain ones.
_FORMULA: Final = re.compile(r"((?:\A|[,;|])[\s\"\']*)([=+\-@\uff1d\uff0b\uff0d\uff20])")


def write_quarantine(path: Path, quarantined: Iterable[Quarantined]) -> None:
    """Write `file,reason` rows to `path`, readable only by its owner, replacing an older list.

    Raises `DataError` where it cannot be written.
    """
    try:
        write_for_people(
            path, ("file", "reason"), ((entry.file, entry.reason) for entry in quarantined)
        )
    except OSError as error:
        raise DataError(
            f"The list of unused tiles {path} cannot be written: {error.strerror}.",
            "Check the owner of the state folder and the free space.",
        ) from None


def write_for_people(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a private CSV file that a spreadsheet may open; raises `OSError`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([_inert(cell) for cell in row] for row in rows)
    write_private(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _inert(cell: str) -> str:
    """The cell as a text that no spreadsheet takes for a formula, on one line.

    An apostrophe goes before what would begin one, also behind the marks at which a program with
    another separator would split the line.
    """
    plain = "".join(repr(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in cell)
    return _FORMULA.sub(r"\1'\2", plain)
