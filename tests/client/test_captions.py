"""What programs write in place of a caption, an id or a column's name, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.data import SiteData, load_site_data
from client.data.captions import caption_fault
from client.data.cells import cell_fault, cell_text
from client.data.columns import known_names
from client.data.patient_ids import id_fault, patient_key
from privacy.errors import DataError

from .pictures import noise

HEADER = "file_name,text,patient_id\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    noise().save(tmp_path / "0.png")
    return tmp_path


def read(folder: Path, text: str, name: str = "metadata.csv") -> SiteData:
    (folder / name).write_text(text, encoding="utf-8")
    return load_site_data(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#N/A", "an error of a spreadsheet"),
        ("#REF!", "an error of a spreadsheet"),
        ("#\u0417\u041d\u0410\u0427!", "an error of a spreadsheet"),
        ("Err:502", "an error of a spreadsheet"),
        ("['glands', 'fat']", "is a list"),
        ('["glands"]', "is a list"),
        ("('glands', 'fat')", "is a list"),
        ("[0.25, -1e-3]", "is a list"),
        ("{'en': 'glands'}", "is an object"),
        ('{"caption": ["glands"]}', "is an object"),
        ("-", "has no letter"),
        ("?", "has no letter"),
        ("\u2026", "has no letter"),
        ("#####", "has no letter"),
    ],
)
def test_what_is_no_caption_is_told_and_not_taught(folder: Path, text: str, words: str) -> None:
    assert words in caption_fault(text)
    row = json.dumps({"file_name": "0.png", "text": text, "patient_id": "P"})
    data = read(folder, row, "metadata.jsonl")
    assert (data.tiles, data.enrolled) == ((), 1)
    assert words in data.quarantined[0].reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#12 of the series",
        "(glands)",
        "[glands] in fat",
        "{stage 2}",
        "5",
        "\u817a\u4f53",
        "\U0001f9ec",
        "'glands' and \"fat\"",
        "H&E [a: b]",
    ],
)
def test_what_may_be_a_caption_is_left_alone(text: str) -> None:
    assert caption_fault(text) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Dr\u251c\u255dse", "UTF-8 twice"),  # read as of DOS
        ("Dr\u221a\xbase", "UTF-8 twice"),  # as a Macintosh's
        ("5\u201a\xc4\xec6", "UTF-8 twice"),
        ("Dr\u0102\u013dse", "UTF-8 twice"),  # as Windows-1250
        ("\u0420\xb6\u0420\xb5\u0420\xbb", "UTF-8 twice"),  # as Windows-1251
        ("Dr\u0178se", "another encoding"),  # a Macintosh's, read as Windows-1252
        ("H\u2030matoxylin", "another encoding"),  # Windows-1252, read as a Macintosh's
        ("Dr\xb8se", "another encoding"),
        ("Dr\\u00fcse", "a program's escapes"),
        ("Dr\\xfcse", "a program's escapes"),
        ("Dr%C3%BCse", "a program's escapes"),
        ("H%26E", "a program's escapes"),
        ("Dr=C3=BCse", "a program's escapes"),
        ("b'P1'", "a program's escapes"),
    ],
)
def test_letters_that_another_program_wrote_otherwise(text: str, words: str) -> None:
    assert words in cell_fault(text)


@pytest.mark.parametrize(
    "text",
    [
        "\u221a2 mm",
        "GR\u0102\u015eIME",
        "\u0421\u0406\u0420\u0406 \u0413\u0406\u0421\u0422\u042c",
        "\u0160koda, ve\u0161",
        "Ki-67 in 5% 20x",
        "C:\\users",
        "\xdfo\xdf",
        "a=CD4+, b",
    ],
)
def test_what_only_looks_so_is_text(text: str) -> None:
    assert (cell_text(text), cell_fault(text)) == (text, "")


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("several ids", "P1,P2 P1/P2 S21-1/S21-2 1,2,3 A-7,A-8,A-9"),
        ("a date or a time", "00.01.1900 1/0/1900 00-Jan 0-Jan-00 1900-01-00 12.03. 12MAR2021"),
        ("a date or a time", "12mar2021:00:00:00 12-marzo-21 3-enero 5.maio"),
        ("digits are lost", "1.23\xd710^12 1.0D+05 3*10^6"),
        ("stands for no patient", "-99 -9.0 -998 P-nan None_None 7-null a_undefined"),
        ("stands for no patient", "#\u041d/\u0414 #YOK #I/T #NEN\xcd_K_DISPOZICI #NV male nein"),
    ],
)
def test_ids_that_say_nothing_certain(words: str, ids: str) -> None:
    assert [text for text in ids.split() if words not in id_fault(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "Mi, 12. M\xe4rz 2021",
        "12 de marzo de 2021",
        "0 days 00:00:12",
        "1 day, 0:00:00",
        "12.03.2021 8:30 Uhr",
        "mer. 12 mars 2021",
    ],
)
def test_dates_in_words(text: str) -> None:
    assert "a date or a time" in id_fault(text)


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        "-4962768465676381896",
        "12D5",
        "12x10",
        "12/13",
        "So12",
        "mo-12",
        "mar5",
        "P-nano",
        "1,234,567",
    ],
)
def test_ids_that_stay(text: str) -> None:
    assert id_fault(text) == ""


def test_excels_way_to_say_that_a_cell_is_text_is_read_in_every_column(folder: Path) -> None:
    data = read(folder, HEADER + '"=""0.png""","=""glands, fat""","=""007"""\n')
    assert [(tile.path.name, tile.caption) for tile in data.tiles] == [("0.png", "glands, fat")]
    assert patient_key('="007"') == "7"


@pytest.mark.parametrize("name", ["patient.id", "Patient.ID", "Patient_x0020_ID", "PATIENT ID"])
def test_columns_as_r_and_sharepoint_name_them(name: str) -> None:
    assert known_names((name,)) == ("patient_id",)


def test_a_line_with_another_separator_than_the_first_says_so(folder: Path) -> None:
    data = read(folder, HEADER + "0.png;glands;P0\n0.png,fat,P1\n")
    assert [tile.caption for tile in data.tiles] == ["fat"]
    assert "separated by a semicolon, those of the first line by a comma" in (
        data.quarantined[0].reason
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("metadata.csv", "[file_name],[text],[patient_id]\n", "its cells begin with ["),
        ("metadata.csv", "[[tile]]\nfile_name = '0.png'\n", "holds JSON"),
        ("metadata.csv", "ARROW1\0\0" + "\0" * 60, "an Arrow or Feather file"),
        ("metadata.parquet", HEADER, "no parquet file, but a text file"),
        ("metadata.parquet", '[{"file_name": "0.png"}]', "no parquet file, but a JSON file"),
    ],
)
def test_whole_tables_of_another_kind(folder: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(folder, content, name)
    assert words in caught.value.message
