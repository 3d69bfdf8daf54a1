"""Ids of slides, blocks and examinations are found; those of patients are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.data import check_believable, load_site_data
from client.data.metadata import patient_key
from client.data.suspicion import IdAppearance, doubt
from privacy.errors import DataError

from .pictures import HEADER, noise, write_csv

REAL = Path(__file__).parents[3] / "shared" / "data" / "sites"


def about(ids: list[str], *, tiles: int = 2, slides: int = 2) -> str:
    names = frozenset(f"s{number}" for number in range(slides))
    return doubt({patient_key(text): IdAppearance(tiles, names) for text in ids})


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["TCGA-AA-3518-01A-01-TS1", "TCGA-AA-3519-01Z-00-DX1"], "TCGA barcodes"),
        (["S21-12345", "S21-12346", "S20-0001"], "accession numbers"),
        (["SP-one", "SP2021-12345", "SP2021-12399"], "2 of 3 ids look like accession"),
        (["H 19/12345", "H 19/12346"], "accession numbers"),
        (["14-22549AB", "14-22549CD", "14-14134E"], "block or slide"),
        (["21-1234 A1", "21-1234 A2", "21-9999 B1-2"], "block or slide"),
        (["1234567-A1", "1234568-A1"], "block or slide"),
        (["case-0001.svs", "case-0002.ndpi"], "slide or image files"),
        (["4006381333931", "4006381333948"], "barcodes"),
        (["1234567890123450", "1234567890123460", "7"], "cut to 15 digits"),
        (["20210312", "19501231", "p1"], "look like dates"),
        (["-1", "17", "18"], "negative numbers"),
        (["0", "17", "18"], "one of 3 ids is 0, and none is 1"),
        (["*A123*", "*A124*"], "barcodes"),
        (["1.2.840.113619.2.1", "1.2.840.113619.2.2"], "barcodes"),
        (["p-00041-a", "p-00041-b", "p-00042", "p-00043", "p-00044", "p-00045"], "share a number"),
    ],
)
def test_shapes_of_slides_blocks_and_examinations(ids: list[str], words: str) -> None:
    assert words in about(ids)


@pytest.mark.parametrize(
    "ids",
    [
        [f"P{n}" for n in range(30)],
        [f"{n:04d}" for n in range(30)],
        [f"north-{n:04d}" for n in range(30)],
        [f"patient {n}" for n in range(30)],
        ["14-22549", "14-14134", "14-10926"],
        ["TCGA-AA-3518", "TCGA-AA-3519"],
        ["3f2a91bc", "77bc0123", "00aa12fe", "12345678", "9b1d2f3a"],
        ["6f1e2f0e-36c4-4c0b-9d0a-6d1f0d3f6a11", "0b8e2f0e-36c4-4c0b-9d0a-6d1f0d3f6a12"],
        ["010190-1234", "020280-4321"],
        ["7012345", "7012346", "7099999"],
        ["0", "1", "2", "3"],
        ["0"],
        ["20210312", "20219912", "20210399"],
        ["CRC-Prim-HE-07", "CRC-Prim-HE-01", "hgsc_nest", "CMU-1"],
    ],
)
def test_ids_of_patients_are_left_alone(ids: list[str]) -> None:
    assert about(ids) == ""


@pytest.mark.parametrize(
    ("count", "tiles", "slides", "words"),
    [
        (10, 1, 1, "a single tile"),
        (9, 1, 1, ""),
        (10, 5, 1, "a single slide"),
        (9, 5, 1, ""),
        (40, 2, 0, ""),  # no slides are told
        (40, 2, 2, ""),
    ],
)
def test_one_tile_or_one_slide_each(count: int, tiles: int, slides: int, words: str) -> None:
    found = about([f"P{n}" for n in range(count)], tiles=tiles, slides=slides)
    assert (words in found) if words else not found


def test_one_patient_with_several_makes_the_table_credible() -> None:
    patients = {f"p{n}": IdAppearance(1, frozenset({f"s{n}"})) for n in range(20)}
    assert doubt(patients)
    assert not doubt({**patients, "p3": IdAppearance(2, frozenset({"s3", "s3b"}))})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = []
    for number in range(4):
        noise(seed=number).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", "text", f"S21-1234{number}"))
    write_csv(tmp_path, rows)
    return tmp_path


def test_a_doubt_is_told_and_refused_at_a_desk_with_both_ways_out(folder: Path) -> None:
    data = load_site_data(folder)
    assert data.patients == 4
    assert "doubt" not in repr(data)
    with pytest.raises(DataError) as caught:
        check_believable(data.doubt, confirm="say so")
    assert "4 of 4 ids look like accession numbers" in caught.value.message
    assert "the id of its patient" in caught.value.hint
    assert "nevertheless: say so" in caught.value.hint
    assert "1234" not in str(caught.value)
    check_believable("", confirm="say so")


def test_unusable_rows_make_nothing_suspicious(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    rows = [("a.png", "text", "P1"), *((f"{n}.png", "text", f"S21-1234{n}") for n in range(20))]
    write_csv(tmp_path, rows, HEADER)
    assert load_site_data(tmp_path).doubt == ""


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tiles (../shared/data/sites) are not here")
@pytest.mark.parametrize("site", ["site-1", "site-2", "site-3"])
def test_the_real_sites_are_not_suspicious(site: str) -> None:
    assert load_site_data(REAL / site).doubt == ""


def test_the_synthetic_hospitals_are_not_suspicious(tmp_path: Path) -> None:
    from model.lab.tissue import HOSPITALS
    from model.lab.tissue.imagefolder import write_site

    name, appearance = next(iter(HOSPITALS.items()))
    write_site(tmp_path, site=name, patients=12, most_tiles=2, appearance=appearance, seed=1)
    assert load_site_data(tmp_path).doubt == ""
