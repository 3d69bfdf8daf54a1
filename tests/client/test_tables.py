"""Tables as hospitals write them: read rightly, or refused with the cause and the cure."""

from __future__ import annotations

import csv
import gzip
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.data import SiteData, check_usable, load_site_data, read_tile_mask, write_quarantine
from client.data.metadata import patient_key
from client.data.patient_ids import id_fault
from privacy.errors import DataError

from .pictures import noise

CASES = Path(__file__).parents[3] / "shared" / "cases" / "tables"
# What becomes of each case: usable tiles, patients, and words of the reason for what is left out.
OUTCOMES: dict[str, tuple[int, int, str]] = {
    "csv_huge_field": (5, 3, "more than 131072 characters"),
    "csv_injection": (5, 3, "the file is missing"),
    "csv_shifted_columns": (0, 0, "quote such texts"),
    "excel_scientific_ids": (0, 0, "format the column as text"),
    "excel_sep_line": (6, 3, ""),
    "ext_case_mismatch": (6, 3, ""),
    "header_space_after_comma": (6, 3, ""),
    "jsonl_is_array": (6, 1, ""),
    "jsonl_list_captions": (0, 0, "text is a list; write one text"),
    "leading_zeros_vs_floats": (8, 1, ""),
    "missing_value_words": (2, 2, "give every tile the id of its patient"),
    "nfd_files_nfc_table": (6, 3, ""),
    "semicolons_excel_de": (6, 3, ""),
    "windows_paths": (6, 3, ""),
}


def reasons(data: SiteData) -> list[str]:
    return [entry.reason for entry in data.quarantined]


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases (../shared/cases/tables) are not here")
@pytest.mark.parametrize("case", OUTCOMES)
def test_every_case_ends_as_it_should(case: str) -> None:
    tiles, patients, words = OUTCOMES[case]
    data = load_site_data(CASES / case)
    assert (len(data.tiles), data.patients) == (tiles, patients)
    assert all(words and words in reason for reason in reasons(data))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        noise(seed=number).save(tmp_path / f"{number}.png")
    return tmp_path


def _table(folder: Path, text: str | bytes, name: str = "metadata.csv") -> SiteData:
    content = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(content)
    return load_site_data(folder)


CAPTION = "gl\u00e4nds, open; wide"
ROWS = [(f"{number}.png", CAPTION, f"P{number // 2}") for number in range(4)]
HEADER = ("file_name", "text", "patient_id")


