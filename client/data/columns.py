"""The columns of a table, however their names are written."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from privacy.errors import DataError

REQUIRED: Final = ("file_name", "text", "patient_id")
OPTIONAL: Final = ("slide_id", "organ", "diagnosis", "mask")
TABLE_COLUMNS: Final = REQUIRED + OPTIONAL
_BETWEEN: Final = re.compile(r"[\s-]+")
_WHY_PATIENTS: Final = (
    "Privacy is promised per patient, so every tile needs its patient: add a column patient_id "
    "(any stable code; it never leaves this site)."
)


@lru_cache(maxsize=64)  # a table has one header, or lines with the same few keys
def known_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same names, in our spelling where they are ours.

    Blanks around them, visible or not, go; so does the difference of `Patient ID` to `patient_id`,
    unless a column has exactly that name.
    """
    clean = tuple(_without_invisible(name) for name in names)
    folded = [_BETWEEN.sub("_", name.casefold()) for name in clean]
    loose = [
        fold if fold in TABLE_COLUMNS and fold not in clean else name
        for fold, name in zip(folded, clean, strict=True)
    ]
    return tuple(loose)


def check_header(path: Path, columns: Sequence[str]) -> None:
    """Raise `DataError` with the cure where a column is missing or stands twice.

    `columns` are as `known_names` returns them.
    """
    counts = Counter(columns)
    for name in TABLE_COLUMNS:
        if counts[name] > 1:
            raise DataError(
                f"{path} has the column {name} {counts[name]} times.", "Keep the right one."
            )
    missing = [name for name in REQUIRED if name not in counts]
    if not missing:
        return
    hints = [_WHY_PATIENTS] if "patient_id" in missing else []
    for name in missing:
        near = difflib.get_close_matches(name, columns, n=1)
        hints.extend(f"Rename the column {found} to {name}." for found in near)
    raise DataError(
        f"{path} has no column {' and no column '.join(missing)}.",
        " ".join(hints) or f"Required are {', '.join(REQUIRED)}.",
    )


def _without_invisible(name: str) -> str:
    shown = (c for c in name if unicodedata.category(c) not in ("Cc", "Cf") or c.isspace())
    return unicodedata.normalize("NFKC", "".join(shown)).strip()
