"""What a cell says: escapes undone, wrong encodings and markup refused, look-alikes one patient."""

from __future__ import annotations

import decimal
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from client.data import SiteData, load_site_data
from client.data.cells import cell_fault, cell_text
from client.data.metadata import patient_key
from client.data.patient_ids import id_fault
from client.patients.spellings import former_spellings
from privacy.errors import DataError

from .pictures import noise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("0.png", "a&b.png"):
        noise(seed=len(name)).save(tmp_path / name)
    return tmp_path


def read(folder: Path, **cells: object) -> SiteData:
    record = {"file_name": "0.png", "text": "glands", "patient_id": "P0", **cells}
    (folder / "metadata.jsonl").write_text(json.dumps(record))
    return load_site_data(folder)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("H&amp;E, &lt;5 mm, gl&auml;nds &#8211; &#x78;", "H&E, <5 mm, gl\u00e4nds \u2013 x"),
        ("fat_x000D_\nglands", "fat\nglands"),
        ("R&D &copy 5, p<0.05, AT&T", "R&D &copy 5, p<0.05, AT&T"),
        ("a\tb\x0bc\U0001f9ec", "a\tb\x0bc\U0001f9ec"),
    ],
)
def test_escapes_of_other_programs_become_their_sign(
    folder: Path, written: str, meant: str
) -> None:
    data = read(folder, text=written)
    assert [tile.caption for tile in data.tiles] == [meant]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gla\0nds", "control characters"),
        ("\x1b$BA#4b\x1b(B", "control characters"),  # a Japanese encoding in seven bits
        ("Dr\ufffdsen", "letters were lost"),
        ("Dr\u00c3\u00bcsen", "UTF-8 twice"),
        ("Gr\u00c3\x9fe", "UTF-8 twice"),
        ("5\u00e2\u20ac\u201c6 mm", "UTF-8 twice"),
        ("\u00d0\u00b6\u00d0\u00b8\u00d1\u20ac", "UTF-8 twice"),
        ("{\\rtf1\\ansi glands}", "RTF"),
        ("<p>glands</p>", "tags of HTML"),
        ("fat<br/>glands", "tags of HTML"),
    ],
)
def test_what_is_no_text_is_refused_as_caption_and_as_id(
    folder: Path, text: str, words: str
) -> None:
    assert words in read(folder, text=text).quarantined[0].reason
    assert words in read(folder, patient_id=text).quarantined[0].reason


@pytest.mark.parametrize(
    "text",
    [
        "\u201egro\u00df\u201c",
        "MA\u00c7\u00c3\u201d",
        "5 < 6 > 3",
        "caf\u00e9\u201d",
        "a<b>c",
        "\u00ce\u00b1",
    ],
)
def test_what_only_looks_like_it_is_text(text: str) -> None:
    assert cell_text(text) == text
    assert cell_fault(text) == ""


LOOK_ALIKES = [
    ("A12", "\u041012", "\u039112"),  # Latin, Cyrillic, Greek
    ("MPX-7", "\u041c\u0420\u0425-7", "\u039c\u03a1\u03a7-7", "M\u0420X-7"),
    ("\u0418\u0432\u0430\u043d\u043e\u0432", "\u0418\u0432a\u043do\u0432"),
    ("ID1", "\u0131d1", "\u0130D1"),
    ("O'Brien-1", "O\u2019Brien-1", "O\u02bcBrien-1"),
    ("P-1", "P\u30fc1", "P\uff70\uff11", "P\u02d71", "P\u20431"),
    ("12/3", "12\u20443", "12\u22153"),
    ("P1", "P\u31641", "P\u28001", "P\ufe0f1", "P\u034f1"),
    ("1234", "1.234,00", "1,234.00", "1'234.0"),
]