def _lines(separator: str, rows: Sequence[Sequence[str]] = (HEADER, *ROWS), gap: str = "") -> str:
    quoted = (
        [f'"{cell}"' if any(c in cell for c in ",;|\t") else cell for cell in row] for row in rows
    )
    return "\n".join((separator + gap).join(row) for row in quoted) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        _lines(","),
        _lines(";"),
        _lines("\t"),
        _lines("|"),
        "sep=;\n" + _lines(";"),
        "SEP=,\r\n" + _lines(",").replace("\n", "\r\n"),
        '"sep=;"\n' + _lines(";"),
        "sep=^\n" + _lines("^"),
        _lines(",", gap=" "),
        _lines(";", gap="  "),
        "\ufeff" + _lines(";").replace("\n", "\r"),
        _lines("\t").encode("utf-16"),  # Excel's "Unicode text"
        b"\xfe\xff" + _lines(",").encode("utf-16-be"),
        _lines(";").encode("cp1252"),
        _lines(",", [("\u200bfile_name", "\u00a0text ", "Patient ID\u2060"), *ROWS]),
        _lines(",", [("File Name", "TEXT", "patient-id"), *ROWS]),
        _lines(",", [("filename", "Text", "PatientID"), *ROWS]),
        _lines(";", [("fileName", "text", "Patient\u00a0Id_"), *ROWS]),
        _lines(",", [HEADER, *((f"{a}\u200b", f"\ufeff{b}", f"\u00a0{c}") for a, b, c in ROWS)]),
        _lines(",", [(*HEADER, "", ""), *((*row, "", "") for row in ROWS)]),
    ],
)
def test_however_a_program_separates_and_encodes(folder: Path, content: str | bytes) -> None:
    data = _table(folder, content)
    assert [(tile.caption, tile.patient) for tile in data.tiles] == [
        (CAPTION, number // 2) for number in range(4)
    ]
    assert data.quarantined == ()


def test_a_column_of_exactly_our_name_counts(folder: Path) -> None:
    rows = [(*HEADER, "Patient ID"), *((*row, f"visit {n}") for n, row in enumerate(ROWS))]
    assert _table(folder, _lines(",", rows)).patients == 2


RECORDS = [dict(zip(HEADER, row, strict=True)) for row in ROWS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.jsonl", json.dumps(RECORDS)),
        ("metadata.jsonl", json.dumps(RECORDS, indent=2)),
        ("metadata.jsonl", "\ufeff" + json.dumps(RECORDS, indent=2)),
        ("metadata.json", json.dumps(RECORDS)),
        ("metadata.json", "\n".join(map(json.dumps, RECORDS))),
        ("Metadata.JSONL", "\n".join(map(json.dumps, RECORDS))),
        ("metadata.tsv", _lines("\t")),
        ("METADATA.CSV", _lines(";")),
    ],
)
def test_json_as_array_or_lines_and_other_names(folder: Path, name: str, content: str) -> None:
    data = _table(folder, content, name)
    assert [tile.patient for tile in data.tiles] == [0, 0, 1, 1]
    assert data.tiles[0].caption == CAPTION


def test_one_bad_object_costs_itself_alone_in_an_array_too(folder: Path) -> None:
    good = json.dumps(RECORDS[0])
    twice = '{"file_name": "1.png", "text": "x", "patient_id": "A", "patient_id": "B"}'
    listed = json.dumps({**RECORDS[2], "text": ["one", "two"]})
    endless = good.replace('"P0"', "9" * 5000)
    data = _table(folder, f'[{good}, {twice}, 7, {listed}, ["x"], {endless}]', "metadata.jsonl")
    assert "patient_id has more than 256 characters" in reasons(data)
    assert [tile.path.name for tile in data.tiles] == ["0.png"]
    assert reasons(data)[0] == reasons(data)[1] == reasons(data)[3]
    assert "text is a list; write one text" in reasons(data)[2]
    assert data.enrolled == 2


