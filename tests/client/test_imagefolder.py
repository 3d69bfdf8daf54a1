from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.data import SiteData, check_usable, load_site_data, read_tile, write_quarantine
from client.data.images import tile_size
from privacy.errors import DataError

from .pictures import HEADER, noise, write_csv, write_folder, write_jsonl

REAL = Path(__file__).parents[3] / "shared" / "data" / "sites"


_OUTSIDE = "leads outside of the data folder; write the name as it is seen from there"
_NOBODY = "patient_id is empty; write it in every row, also of merged cells"
_NO_OBJECT = (
    "the line is not a JSON object, or repeats a key; write one object in a line, with double "
    "quotes, and no comma behind it"
)


def reasons(data: SiteData) -> dict[str, str]:
    return {entry.file: entry.reason for entry in data.quarantined}


def test_a_sound_folder_is_read_whole(tmp_path: Path) -> None:
    data = load_site_data(write_folder(tmp_path, patients=3, tiles=2))
    assert [tile.patient for tile in data.tiles] == [0, 0, 1, 1, 2, 2]
    assert data.patients == 3
    assert data.quarantined == ()
    assert data.tiles[2].caption == "canary caption 1"


def test_no_health_data_in_any_repr(tmp_path: Path) -> None:
    data = load_site_data(write_folder(tmp_path / "folder", patients=3))
    assert "canary" not in repr(data) + repr(data.tiles) + repr(data.quarantined)


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    noise().save(tmp_path / "a.png")
    noise().save(tmp_path / "b.png")
    records = [
        {"file_name": "a.png", "text": "one", "patient_id": 7, "organ": "breast"},
        {"file_name": "b.png", "text": "two", "patient_id": None, "organ": None},
    ]
    write_csv(
        tmp_path, [("a.png", "one", 7, "breast"), ("b.png", "two", "", "")], (*HEADER, "organ")
    )
    from_csv = load_site_data(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    write_jsonl(tmp_path, records)
    from_jsonl = load_site_data(tmp_path)
    (tmp_path / "metadata.jsonl").unlink()
    parquet.write_table(arrow.Table.from_pylist(records), tmp_path / "metadata.parquet")
    assert from_csv == from_jsonl == load_site_data(tmp_path)
    assert from_csv.tiles[0].organ == "breast"
    assert reasons(from_csv) == {"b.png": _NOBODY}


@pytest.mark.parametrize(
    "spoiled",
    [
        {"file_name": "broken.png"},
        {"file_name": "nowhere.png"},
        {"text": ""},
        {"text": ["no text"]},  # the row cannot be used at all
        {"text": "\ud800"},
    ],
)
def test_who_is_enrolled_does_not_depend_on_what_becomes_of_the_rows(
    tmp_path: Path, spoiled: dict[str, object]
) -> None:
    """The first of three patients has nothing left; nobody else's number moves."""
    folder = write_folder(tmp_path, patients=3, tiles=1)
    whole = load_site_data(folder)
    assert (whole.patients, whole.enrolled) == (3, 3)
    (folder / "metadata.csv").unlink()
    (folder / "broken.png").write_bytes(b"no picture")
    records: list[dict[str, object]] = [
        {"file_name": tile.path.name, "text": tile.caption, "patient_id": f"p{tile.patient}"}
        for tile in whole.tiles
    ]
    write_jsonl(folder, [{**records[0], **spoiled}, *records[1:]])
    data = load_site_data(folder)
    assert [tile.patient for tile in data.tiles] == [1, 2]
    assert (data.patients, data.enrolled) == (2, 3)


def test_rows_of_nobody_enrol_nobody(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, patients=2, tiles=1)
    rows = [(tile.path.name, tile.caption, tile.patient) for tile in load_site_data(folder).tiles]
    write_csv(folder, [("a.png", "x", ""), ("b.png", "x", "NaN"), ("c.png", "x", "y" * 300), *rows])
    data = load_site_data(folder)
    assert ([tile.patient for tile in data.tiles], data.enrolled) == ([0, 1], 2)


def test_every_unusable_row_is_quarantined_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    noise().save(tmp_path / "outside.png")
    for name in ("good.png", "no-text.png", "no-patient.png", "nan-patient.png", "other.png"):
        noise().save(folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    rows = [
        ("good.png", "fine", "p1"),
        ("./good.png", "fine again", "p1"),
        ("no-text.png", " ", "p1"),
        ("no-patient.png", "x", ""),
        ("nan-patient.png", "x", "NaN"),
        ("broken.jpg", "x", "p2"),
        ("missing.png", "x", "p2"),
        ("../outside.png", "x", "p2"),
        (str(tmp_path / "outside.png"), "x", "p2"),
        ("link.png", "x", "p2"),
        ("folder.png", "x", "p2"),
        ("pipe.png", "x", "p2"),
        ("n" * 300, "x", "p2"),
        ("nul\0.png", "x", "p2"),
        ("", "x", "p2"),
        ("other.png", "x", "p2", "one cell too many"),
    ]
    write_csv(folder, rows)
    data = load_site_data(folder)
    assert [tile.path.name for tile in data.tiles] == ["good.png"]
    assert data.patients == 1
    assert reasons(data) == {
        "./good.png": "listed before",
        "no-text.png": "text is empty",
        "no-patient.png": _NOBODY,
        "nan-patient.png": _NOBODY,
        "broken.jpg": reasons(data)["broken.jpg"],
        "missing.png": "the file is missing",
        "../outside.png": _OUTSIDE,
        str(tmp_path / "outside.png"): _OUTSIDE,
        "link.png": _OUTSIDE,
        "folder.png": "not a regular file",
        "pipe.png": "not a regular file",
        "n" * 300: "not a usable file name",
        "nul\0.png": "not a usable file name",
        "(row 15)": "file_name is empty",
        "(row 16)": "more cells than columns; quote texts that hold a comma, as "
        '"…", and name every column in the first line',
    }


def test_a_file_listed_for_two_patients_is_each_ones(tmp_path: Path) -> None:
    write_folder(tmp_path, patients=1, tiles=1)
    noise().save(tmp_path / "shared.png")
    rows = [
        ("canary-file-0-0.png", "x", "p1"),
        ("shared.png", "x", "p1"),
        ("shared.png", "y", "p2"),
        ("./shared.png", "z", "p2"),
    ]
    write_csv(tmp_path, rows)
    data = load_site_data(tmp_path)
    assert [(tile.patient, tile.caption) for tile in data.tiles] == [(0, "x"), (0, "x"), (1, "y")]
    assert reasons(data) == {"./shared.png": "listed before"}


def test_a_broken_mask_costs_the_mask_and_not_the_tile(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        noise().save(tmp_path / name)
    Image.fromarray(np.ones((32, 32), dtype=np.uint16)).save(tmp_path / "mask.png")
    Image.fromarray(np.ones((20, 20), dtype=np.uint16)).save(tmp_path / "small.png")
    rows = [
        ("a.png", "x", "p1", "mask.png"),
        ("b.png", "x", "p1", "small.png"),
        ("c.png", "x", "p1", "gone.png"),
    ]
    write_csv(tmp_path, rows, (*HEADER, "mask"))
    data = load_site_data(tmp_path)
    assert [tile.mask and tile.mask.name for tile in data.tiles] == ["mask.png", None, None]
    assert reasons(data) == {
        "small.png": "mask: its size is not the tile's",
        "gone.png": "mask: the file is missing",
    }


def test_broken_lines_of_jsonl_are_quarantined(tmp_path: Path) -> None:
    write_folder(tmp_path, patients=1, tiles=1)
    (tmp_path / "metadata.csv").unlink()
    good = '{"file_name": "canary-file-0-0.png", "text": "x", "patient_id": "p"}\n'
    (tmp_path / "metadata.jsonl").write_text(
        good + "{broken\n\n[1]\n" + '{"file_name": "a", "text": {"b": 1}, "patient_id": "p"}\n'
    )
    data = load_site_data(tmp_path)
    assert len(data.tiles) == 1
    assert reasons(data) == {
        "(row 2)": _NO_OBJECT,
        "(row 3)": _NO_OBJECT,
        "(row 4)": "text is not text",
    }


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (("file_name", "text"), "no column patient_id.*Privacy is promised per patient"),
        (("file_name", "text", "patient"), "Rename the column patient to patient_id"),
        (("file_nam", "text", "patient_id"), "Rename the column file_nam to file_name"),
        (("file_name", "caption", "patient_id"), "no column text.*Rename the column caption to"),
        (("file_name", "words", "patient_id"), "no column text.*Required are"),
    ],
)
def test_a_missing_column_is_an_error_with_the_fix(
    tmp_path: Path, header: tuple[str, ...], message: str
) -> None:
    write_csv(tmp_path, [("a.png", "x", "p")], header)
    with pytest.raises(DataError, match=message):
        load_site_data(tmp_path)


def _nothing(folder: Path) -> None:
    folder.mkdir()


def _two_files(folder: Path) -> None:
    write_folder(folder)
    write_jsonl(folder, [])


def _latin(folder: Path) -> None:
    folder.mkdir()
    (folder / "metadata.csv").write_bytes(
        "file_name,text,patient_id,Präparat\na,x,p,1".encode("latin-1")
    )


def _no_header(folder: Path) -> None:
    folder.mkdir()
    (folder / "metadata.csv").write_text('"file_name,text,patient_id\na,x,p\n')


def _no_parquet(folder: Path) -> None:
    folder.mkdir()
    (folder / "metadata.parquet").write_bytes(b"PAR1 nothing")


def _wide(folder: Path) -> None:
    folder.mkdir()
    (folder / "metadata.jsonl").write_text('{"file_name": "a"}', "utf-16")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "does not exist"),
        (_nothing, "no metadata file.*file_name, text, patient_id"),
        (_two_files, "metadata.csv and metadata.jsonl"),
        (_latin, "not UTF-8"),
        (_wide, "not UTF-8"),
        (_no_header, "no header"),
        (_no_parquet, "damaged"),
    ],
)
def test_a_useless_folder_is_an_error_with_the_fix(
    tmp_path: Path, make: object, message: str
) -> None:
    assert callable(make)
    make(tmp_path / "site")
    with pytest.raises(DataError, match=message):
        load_site_data(tmp_path / "site")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([("a.png", "x", "p"), ("b.png", "x", "p")], r"\(2 of 2\): the file is missing"),
    ],
)
def test_a_folder_without_a_usable_tile_is_refused_at_a_desk_alone(
    tmp_path: Path, rows: list[tuple[str, ...]], message: str
) -> None:
    write_csv(tmp_path, rows)
    data = load_site_data(tmp_path)
    assert (data.tiles, data.patients) == ((), 0)
    with pytest.raises(DataError, match="no usable tile.*" + message):
        check_usable(data, tmp_path)


