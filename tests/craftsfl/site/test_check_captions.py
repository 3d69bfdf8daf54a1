"""Plain patterns for names and numbers in captions: what they find, what they leave alone."""

from __future__ import annotations

import pytest

from client.data.metadata import Row
from craftsfl.site.check.captions import FAMILY_FIRST, OWN_ID, suspect_rows


def row(text: str, number: int = 1, **values: str) -> Row:
    return Row(number, {"text": text, "patient_id": f"patient-{number}", "slide_id": "", **values})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("invasive carcinoma, taken 12.03.2021", "dates"),
        ("biopsy of 2021-03-12", "dates"),
        ("core biopsy 3/12/21", "dates"),
        ("glands, case 20210312", "numbers of six digits or more"),
        ("glands of S21-12345", "numbers of examinations"),
        ("ask a.miller@hospital.example", "e-mail addresses"),
        ("call +49 30 1234-567", "telephone numbers"),
        ("slide of Dr. Kowalski", "titles with a name"),
        ("Frau Müller, Mamma links", "titles with a name"),
        ("Patient: K. M., colon", "words such as name, patient or born, with a value"),
        ("woman, born 1950", "words such as name, patient or born, with a value"),
        ("colon of p-0042", OWN_ID),
    ],
)
def test_what_looks_like_a_person_is_found(text: str, kind: str) -> None:
    assert kind in suspect_rows([row(text, 7, patient_id="p-0042")])
    assert suspect_rows([row(text, 7, patient_id="p-0042")])[kind] == [7]


@pytest.mark.parametrize(
    "text",
    [
        "invasive ductal carcinoma, grade 3, Gleason 4+3=7, pT2 N1 (2/14) M0",
        "Ki-67 20 %, HER2 3+, ER 8/8, CD20 positive, 40x, 0.25 µm/px",
        "H&E of breast tissue, 400X, magnification 1:1000",
        "Hodgkin lymphoma with Reed-Sternberg cells, EBV+",
        "a patient's colon with normal crypts; born of epithelium",
        "mean area 123456.78 square pixels",
    ],
)
def test_what_pathologists_write_is_left_alone(text: str) -> None:
    assert suspect_rows([row(text, n) for n in (1, 2, 3)]) == {}


def test_a_family_name_first_is_found_unless_others_begin_like_it() -> None:
    style = [row("Breast, Lobular carcinoma", n) for n in (1, 2, 3)]
    assert suspect_rows(style) == {}
    assert suspect_rows([*style, row("Kowalska, Anna; breast", 4)]) == {FAMILY_FIRST: [4]}