@pytest.mark.parametrize("ids", LOOK_ALIKES)
def test_signs_that_look_alike_are_one_patient(ids: tuple[str, ...]) -> None:
    assert {patient_key(text) for text in ids} == {patient_key(ids[0])}
    assert not any(map(id_fault, ids))


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("\u043c\u0440\u0445-7", "MPX-7"),
        ("\u0438\u0432\u0430\u043d\u043e\u0432", "\u0418\u0432\u0430\u043d\u043e\u0432"),
        ("p-\u03b112", "P-A12"),
        ("\u0131d1", "ID1"),
        ("o\u2019brien", "O'Brien"),
    ],
)
def test_the_register_looks_for_their_former_keys(former: str, now: str) -> None:
    assert former in set(former_spellings(patient_key(now)))


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("formula", ["=A1", '=TEXT(12,"000")', "=VLOOKUP(A1,B:B,2)", "=0012"]),
        ("several ids", ["P1\nP2", "P1 P2", "P1 / P2", "P1 u. P2", "P1 bis P5", "{P1,P2}"]),
        ("several ids", ["['P1', 'P2']", "\u04201 \u0438 \u04202"]),
        ("a date or a time", ["3\u670812\u65e5", "12.\u043c\u0430\u0440", "12-pa\u017a", "12/fev"]),
        ("stands for no patient", ["\u540c\u4e0a", "\u306a\u3057", "\u043d\u0435\u0442", "aucun"]),
        ("stands for no patient", ["Anonymous^Patient", "missing value", "brak danych", "several"]),
    ],
)
def test_ids_that_name_no_one_patient(words: str, ids: list[str]) -> None:
    assert [text for text in ids if words not in id_fault(text)] == []


@pytest.mark.parametrize("text", ["P\n1", "S21 / 1234", "P 1", "12 345", "Meyer\nAnna", "a1 b2"])
def test_one_id_in_two_parts_is_one(text: str) -> None:
    assert id_fault(text) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("FILE:///data/0.png", "another computer"),
        ("~otto/0.png", "another computer"),
        ("%USERPROFILE%\\0.png", "another computer"),
        ("'0.png'", "one of its name is there"),
        ("['0.png']", "one of its name is there"),
        ("{'path': '0.png', 'bytes': None}", "one of its name is there"),
        ('=HYPERLINK("0.png")', "one of its name is there"),
        ("0.png.", "one of its name is there"),
        ("'1.png'", "the file is missing"),
    ],
)
def test_more_than_a_files_name_says_what_to_write(folder: Path, name: str, words: str) -> None:
    assert words in read(folder, file_name=name).quarantined[0].reason


def test_a_name_is_found_as_html_writes_it(folder: Path) -> None:
    assert [tile.path.name for tile in read(folder, file_name="a&amp;b.png").tiles] == ["a&b.png"]


@pytest.mark.parametrize(
    ("ids", "key"),
    [
        (pa.array([decimal.Decimal("20000000000000000001.00")]), "20000000000000000001"),
        (pa.array([decimal.Decimal("1.50")]), "1.5"),
        (pa.array([b"P0"]), "p0"),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
    ],
)
def test_ids_as_databases_store_them(folder: Path, ids: pa.Array, key: str) -> None:
    from client.data.metadata import read_rows

    table = pa.table({"file_name": ["0.png"], "text": [b"glands"], "patient_id": ids})
    parquet.write_table(table, folder / "metadata.parquet")
    assert [row.values["patient_id"] for row in read_rows(folder)] == [key]
    assert [tile.caption for tile in load_site_data(folder).tiles] == ["glands"]


def test_pictures_inside_a_table_are_told(folder: Path) -> None:
    pictures = pa.array([{"bytes": b"x", "path": "0.png"}])
    parquet.write_table(pa.table({"image": pictures}), folder / "metadata.parquet")
    with pytest.raises(DataError, match="pictures themselves"):
        load_site_data(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("metadata.jsonl", '{"file_name": "0.png"}'.encode("utf-16-le"), "is not UTF-8"),
        (
            "metadata.csv",
            b'"""file_name""","""text""","""patient_id"""\n"""0.png""","""x""","""P"""\n',
            "quoted twice",
        ),
    ],
)
def test_more_whole_tables_are_called_what_they_are(
    folder: Path, name: str, content: bytes, words: str
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_site_data(folder)
