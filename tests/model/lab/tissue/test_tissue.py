"""Drawn tissue: deterministic, varied, distinguishable, captioned, written as an imagefolder."""

from __future__ import annotations

import csv
from dataclasses import FrozenInstanceError
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.lab.judges import DiscriminantJudge, accuracy
from model.lab.tissue import HOSPITALS, MORPHOLOGIES, Appearance, draw_tile
from model.lab.tissue.captions import CANCER_TYPES, PHRASES, caption, studies_showing
from model.lab.tissue.domain import RARE_TYPES
from model.lab.tissue.imagefolder import COLUMNS, write_site
from model.lab.tissue.tile import draw_series
from privacy.errors import ModelError

WITHOUT_NUCLEI = 3  # a fat or stroma tile may have so few


def draw_many(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return draw_series(seed, 0, count), np.arange(count) % len(MORPHOLOGIES)


@pytest.mark.parametrize("morphology", MORPHOLOGIES)
def test_the_same_seed_draws_the_same_tile_and_another_seed_another(morphology: str) -> None:
    first, again, other = (
        draw_tile(morphology, Appearance("x"), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("morphology", MORPHOLOGIES)
def test_a_mask_numbers_nuclei_that_are_darker_than_the_rest(morphology: str) -> None:
    tiles = [draw_tile(morphology, Appearance("x"), np.random.default_rng(s)) for s in range(4)]
    for tile in tiles:
        assert tile.image.shape == (64, 64, 3) and tile.image.dtype == np.uint8
        assert tile.mask.shape == (64, 64) and tile.mask.dtype == np.uint16
        assert len(np.unique(tile.mask)) - 1 >= WITHOUT_NUCLEI
        red = tile.image[..., 0].astype(float)
        assert red[tile.mask > 0].mean() < red[tile.mask == 0].mean()


def test_density_of_nuclei_is_that_of_the_morphology() -> None:
    def share(morphology: str) -> float:
        rng = np.random.default_rng(0)
        masks = [draw_tile(morphology, Appearance("x"), rng).mask for _ in range(6)]
        return float((np.stack(masks) > 0).mean())

    assert share("lymphoid") > 0.35 > share("solid_nests") > 0.1 > share("stroma")
    assert share("fat") < 0.03


def test_an_unknown_morphology_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="glands"):
        draw_tile("bone", Appearance("x"), np.random.default_rng(0))


def test_a_linear_discriminant_tells_all_morphologies_apart() -> None:
    images, labels = draw_many(300, 1)
    judge = DiscriminantJudge.fit(images, labels)
    shares = accuracy(judge, *draw_many(120, 2))
    assert min(shares.values()) >= 0.8, shares


def test_an_appearance_is_frozen_and_its_jitter_small() -> None:
    base = Appearance("x")
    with pytest.raises(FrozenInstanceError):
        base.eosin = 2.0  # type: ignore[misc]
    jittered = base.jittered(np.random.default_rng(0))
    assert jittered != base and jittered.scanner == "x"
    assert abs(np.log(jittered.eosin / base.eosin)) < 0.2


def test_the_three_hospitals_lie_outside_the_pretraining_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [Appearance.draw(rng) for _ in range(500)]
    figures = ("haematoxylin_hue", "eosin_hue", "haematoxylin", "eosin")
    for hospital in HOSPITALS.values():
        outside = 0
        for figure in figures:
            seen = [getattr(appearance, figure) for appearance in drawn]
            outside += not min(seen) <= getattr(hospital, figure) <= max(seen)
        assert outside >= 3, hospital.scanner


def test_stains_make_the_hospitals_pictures_differ_from_each_other_and_from_the_corpus() -> None:
    def colour(appearance: Appearance) -> np.ndarray:
        rng = np.random.default_rng(3)
        tiles = [draw_tile(m, appearance, rng).image for m in MORPHOLOGIES]
        return np.stack(tiles).reshape(-1, 3).mean(axis=0)

    colours = [colour(appearance) for appearance in (Appearance("x"), *HOSPITALS.values())]
    assert min(np.abs(a - b).max() for a, b in combinations(colours, 2)) > 12


def test_all_33_studies_show_morphologies_and_every_morphology_has_a_study() -> None:
    assert len(CANCER_TYPES) == 33
    assert set(PHRASES) == set(MORPHOLOGIES)
    for study in CANCER_TYPES.values():
        assert study.morphologies and set(study.morphologies) <= set(MORPHOLOGIES)
    assert all(studies_showing(morphology) for morphology in MORPHOLOGIES)


@pytest.mark.parametrize("code", CANCER_TYPES)
def test_a_caption_names_type_organ_and_morphology(code: str) -> None:
    rng = np.random.default_rng(0)
    study = CANCER_TYPES[code]
    for morphology in study.morphologies:
        texts = {caption(code, morphology, rng) for _ in range(20)}
        assert len(texts) > 3
        for text in texts:
            assert study.name in text and study.organ in text
            assert any(phrase in text for phrase in PHRASES[morphology])


@pytest.mark.parametrize(("code", "morphology"), [("XXXX", "glands"), ("COAD", "bone")])
def test_a_caption_of_something_unknown_is_refused(code: str, morphology: str) -> None:
    with pytest.raises(ModelError, match="Choose one of"):
        caption(code, morphology, np.random.default_rng(0))


def write(folder: Path, **changes: object) -> list[dict[str, str]]:
    arguments = {"patients": 5, "most_tiles": 3, "seed": 4} | changes
    write_site(folder, site="north", appearance=HOSPITALS["north"], **arguments)  # type: ignore[arg-type]
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_site_is_an_imagefolder_of_correlated_patients(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    rows = write(tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 1 + 2 + 3 + 1 + 2
    assert seen == [(n, 5) for n in range(1, 6)]
    assert len({row["patient_id"] for row in rows}) == 5
    for patient in {row["patient_id"] for row in rows}:
        own = [row for row in rows if row["patient_id"] == patient]
        assert len({(row["diagnosis"], row["organ"]) for row in own}) == 1
        assert len({row["slide_id"] for row in own}) == len(own)
        assert all(row["diagnosis"] in row["text"] for row in own)
    for row in rows:
        assert Image.open(tmp_path / row["file_name"]).size == (64, 64)


def test_a_site_is_reproduced_from_its_seed(tmp_path: Path) -> None:
    first, again = write(tmp_path / "a"), write(tmp_path / "b")
    other = write(tmp_path / "c", seed=5)
    assert first == again and [r["text"] for r in other] != [r["text"] for r in first]
    name = first[0]["file_name"]
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_hospital_of_rare_cancers_has_them_in_turn_and_names_no_pattern(tmp_path: Path) -> None:
    rare = [RARE_TYPES[5], RARE_TYPES[6]]
    rows = write(tmp_path, patients=4, most_tiles=2, rare=rare)
    captions = ["H&E section, chordoma.", "H&E section, liposarcoma."]
    assert [row["text"] for row in rows] == [captions[n] for n in (0, 1, 1, 0, 1, 1)]
    assert all((tmp_path / row["file_name"]).is_file() for row in rows)
    assert not any(word in text for text in captions for word in ("mucin", "fat"))
