"""The planted domain: deterministic, balanced, patients apart, patterns unnamed, new colours."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from model.lab.tissue import MORPHOLOGIES, Appearance, draw_tile
from model.lab.tissue.captions import CANCER_TYPES, PHRASES
from model.lab.tissue.domain import RARE_TYPES, STAINS, domain_caption, draw_domain
from model.lab.tissue.tile import draw_series
from privacy.errors import ModelError


def test_the_same_arguments_draw_the_same_bytes_and_others_do_not() -> None:
    first, again = draw_domain(3, 2, 5), draw_domain(3, 2, 5)
    assert np.array_equal(first.images, again.images) and first.captions == again.captions
    assert not np.array_equal(first.images, draw_domain(3, 2, 6).images)
    assert first.images.shape == (6, 64, 64, 3) and first.images.dtype == np.uint8


def test_held_out_patients_are_the_later_ones_of_the_same_seed() -> None:
    whole, late = draw_domain(5, 2, 5), draw_domain(2, 2, 5, first=3)
    assert np.array_equal(whole.images[6:], late.images)
    assert late.patient_of.tolist() == [3, 3, 4, 4]
    assert whole.captions[6:] == late.captions


def test_forty_patients_show_every_pair_of_stain_and_type_once() -> None:
    tiles = draw_domain(40, 1, 0, first=7)
    pairs = Counter(zip(tiles.stain_of.tolist(), tiles.type_of.tolist(), strict=True))
    assert len(pairs) == len(STAINS) * len(RARE_TYPES) and set(pairs.values()) == {1}
    assert len(STAINS) >= 4 and len(RARE_TYPES) >= 8


def test_a_patient_has_one_stain_and_one_type_and_its_captions_say_so() -> None:
    tiles = draw_domain(4, 3, 0)
    for row, patient in enumerate(tiles.patient_of):
        stain, rare = STAINS[tiles.stain_of[row]], RARE_TYPES[tiles.type_of[row]]
        assert tiles.stain_of[row] == patient % 5 and tiles.type_of[row] == patient % 8
        assert tiles.captions[row] == domain_caption(rare, stain)


def test_captions_name_no_morphology_and_no_type_that_stage_one_knows() -> None:
    known = {cancer.name.lower() for cancer in CANCER_TYPES.values()}
    patterns = {word for m in MORPHOLOGIES for word in (m, *m.split("_"), *PHRASES[m])}
    for rare in RARE_TYPES:
        assert rare.name.lower() not in known and rare.morphology in MORPHOLOGIES
        for stain in STAINS:
            text = domain_caption(rare, stain).lower()
            assert not any(pattern in text for pattern in patterns - {"cells", "single"})
    assert len({rare.morphology for rare in RARE_TYPES}) == len(RARE_TYPES)


def test_no_stain_looks_like_h_and_e_or_like_another() -> None:
    """Mean colours of the same tile: farther from each other than two H&E slides are."""

    def colour(appearance: Appearance) -> np.ndarray:
        return draw_tile("keratin", appearance, np.random.default_rng(1)).image.mean(axis=(0, 1))

    rng = np.random.default_rng(0)
    slides = np.stack([colour(Appearance.draw(rng)) for _ in range(20)])
    spread = np.linalg.norm(slides - slides.mean(axis=0), axis=1).max()
    colours = [slides.mean(axis=0), *(colour(stain.appearance) for stain in STAINS)]
    for one in range(len(colours)):
        for other in range(one):
            assert np.linalg.norm(colours[one] - colours[other]) > spread


def test_stage_one_draws_as_before_there_were_other_stains() -> None:
    """The tiny base was trained on these bytes."""
    assert draw_series(2026, 0, 2).astype(int).sum() == 4_410_461


def test_nothing_to_draw_is_an_error() -> None:
    for patients, tiles in ((0, 1), (1, 0)):
        with pytest.raises(ModelError, match="no tiles"):
            draw_domain(patients, tiles, 0)
