"""Do the patient ids name patients? Ids of slides, blocks or cases would break the promise.

Privacy is promised per patient. Where every slide counts as a patient of its own, a person with
several slides is protected that much less, and nothing else would show it. No test can prove that
an id is a patient's; these find the usual ways in which tables go wrong. They look at all ids
together, so that one patient can raise a doubt or remove it: they advise people and decide nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from privacy.errors import DataError

# Fewer patients may well have just one slide each, or one tile.
_ENOUGH: Final = 10
_MOST: Final = 0.5  # share of the ids that have one shape

# All match ids in the form of `patient_key`: case-folded, without spaces.
_SHAPES: Final[Mapping[str, re.Pattern[str]]] = {
    "names of slide or image files": re.compile(
        r".+\.(svs|ndpi|mrxs|scn|vms|bif|czi|tiff?|jpe?g|png|bmp|dcm)"
    ),
    "TCGA barcodes of samples or slides (a patient's has three parts)": re.compile(
        r"tcga-[0-9a-z]{2}-[0-9a-z]{4}-[0-9]{2}.*"
    ),
    "accession numbers (letters, year, running number), one for each examination": re.compile(
        r"(s|sp|su|h|hp|hs|b|bx|c|cy|e|k|n|np)(19|20)?[0-9]{2}[-/._][0-9]{4,}([-/._].*)?"
    ),
    "numbers with a block or slide behind them": re.compile(
        r"([a-z]{0,3}[0-9]{2,4}[-/._])?[0-9]{3,}[-/._]?[a-z]{1,2}([0-9]{1,2}([-/._][0-9]{1,2})?)?"
    ),
    "numbers that a spreadsheet has cut to 15 digits": re.compile(r"[0-9]{15}0+"),
    "dates": re.compile(r"(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"),
    "barcodes": re.compile(r"\*.+\*|[0-9]{13,16}|[0-9]+(\.[0-9]+){4,}"),
}
# A case number and what follows it: 21-1234 and A2, 21-1234AB and -3.
_PART: Final = re.compile(r"(.*[0-9]{4,})([-/._]?[a-z]{1,2}[0-9]{0,2}([-/._][0-9]{1,2})?)")
_NEGATIVE: Final = re.compile(r"-[0-9]+([.,]0*)?")


@dataclass(frozen=True, slots=True)
class IdAppearance:
    """What the table says under one patient id."""

    tiles: int
    slides: frozenset[str] = field(repr=False)  # without the empty one


def doubt(patients: Mapping[str, IdAppearance]) -> str:
    """Why these ids are probably not patients'; "" where nothing suggests that.

    Keys are ids in the form of `patient_key`. The text names none of them.
    """
    return (
        _about_shapes(patients.keys())
        or _about_placeholders(patients.keys())
        or _about_counts(patients.values())
    )


def check_believable(reason: str, *, confirm: str) -> None:
    """Raise `DataError` for the `reason` that `doubt` found, if any.

    `confirm` says how to overrule it. For interactive use, never in the agent: one more patient,
    with ids of that shape, would stop it.
    """
    if reason:
        raise DataError(
            f"patient_id does not seem to name patients: {reason}.",
            "Privacy is promised per patient: give every tile the id of its patient, the same for "
            f"all slides and examinations. If these are patients' ids nevertheless: {confirm}. "
            "EACH ID THEN COUNTS AS ONE PERSON; one with several is protected that much less.",
        )


def _about_shapes(ids: Collection[str]) -> str:
    for shape, pattern in _SHAPES.items():
        found = sum(pattern.fullmatch(text) is not None for text in ids)
        if found >= 2 and found >= _MOST * len(ids):
            return f"{found} of {len(ids)} ids look like {shape}"
    parts = [match[1] for match in map(_PART.fullmatch, ids) if match]
    shared = sum(count for count in Counter(parts).values() if count > 1)
    if shared:
        return f"{shared} of {len(ids)} ids share a number and differ only in what follows it"
    return ""


def _about_placeholders(ids: Collection[str]) -> str:
    """Numbers that exports write for somebody unknown, and that may also be somebody's id."""
    negative = sum(_NEGATIVE.fullmatch(text) is not None for text in ids)
    if negative:
        return f"{negative} of {len(ids)} ids are negative numbers, as -1 for an unknown patient"
    if len(ids) > 1 and "0" in ids and "1" not in ids:
        return f"one of {len(ids)} ids is 0, and none is 1: it may stand for an unknown patient"
    return ""


def _about_counts(patients: Collection[IdAppearance]) -> str:
    if len(patients) < _ENOUGH:
        return ""
    if all(patient.tiles == 1 for patient in patients):
        return f"each of the {len(patients)} ids has a single tile"
    if all(len(patient.slides) == 1 for patient in patients):
        return f"each of the {len(patients)} ids has a single slide"
    return ""
