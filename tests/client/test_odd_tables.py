"""More ways in which tables come out of other programs, and what is said of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.data import SiteData, load_site_data
from client.data.metadata import patient_key
from client.data.patient_ids import id_fault
from privacy.errors import DataError

from .pictures import noise

HEADER = "file_name,text,patient_id\n"
GOOD = HEADER + "0.png,glands,P0\n1.png,fat,P1\n"
RECORDS = [json.dumps({"file_name": f"{n}.png", "text": "x", "patient_id": n}) for n in range(2)]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    for number in range(2):
        noise(seed=number).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def folder(tmp_path: Path, tiles: Path) -> Path:
    for file in tiles.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def read(folder: Path, text: str, name: str = "metadata.csv") -> SiteData:
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    return load_site_data(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", GOOD + "\0" * 40),  # a copy that was padded
        ("metadata.csv", GOOD + "\x1a"),  # the end of a file of DOS
        ("metadata.csv", "\ufeff\ufeff" + GOOD),
        ("metadata.csv", GOOD.replace("\n", "\r\r\n")),
        ("metadata.csv", "sep=;\n" + GOOD),  # and it is none
        ("metadata.csv", "|file_name|text|patient_id|\n|0.png|x|P0|\n|1.png|x|P1|\n"),
        ("metadata.csv", GOOD.replace("file_name", '"file\nname"')),
        ("metadata.jsonl", "\n".join("\x1e" + line for line in RECORDS)),  # RFC 7464
        ("metadata.jsonl", "\n\ufeff".join(RECORDS)),  # two files, one behind the other
        ("metadata.jsonl", "\n".join(RECORDS) + "\n\x1a"),
    ],
)
def test_what_surrounds_a_table_does_not_count(folder: Path, name: str, content: str) -> None:
    data = read(folder, content, name)
    assert [tile.patient for tile in data.tiles] == [0, 1]
    assert data.quarantined == ()


@pytest.mark.parametrize(
    ("name", "content", "message", "cure"),
    [
        ("metadata.csv", "\xef\xbb\xbf" + GOOD, "to UTF-8 twice", "with the encoding UTF-8"),
        ("metadata.csv", GOOD.replace("\n", "\u2028"), "a line feed", "ends of Windows or Unix"),
        ("metadata.csv", GOOD.replace("\n", "\x85"), "a line feed", "ends of Windows or Unix"),
        ("metadata.csv", GOOD.replace("\n", "\v"), "a line feed", "ends of Windows or Unix"),
        (
            "metadata.csv",
            "\u201cfile_name\u201d,\u201ctext\u201d,\u201cpatient_id\u201d\n",
            "begin with \u201c",
            "straight double quotes",
        ),
        ("metadata.csv", "'file_name';'text';'patient_id'\n", "begin with '", "straight double"),
        (
            "metadata.csv",
            "Dateiname;Beschriftung;Pseudonym\n",
            "no column file_name",
            "Rename the column Beschriftung to text. Rename the column Pseudonym to patient_id.",
        ),
        ("metadata.json", f"[{RECORDS[0]},\n{RECORDS[1]},]", "broken in line 2", "the last object"),
        ("metadata.jsonl", f"[{RECORDS[0]},\n{RECORDS[1][:20]}", "broken in line 2", "cut short"),
        ("metadata.csv.gz", "", "no metadata file", "metadata.csv.gz is not read: unpack it. Put"),
    ],
)
def test_a_table_of_another_kind_is_called_what_it_is(
    folder: Path, name: str, content: str, message: str, cure: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(folder, content, name)
    assert message in caught.value.message
    assert cure in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("metadata.csv", HEADER + "0.png,x,P0,\n", "take the separators off the ends of the lines"),
        (
            "metadata.csv",
            HEADER.replace("\n", ",\n") + "0.png,x,P0\n",
            "or take the separator off the end of the first line",
        ),
        (
            "metadata.json",
            '[{"image": "0.png", "caption": "x", "patient": "P"}]',
            "rename image to file_name, caption to text, patient to patient_id",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "0.png", "text": "x", "patient_id": ["A", "B"]}',
            "patient_id holds several ids",
        ),
        (
            "metadata.jsonl",
            '{"file_name": ["0.png"], "text": "x", "patient_id": "A"}',
            "file_name is a list; write one text",
        ),
    ],
)
def test_a_row_of_another_kind_says_how_it_is_written(
    folder: Path, name: str, content: str, words: str
) -> None:
    data = read(folder, content, name)
    assert data.tiles == ()
    assert words in data.quarantined[0].reason


ONE_PATIENT = [
    ("1234", "1.234", "1,234", "1'234", "1\u2019234", "1\u202f234", "+1234", "\u201c1234\u201d"),
    ("1234567", "1.234.567", "1,234,567", "1'234'567", "1\u00a0234\u00a0567"),
    ("123", "\uff11\uff12\uff13", "\u0661\u0662\u0663", "\u06f1\u06f2\u06f3", "\u00ab123\u00bb"),
    ("P-1", "p\u20111", "P\u20131", "P\u20141", "P\u22121", "\u2018P-1\u2019", "\u201eP-1\u201c"),
    ("1.5", "\u201c1.5\u201d", "'1.5"),
]


@pytest.mark.parametrize("ids", ONE_PATIENT)
def test_more_spellings_of_one_id_are_one_patient(ids: tuple[str, ...]) -> None:
    assert {patient_key(text) for text in ids} == {patient_key(ids[0])}
    assert not any(map(id_fault, ids))


def test_what_only_looks_grouped_stays_apart() -> None:
    ids = ("1.23", "12.34", "1234.5", "01.234", "1.2345", "1,234.567", "1.234-5", "a1.234")
    assert len({patient_key(text) for text in ids}) == len(ids)
    assert patient_key("1.000") == "1"  # as 1.0, which exports write for 1


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (
            "several ids",
            ["12, 13", "P1 & P2", "P1 und P2", "P1 and P2", "S21-1 + S21-2", "4 et 5", "1 y 2"],
        ),
        (
            "a date or a time",
            [
                "Mar 12, 2024",
                "March 12 2024",
                "Tue Mar 12 2024",
                "mrt-12",
                "2024\u5e743\u670812\u65e5",
            ],
        ),
        (
            "a date or a time",
            ["12/03/2024 0:00:00 AM", "2024-03-12T00:00:00+01:00", "3/12/2024, 1:05 PM"],
        ),
        (
            "stands for no patient",
            ["Infinity", "1.#INF", "-1.#IND", "Err:502", "#VALUE", "#NAME", "Loading..."],
        ),
        (
            "stands for no patient",
            [
                "N/K",
                "n.b.",
                "s/d",
                "desconhecido",
                "\u4e0d\u660e",
                "test",
                "Max Mustermann",
                "\u2014",
            ],
        ),
    ],
)
def test_more_ids_that_lost_their_meaning(words: str, ids: list[str]) -> None:
    assert [text for text in ids if words not in id_fault(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "Doe, John",
        "P1+P2",
        "12/13",
        "and-12",
        "ward e 7a",
        "M\u00fcller & Sohn",
        "March",
        "may",
        "#12",
    ],
)
def test_what_may_be_one_id_is_left_alone(text: str) -> None:
    assert id_fault(text) == ""