def test_excel_marks_its_utf8(tmp_path: Path) -> None:
    write_folder(tmp_path, patients=2)
    text = (tmp_path / "metadata.csv").read_bytes()
    (tmp_path / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + text)
    assert load_site_data(tmp_path).patients == 2


def test_the_quarantine_list_is_private_and_replaced(tmp_path: Path) -> None:
    write_csv(tmp_path, [("a.png", "x", "p"), ("b.png", "x", "")])
    noise().save(tmp_path / "a.png")
    noise().save(tmp_path / "b.png")
    path = tmp_path / "quarantine.csv"
    path.write_text("older")
    path.chmod(0o644)
    write_quarantine(path, load_site_data(tmp_path).quarantined)
    assert path.read_text().splitlines() == ["file,reason", f'b.png,"{_NOBODY}"']
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_quarantine_list_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.csv" / "folder").mkdir(parents=True)
    with pytest.raises(DataError, match=r"list\.csv cannot be written.*free space"):
        write_quarantine(tmp_path / "list.csv", [])


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tiles (../shared/data/sites) are not here")
def test_the_438_real_tiles_are_all_usable() -> None:
    sites = [load_site_data(REAL / name) for name in ("site-1", "site-2", "site-3")]
    assert [len(data.tiles) for data in sites] == [135, 190, 113]
    assert [data.patients for data in sites[:2]] == [8, 8]
    assert [data.quarantined for data in sites] == [(), (), ()]
    assert sum(tile.mask is not None for tile in sites[2].tiles) == 36
    assert max(Counter(tile.patient for data in sites[:2] for tile in data.tiles).values()) > 20
    assert read_tile(sites[2].tiles[0].path, 64).shape == (64, 64, 3)