@pytest.mark.parametrize(
    ("name", "content", "cure"),
    [
        ("metadata.json", json.dumps({"file_name": {"0": "0.png"}}), "one object for each tile"),
        ("metadata.json", "[{broken", "one object for each tile"),
        ("metadata.json", "", "one object for each tile"),
        ("metadata.xlsx", "PK", "metadata.xlsx is not read: save it as metadata.csv"),
        ("metadata.csv.txt", "x", "have Windows show the endings"),
        ("metadata.csv", _lines(",").encode("utf-16-le"), "Save it with the encoding UTF-8"),
        ("metadata.csv", _lines(",").encode("utf-32"), "Save it with the encoding UTF-8"),
        ("metadata.jsonl", json.dumps(RECORDS).encode("utf-16"), "with the encoding UTF-8"),
        ("metadata.csv", "sep=;\n", "Export it again"),
        ("metadata.csv", "a;b;c\n", "every tile needs its patient"),
        ("metadata.csv", "Bild;Befund;Patienten-ID\n", "Rename the column Befund to text. Ren"),
        ("metadata.csv", "image,caption,MRN\n", "Rename the column MRN to patient_id."),
        ("metadata.csv", "of 2024-01-01\n\n" + _lines(","), "Delete what stands above them"),
        ("metadata.csv", ",,\n" + _lines(","), "Delete what stands above them"),
        ("metadata.csv", _lines(",").split("\n", 1)[1], "a line with the names of the columns"),
        ("metadata.csv", "file_name^text^patient_id\n", "as comma-separated CSV"),
        ("metadata.csv", "file_name  text  patient_id\n", "as comma-separated CSV"),
        ("metadata.csv", '"file_name,text,patient_id"\n', "without quotes around whole lines"),
        ("metadata.csv", b"PK\x03\x04" + bytes(99), "in the program that made it and save"),
        ("metadata.csv", b"\xd0\xcf\x11\xe0" + bytes(99), "in the program that made it and save"),
        ("metadata.csv", "<html><table>", "in the program that made it and save"),
        ("metadata.csv", gzip.compress(b"file_name", mtime=0), "Unpack it"),
        ("metadata.csv", b"PAR1" + bytes(99), "Call it metadata.parquet"),
        ("metadata.csv", json.dumps(RECORDS), "Call it metadata.jsonl"),
        ("metadata.jsonl", _lines(";"), "Call it metadata.csv"),
        ("metadata.csv", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("labels.csv", _lines(","), "labels.csv is not read: save it as metadata.csv"),
        ("metadata.csv.gz", b"", "metadata.csv.gz is not read"),
    ],
)
def test_what_cannot_be_told_is_refused_as_a_whole(
    folder: Path, name: str, content: str | bytes, cure: str
) -> None:
    with pytest.raises(DataError) as caught:
        _table(folder, content, name)
    assert cure in caught.value.hint


def test_a_table_in_a_folder_below_is_told(folder: Path) -> None:
    (folder / "train").mkdir()
    (folder / "train" / "metadata.csv").write_text(_lines(","))
    with pytest.raises(DataError) as caught:
        load_site_data(folder)
    assert "There is one in train" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "cure"),
    [
        ("metadata.csv", _lines(",").replace("P", "P,"), "name every column in the first line"),
        (
            "metadata.csv",
            'file_name,text,patient_id\n0.png,"a \\"b\\" c",P\n',
            "quote within a text",
        ),
        ("metadata.jsonl", json.dumps(RECORDS[0]) + ",\n", "no comma behind it"),
        ("metadata.jsonl", repr(RECORDS[0]) + "\n", "with double quotes"),
        ("metadata.jsonl", json.dumps(RECORDS[0], indent=1), "one object in a line"),
        (
            "metadata.jsonl",
            '{"image": "0.png", "text": "x", "patient_id": "P"}',
            "it has no file_name",
        ),
        ("metadata.jsonl", '{"data": []}', "it has no file_name"),
        ("metadata.csv", "file_name,text,patient_id\n0.png,x,P1;P2\n", "for each of its patients"),
    ],
)
def test_a_row_that_cannot_be_used_says_how_to_write_it(
    folder: Path, name: str, content: str, cure: str
) -> None:
    data = _table(folder, content, name)
    assert data.tiles == ()
    assert cure in reasons(data)[0]


def test_empty_rows_and_a_repeated_header_are_nobody(folder: Path) -> None:
    data = _table(folder, _lines(",") + ",,\n" * 5 + _lines(","))
    assert (len(data.tiles), data.patients, data.enrolled) == (4, 2, 2)
    assert len(data.quarantined) == 5 and "stands for no patient" in reasons(data)[0]


def test_a_letter_of_windows_is_read_where_it_can_be_no_other(folder: Path) -> None:
    cells = ["Dr\u00fcse".encode("cp1252"), "\u0436\u0435\u043b".encode("cp1251")]
    cells += ["Dr\u00fcse".encode("cp850"), "Dr\u00fcse".encode()]
    lines = [b"%d.png,%s,P" % (number, cell) for number, cell in enumerate(cells)]
    data = _table(folder, b"file_name,text,patient_id\n" + b"\n".join(lines))
    assert [tile.caption for tile in data.tiles] == ["Dr\u00fcse"] * 2
    assert [reason.split(";")[1] for reason in reasons(data)] == [" save it with that encoding"] * 2


