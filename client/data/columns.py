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
from privacy.visible import visible

REQUIRED: Final = ("file_name", "text", "patient_id")
OPTIONAL: Final = ("slide_id", "organ", "diagnosis", "mask")
TABLE_COLUMNS: Final = REQUIRED + OPTIONAL
_BETWEEN: Final = re.compile(r"_x0020_|[\s_.-]+")  # R writes a dot, SharePoint its escape
_JOINED: Final = {name.replace("_", ""): name for name in TABLE_COLUMNS}
# What other tables call a column of ours, with neither blanks nor underscores.
_OTHERS: Final = {
    "file_name": """file filepath path image imagefile imagename imagepath imageid img imgpath tile
        tilename tilepath picture dateiname datei bild bilddatei fichier nomdufichier archivo
        immagine bestand""",
    "text": """caption captions prompt description label findings report befund beschreibung legende
        bildunterschrift bildbeschreibung beschriftung annotation bildtext kommentar texto testo
        descripcion descrizione omschrijving""",
    "patient_id": """patient patients patientnumber patientno patientnr patientcode pid pat patid
        patnr mrn subject subjectid person personid patienten patientenid patientennummer
        patientennr idpatient numeropatient paciente paziente pseudonym patientpseudonym
        patientkey patientidentifier""",
}
_ELSEWHERE: Final = {other: own for own, names in _OTHERS.items() for other in names.split()}
_WHY_PATIENTS: Final = (
    "Privacy is promised per patient, so every tile needs its patient: add a column patient_id "
    "(any stable code; it never leaves this site)."
)


@lru_cache(maxsize=64)  # a table has one header, or lines with the same few keys
def known_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same names, in our spelling where they are ours.

    Blanks around them, visible or not, go; so does the difference of `Patient ID` and `PatientID`
    to `patient_id`, unless a column has exactly that name.
    """
    clean = tuple(_without_invisible(name) for name in names)
    ours = [_JOINED.get(_joined(name), "") for name in clean]
    loose = [
        own if own and own not in clean else name for own, name in zip(ours, clean, strict=True)
    ]
    return tuple(loose)


def _joined(name: str) -> str:
    return _BETWEEN.sub("", name.casefold())


def likeness(names: Sequence[str]) -> tuple[int, int]:
    """How many of the names are ours, and how many may be, as other tables call them."""
    ours = {*known_names(tuple(names))}.intersection(TABLE_COLUMNS)
    return len(ours), len({_ELSEWHERE.get(_joined(name)) for name in names} - {None})


def renaming(missing: Sequence[str], names: Sequence[str]) -> str:
    """Which of `names` may be meant by the `missing` ones of ours, as a clause; "" for none."""
    found = ((name, _meant(name, names)) for name in missing)
    return ", ".join(f"{near} to {name}" for name, near in found if near)


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
        if near := _meant(name, columns):
            hints.append(f"Rename the column {near} to {name}.")
    raise DataError(
        f"{path} has no column {' and no column '.join(missing)}.",
        " ".join(hints) or f"Required are {', '.join(REQUIRED)}.",
    )


def _meant(name: str, columns: Sequence[str]) -> str:
    """The one column that may be `name` under another name, as it may be shown; "" for none."""
    known = [found for found in columns if _ELSEWHERE.get(_joined(found)) == name]
    near = known[:1] if len(known) == 1 else difflib.get_close_matches(name, columns, n=1)
    return visible(near[0], most=80) if near else ""


def _without_invisible(name: str) -> str:
    shown = (c for c in name if unicodedata.category(c) not in ("Cc", "Cf") or c.isspace())
    return unicodedata.normalize("NFKC", "".join(shown)).strip()
