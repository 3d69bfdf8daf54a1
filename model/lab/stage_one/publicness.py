"""Stage one is for public pictures: folders that look like a hospital's are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from privacy.errors import ModelError

WARNING: Final = (
    "STAGE ONE IS NOT PRIVATE. Nothing is clipped or noised: the base may remember any picture and "
    "caption it is shown, and every site receives it. Use public data only."
)

_PATIENTS: Final = frozenset(
    {"patient", "patientid", "patientkey", "mrn", "medicalrecordnumber", "subjectid", "caseid"}
    | {"pid", "accessionnumber", "dateofbirth", "birthdate"}
)
_SITE_FILES: Final = ("site.toml",)


def check_columns(columns: Iterable[str], place: Path, *, public: bool) -> None:
    """Raise `ModelError` if a column names patients, unless the data are said to be `public`."""
    found = [name for name in columns if re.sub(r"[\W_]", "", name).casefold() in _PATIENTS]
    if found and not public:
        _refuse(place, f"it has the column {found[0]}")


def check_place(place: Path, *, public: bool) -> None:
    """Raise `ModelError` if the folder, or the one around it, is a site's own."""
    folder = place if place.is_dir() else place.parent
    for around in (folder.resolve(), folder.resolve().parent):
        for name in _SITE_FILES:
            if _lies_there(around / name) and not public:
                _refuse(place, f"{name} is next to it")


def _lies_there(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        raise ModelError(
            f"{path.parent} cannot be read: this user may not.",
            "Run this as the user to whom it belongs (ls -ld names that one).",
        ) from None


def _refuse(place: Path, why: str) -> None:
    raise ModelError(
        f"{place} looks like a hospital's own data: {why}. Stage one is not private.",
        "Patients' tiles belong to stage two (craftsfl site serve). If these are published data "
        "under a licence that allows it, say so with --public.",
    )