SAME = [
    ("00123", "123", "123.0", "123,0", "'00123", '="00123"', "1.23E+02", "\u00a0123\u200b"),
    ("P 7", "p7", "\u2019P7", '="P7"', "\ufeffP7"),
    ("1234567890123", "1.234567890123E+12", "1,234567890123e+12"),
]


@pytest.mark.parametrize("ids", SAME)
def test_one_id_in_the_forms_of_spreadsheets_is_one_patient(ids: tuple[str, ...]) -> None:
    assert len({patient_key(text) for text in ids}) == 1
    assert not any(map(id_fault, ids))


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("digits are lost", ["1.23457E+12", "1,2E+05", "1E+12", "9.8e+15", "1.5e-3", "'1.2E+12"]),
        (
            "a date or a time",
            ["2012-03-12", "12.03.2021", "3/12/2021", "12. Mrz", "12-Mar", "12/3/21"],
        ),
        ("a date or a time", ["Mar-12", "01-d\u00e9c", "2012-03-12 00:00:00", "12:30", "'12-Mar"]),
        ("stands for no patient", ["#N/A", "#NV", "#REF!", "#BEZUG!", "#NOM?", "#\u00dcBERLAUF!"]),
        (
            "stands for no patient",
            ["unknown", "Unbekannt", "-", "?", "...", "####", "XXX", "k. A."],
        ),
        ("stands for no patient", ["TBD", "NaT", "missing", "inconnu", "TRUE", "<unknown>"]),
        (
            "stands for no patient",
            ["N.N.", "(blank)", "(leer)", "nil", "\\N", "redacted"],
        ),
        (
            "stands for no patient",
            ["Patient ID", "siehe oben", "ditto", "-nan"],
        ),
    ],
)
def test_an_id_that_lost_its_meaning_is_refused(folder: Path, words: str, ids: list[str]) -> None:
    assert [text for text in ids if words not in id_fault(text)] == []
    data = _table(folder, _lines(",", [HEADER, *(("0.png", "x", text) for text in ids)]))
    assert (data.tiles, data.enrolled, len(data.quarantined)) == ((), 0, len(ids))


KEPT = (
    "0 1e5 12e45 3f2a91e4 3-12 21-1234 010190-1234 maria-12 decker x s21-12345 01-02-21 nov a.1 "
    "1.5 (12) {3f2a} control"
)


@pytest.mark.parametrize("text", KEPT.split())
def test_what_may_be_an_id_stays_one(text: str) -> None:
    assert (id_fault(text), patient_key(text.upper())) == ("", text)


@pytest.mark.parametrize("value", [1e17, 1.5e16])
def test_a_number_too_large_to_be_exact_is_no_id(folder: Path, value: float) -> None:
    lines = [json.dumps({**RECORDS[0], "patient_id": value})]
    lines.append(json.dumps(RECORDS[1]).replace('"P0"', "1.23457e+12"))
    lines.append(json.dumps(RECORDS[2]).replace('"P1"', "123.0"))
    data = _table(folder, "\n".join(lines), "metadata.jsonl")
    assert [tile.path.name for tile in data.tiles] == ["2.png"]
    assert all("digits are lost" in reason for reason in reasons(data))


