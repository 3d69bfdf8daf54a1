"""Which captions hold what looks like a name or a number of a person, by plain patterns.

Only rows are named, never a text. The patterns know a few languages' habits and no person: what
they miss is as possible as what they find without cause. A person looks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from client.data.metadata import Row

_CAPITAL = r"[A-ZÀ-ÖØ-ÞŁŚŻŽŠČĆ][a-zß-öø-ÿłśżźžščćąęń]+"
_PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "dates": re.compile(
        r"(?<![\d.])\d{1,2}[./-]\d{1,2}[./-](?:19|20)?\d{2}(?![\d.])"
        r"|\b(?:19|20)\d{2}[-/.](?:0[1-9]|1[0-2])[-/.](?:0[1-9]|[12]\d|3[01])\b"
    ),
    "numbers of six digits or more": re.compile(r"(?<![\d.,])\d{6,}(?![\d]|[.,]\d)"),
    "numbers of examinations": re.compile(r"\b[A-Z]{1,3}[ ]?[-/]?\d{2,4}[-/.]\d{3,}"),
    "e-mail addresses": re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}", re.IGNORECASE),
    "telephone numbers": re.compile(r"(?<!\d)(?:\+|00)\d[\d ()/-]{7,}\d"),
    "titles with a name": re.compile(
        rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau|Hr|Mme|Mlle|Madame|Monsieur|Sig|Signora|Sra?|"
        rf"Señora?|Pan|Pani|Dhr|Mevr)\b\.?\s+(?:med\.?\s+)?{_CAPITAL}"
    ),
    "words such as name, patient or born, with a value": re.compile(
        r"\b(?:(?:patient|pat|name|nachname|vorname|surname|nom|nome|apellido|mrn|ssn|dob|"
        r"birth|insurance|case no|fall-?nr)\.?\s*[:=#]\s*\S|(?:born|geb\.|geboren|née?)\s+\S*\d)",
        re.IGNORECASE,
    ),
}
# Miller, Anna: only where few captions begin like that, since "Breast, Lobular" does too.
_FAMILY_FIRST: Final = re.compile(rf"(?:^|[;:(]\s*)({_CAPITAL}(?:-{_CAPITAL})?, {_CAPITAL})\b")
FAMILY_FIRST: Final = "a family name, then a first name"
OWN_ID: Final = "the row's own patient or slide id"
_SHORTEST_ID: Final = 4  # characters; shorter ones stand in words by chance


def suspect_rows(rows: Iterable[Row]) -> dict[str, list[int]]:
    """The numbers of the rows in whose caption something suspicious stands, by what it is."""
    found: dict[str, list[int]] = defaultdict(list)
    known = [row for row in rows if not row.fault and row.values.get("text")]
    for row in known:
        for kind in _kinds(row):
            found[kind].append(row.number)
    if families := list(_families(known)):
        found[FAMILY_FIRST] = families
    return dict(found)


def _kinds(row: Row) -> Iterator[str]:
    text = row.values["text"]
    for kind, pattern in _PATTERNS.items():
        if pattern.search(text):
            yield kind
    words = set(re.split(r"[^\w./-]+", text.casefold()))
    for column in ("patient_id", "slide_id"):
        own = row.values.get(column, "").casefold()
        if len(own) >= _SHORTEST_ID and any(c.isdigit() for c in own) and own in words:
            yield OWN_ID
            return


def _families(rows: list[Row]) -> Iterator[int]:
    """Rows with such a pair that stands at one patient only, among patients without any."""
    pairs = {row.number: _FAMILY_FIRST.search(row.values["text"]) for row in rows}
    patients: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if match := pairs[row.number]:
            patients[match[1]].add(row.values.get("patient_id", ""))
    everybody = {row.values.get("patient_id", "") for row in rows}
    own = {text for text, who in patients.items() if len(who) == 1 < len(everybody)}
    for row in rows:
        match = pairs[row.number]
        if match and match[1] in own:
            yield row.number