@pytest.mark.parametrize(
    "ids",
    [
        ("P1", "p1 ", "P 1"),
        ("001", "1", "1.0"),
        ("caf\u00e9", "cafe\u0301", "caf\u00e9\u200b"),
        ("P\u00a01", "\uff301", "P1"),
    ],
)
def test_one_patient_written_in_several_ways_is_one(tmp_path: Path, ids: tuple[str, ...]) -> None:
    """Taken for two, a patient would be protected half."""
    for number in range(len(ids)):
        noise(seed=number).save(tmp_path / f"{number}.png")
    write_csv(tmp_path, [(f"{number}.png", "text", name) for number, name in enumerate(ids)])
    data = load_site_data(tmp_path)
    assert data.patients == 1
    assert len(data.tiles) == len(ids)


def test_different_patients_stay_different(tmp_path: Path) -> None:
    ids = ("0", "10", "100", "P1", "P01", "1.5", "-1", "1-0")
    for number in range(len(ids)):
        noise(seed=number).save(tmp_path / f"{number}.png")
    write_csv(tmp_path, [(f"{number}.png", "text", name) for number, name in enumerate(ids)])
    assert load_site_data(tmp_path).patients == len(ids)


def test_the_same_picture_under_several_patients_is_each_ones(tmp_path: Path) -> None:
    for name, seed in (("a.png", 1), ("copy-of-a.png", 1), ("b.png", 2), ("b2.png", 2)):
        noise(seed=seed).save(tmp_path / name)
    rows = [("a.png", "text", "P1"), ("copy-of-a.png", "text", "P2")]
    write_csv(tmp_path, [*rows, ("b.png", "text", "P3"), ("b2.png", "text", "P3")])
    data = load_site_data(tmp_path)
    assert [tile.patient for tile in data.tiles] == [0, 1, 2, 2]
    assert data.quarantined == ()