def test_parquet_columns_that_cannot_hold_an_id(folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    columns = {"file_name": ["0.png", "1.png"], "text": ["x", "x"]}
    path = folder / "metadata.parquet"
    ids = arrow.array([1e17, 7.0])
    parquet.write_table(arrow.table({**columns, "Patient ID": ids}), path)
    data = load_site_data(folder)
    assert [tile.path.name for tile in data.tiles] == ["1.png"]
    assert "digits are lost" in reasons(data)[0]
    dates = arrow.array([0, 1], arrow.date32())
    parquet.write_table(arrow.table({**columns, "patient_id": dates}), path)
    assert all("a date or a time" in reason for reason in reasons(load_site_data(folder)))
    single = arrow.array([1.0, 7.0], arrow.float32())
    parquet.write_table(arrow.table({**columns, "patient_id": single}), path)
    with pytest.raises(DataError, match="cannot hold every id"):
        load_site_data(folder)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0.png,glands, colon,P0,S0", "quote such texts"),
        ("0.png,glands, stage 2,P0,S0", "quote such texts"),
        ("0.png,glands, colon,P0,S0,colon", "more cells than columns"),
        ("0.png,P0,S0,colon", "fewer cells than columns"),
        ("0.png,x,P0,S0", "fewer cells than columns"),
    ],
)
def test_cells_in_the_wrong_column_make_nobodys_patient(folder: Path, row: str, words: str) -> None:
    good = "1.png,x,P1,S1,colon\n2.png, x, P1, S1, colon\n3.png,x,  7,S1,\n"
    data = _table(folder, f"file_name,text,patient_id,slide_id,organ\n{row}\n{good}")
    assert [tile.path.name for tile in data.tiles] == ["1.png", "2.png", "3.png"]
    assert (words in reasons(data)[0], data.enrolled) == (True, 2)


@pytest.mark.parametrize(
    ("on_disk", "in_table"),
    [
        ("Dr\u00fcse_A.PNG", "images\\dr\u00fcse_a.png"),
        ("Dru\u0308se.png", "images/Dr\u00fcse.png"),
        ("Dr\u00fcse.png", "IMAGES\\Dru\u0308se.png"),
        ("a.png", ".\\images\\a.png"),
        ("a.png", "images/a\u200b.png"),
        ("a.TIF", "images/A.tif"),
        ("my tile.png", "images/my%20tile.png"),
    ],
)
def test_a_file_is_found_however_its_name_is_written(
    tmp_path: Path, on_disk: str, in_table: str
) -> None:
    (tmp_path / "images").mkdir()
    noise().save(tmp_path / "images" / on_disk)
    data = _table(tmp_path, _lines(",", [HEADER, (in_table, "x", "P")]))
    assert [unicodedata.normalize("NFC", tile.path.name) for tile in data.tiles] == [
        unicodedata.normalize("NFC", on_disk)
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("C:\\Users\\me\\0.png", "a path of another computer"),
        ("\\\\server\\share\\0.png", "a path of another computer"),
        ("file:///data/0.png", "a path of another computer"),
        ("s3://data/0.png", "a path of another computer"),
        ("~/0.png", "a path of another computer"),
        ("/home/me/0.png", "write the name as it is seen from there"),
        ("site/0.png", "there is one in the data folder itself"),
        ("below.png", "there is one in a folder of the data folder"),
        ("0.jpg", "there is one with another ending"),
        ("..\\outside.png", "the file is missing"),
        ("link\\OUTSIDE.png", "the file is missing"),
        ("TWO.png", "only in case"),
        ("none\\0.png", "the file is missing"),
    ],
)
def test_no_other_file_is_taken_for_it(tmp_path: Path, name: str, words: str) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sub").mkdir()
    files = ("site/0.png", "site/Two.png", "site/two.PNG", "outside.png", "site/sub/below.png")
    for path in files:
        noise().save(tmp_path / path)
    (site / "link").symlink_to(tmp_path)
    data = _table(site, _lines(",", [HEADER, (name, "x", "P")]))
    assert data.tiles == ()
    assert words in reasons(data)[0]


FORMULAS = ["=cmd|'/C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\uff1d1+1", 'x;"=1+1', "x,=1"]


def test_the_list_of_what_is_left_out_starts_nothing_and_is_always_written(tmp_path: Path) -> None:
    rows = [(f"{text}.png", "=1+1", "P") for text in FORMULAS]
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows, ("line\nbreak\x1b.png", "x", "P")])
    data = load_site_data(tmp_path)
    with pytest.raises(DataError, match="no usable tile"):
        check_usable(data, tmp_path)
    write_quarantine(tmp_path / "quarantine.csv", data.quarantined)
    text = (tmp_path / "quarantine.csv").read_text()
    assert text.count("\n") == len(rows) + 2
    for separator in ",;\t|":
        for row in csv.reader(text.splitlines(), delimiter=separator):
            assert not [cell for cell in row if cell.lstrip(' "')[:1] in set("=+-@\uff1d")]


def test_a_formula_in_a_caption_is_a_caption(folder: Path) -> None:
    formula = '=HYPERLINK("http://x","y")'
    (folder / "metadata.jsonl").write_text(json.dumps({**RECORDS[0], "text": formula}))
    assert load_site_data(folder).tiles[0].caption == formula


Save = Callable[[Path], object]


def _archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, masks=np.ones((32, 32)))


def _promises(path: Path) -> None:
    """A header of a terabyte, and no numbers."""
    with path.open("wb") as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (2**20, 2**20)}
        np.lib.format.write_array_header_1_0(file, header)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, ">i8", np.bool_])
def test_label_arrays_of_cellpose_and_stardist_are_masks(
    folder: Path, kind: np.typing.DTypeLike
) -> None:
    np.save(folder / "labels.npy", np.ones((32, 32), dtype=kind))
    rows = [(*HEADER, "mask"), (*ROWS[0], "labels.npy")]
    data = _table(folder, _lines(",", rows))
    assert data.quarantined == ()
    mask = data.tiles[0].mask
    assert mask is not None
    assert np.array_equal(read_tile_mask(mask, 32), np.ones((32, 32)))


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (lambda p: np.save(p, np.array({"masks": 1}, object)), "a pickle, as Cellpose's _seg.npy"),
        (_archive, "an archive"),
        (_promises, "not a tile's"),
        (lambda p: np.save(p, np.ones((32, 32))), "whole numbers, not float64"),
        (lambda p: np.save(p, np.ones((2, 32, 32), int)), "3 dimensions"),
        (lambda p: np.save(p, np.full((32, 32), -1)), "outside of 16 bit"),
        (lambda p: np.save(p, np.ones((16, 32), int)), "its size is not the tile's"),
        (lambda p: p.write_bytes(b"\x93NUMPY\x01\0\x10\0{"), "damaged array"),
        (lambda p: np.save(p, np.ones((32, 32), complex)), "whole numbers, not complex128"),
        (lambda p: np.save(p, np.full((32, 32), "a")), "whole numbers, not str"),
        (lambda p: p.write_bytes(b"MATLAB 5.0 MAT-file"), "a MATLAB file (.mat); export it as PNG"),
        (lambda p: p.write_bytes(b"Iout"), "outlines of ImageJ (.roi); export it as PNG"),
        (lambda p: p.write_text('{"type": "FeatureCollection"}'), "a JSON file; export it as PNG"),
        (lambda p: Image.new("RGB", (32, 32)).save(p, "PNG"), "not a coloured picture of them"),
        (lambda p: Image.new("F", (32, 32)).save(p, "TIFF"), "not floating-point ones: export lab"),
        (lambda p: Image.new("L", (32, 32), 3).save(p, "JPEG"), "changes labels; export the mask"),
        (
            lambda p: noise().convert("L").save(p, "JPEG2000", irreversible=True),
            "changes labels; export the mask",
        ),
        (
            lambda p: Image.new("L", (32, 32), 3).save(p, "TIFF", compression="jpeg"),
            "changes labels; export the mask",
        ),
        (lambda p: p.write_bytes(b"\x93NUMPY\x09\0\x10\0{"), "damaged array"),
    ],
)
def test_other_arrays_are_refused_and_nothing_is_unpickled(
    folder: Path, save: Save, words: str
) -> None:
    save(folder / "mask.npy")
    data = _table(folder, _lines(",", [(*HEADER, "mask"), (*ROWS[0], "mask.npy")]))
    assert len(data.tiles) == 1
    assert words in reasons(data)[0]