def test_a_column_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    write_csv(tmp_path, [("a.png", "text", "P1", "P2")], (*HEADER, "patient_id"))
    with pytest.raises(DataError, match="has the column patient_id 2 times"):
        load_site_data(tmp_path)


def test_lines_that_cannot_be_believed_are_quarantined(tmp_path: Path) -> None:
    """A key that stands twice, and half of a surrogate pair, which no tokenizer takes."""
    for number in range(4):
        noise(seed=number).save(tmp_path / f"{number}.png")
    lines = [
        '{"file_name": "0.png", "text": "x", "patient_id": "A", "patient_id": "B"}',
        '{"file_name": "1.png", "text": "half \\ud800 a pair", "patient_id": "A"}',
        '{"file_name": "2.png", "text": "x", "patient_id": "\\udfff"}',
        '{"file_name": "3.png", "text": "x", "patient_id": "A"}',
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    data = load_site_data(tmp_path)
    assert [tile.path.name for tile in data.tiles] == ["3.png"]
    assert sorted(entry.reason for entry in data.quarantined) == [
        "patient_id is not valid text",
        "text is not valid text",
        _NO_OBJECT,
    ]


def test_a_parquet_text_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    noise().save(tmp_path / "a.png")
    offsets = np.array([0, 1, 2], dtype=np.int32).tobytes()
    parts = [None, arrow.py_buffer(offsets), arrow.py_buffer(b"\xffx")]
    text = arrow.Array.from_buffers(arrow.string(), 2, parts)
    table = {"file_name": ["a.png"] * 2, "text": text, "patient_id": ["P1", "P2"]}
    parquet.write_table(arrow.table(table), tmp_path / "metadata.parquet")
    data = load_site_data(tmp_path)
    assert [(tile.path.name, tile.caption) for tile in data.tiles] == [("a.png", "x")]
    assert [entry.reason for entry in data.quarantined] == ["text is not text"]


def test_a_file_that_is_too_large_is_not_even_hashed(tmp_path: Path) -> None:
    write_folder(tmp_path, patients=1, tiles=1)
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**40)  # a hole: takes no room
    with (tmp_path / "metadata.csv").open("a") as table:
        table.write("huge.png,x,p\n")
    data = load_site_data(tmp_path)
    assert reasons(data) == {"huge.png": "larger than 268435456 bytes"}
    assert len(data.tiles) == 1


@pytest.mark.parametrize("error", [MemoryError, RecursionError, AssertionError, AttributeError])
def test_whatever_a_decoder_raises_costs_one_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    write_folder(tmp_path, patients=2, tiles=1)

    broken = (tmp_path / "canary-file-0-0.png").read_bytes()

    def size(data: bytes) -> tuple[int, int]:
        if data == broken:
            raise error
        return tile_size(data)

    monkeypatch.setattr("client.data.files.tile_size", size)
    data = load_site_data(tmp_path)
    assert reasons(data) == {
        "canary-file-0-0.png": "damaged image; copy it again, or export it again"
    }
    assert data.patients == 1
