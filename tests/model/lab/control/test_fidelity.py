"""Agreement of instance maps, the segmentation behind it, and its controls."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from model.lab.control.agreement import MEASURES, instance_agreement
from model.lab.control.drawn import draw_pairs, drawn_pair
from model.lab.control.fidelity import estimate, mask_fidelity, shuffled
from model.lab.control.segmentation import segment
from privacy.errors import ModelError

Instances = NDArray[np.int32]


def blocks(*corners: tuple[int, int], side: int = 4, size: int = 20) -> Instances:
    instances = np.zeros((size, size), np.int32)
    for number, (top, left) in enumerate(corners, start=1):
        instances[top : top + side, left : left + side] = number
    return instances


def test_equal_maps_agree_whatever_their_numbers() -> None:
    given = blocks((1, 1), (10, 10))
    found = np.array([0, 77, 5], np.int32)[given]
    scores = instance_agreement(given, found)
    assert (scores.dice, scores.f1, scores.pq, scores.aji) == (1, 1, 1, 1)


def test_figures_by_hand() -> None:
    # the first is found two columns to the right (IoU 8 / 24), the second exactly, one is spurious
    given = blocks((1, 1), (10, 10))
    found = blocks((1, 3), (10, 10), (15, 1))
    scores = instance_agreement(given, found)
    assert scores.dice == pytest.approx(2 * 24 / (32 + 48))
    assert scores.f1 == pytest.approx(1 / 2.5)
    assert scores.pq == pytest.approx(1 / 2.5)
    assert scores.aji == pytest.approx((8 + 16) / (24 + 16 + 16))


def test_panoptic_quality_weighs_matches_by_their_overlap() -> None:
    found = blocks((1, 1))
    found[1, 1:5] = 0
    scores = instance_agreement(blocks((1, 1)), found)
    assert scores.f1 == 1 and scores.pq == pytest.approx(12 / 16)


def test_two_nuclei_found_as_one_are_no_match() -> None:
    given = blocks((1, 1), (1, 5))
    merged = (given > 0).astype(np.int32)
    scores = instance_agreement(given, merged)
    assert scores.dice == 1 and scores.f1 == 0 and scores.aji < 0.6


def test_empty_maps() -> None:
    empty, one = np.zeros((20, 20), np.int32), blocks((1, 1))
    assert instance_agreement(empty, empty).pq == 1
    for scores in (instance_agreement(empty, one), instance_agreement(one, empty)):
        assert (scores.dice, scores.f1, scores.pq, scores.aji) == (0, 0, 0, 0)


def test_a_map_without_background() -> None:
    full = np.ones((4, 4), np.int32)
    assert instance_agreement(full, full).aji == 1


def test_segmentation_finds_drawn_nuclei() -> None:
    pairs = [drawn_pair("solid_nests", np.random.default_rng(k)) for k in range(4)]
    scores = [instance_agreement(pair.mask.instances, segment(pair.image)) for pair in pairs]
    assert np.mean([score.dice for score in scores]) > 0.8
    assert np.mean([score.f1 for score in scores]) > 0.6


def test_empty_glass_has_no_nuclei() -> None:
    assert segment(np.full((64, 64, 3), 240, np.uint8)).max() == 0


def test_real_tiles_follow_their_own_masks_and_no_others() -> None:
    pairs = [drawn_pair("single_files", np.random.default_rng(k)) for k in range(6)]
    images = np.stack([pair.image for pair in pairs])
    masks = [pair.mask.instances for pair in pairs]
    result = mask_fidelity(images, masks, real=images)
    for measure in MEASURES:
        assert result.estimates["own - shuffled"][measure].low > 0
        assert result.estimates["own"][measure] == result.estimates["ceiling"][measure]
    rows = json.loads(json.dumps(result.rows()))
    assert len(rows) == 4 * len(MEASURES) and rows[0]["images"] == 6
    assert "ceiling" in result.report()


def test_the_shuffle_stays_in_its_group_and_moves_everyone() -> None:
    groups = ["a", "b", "a", "a", "b"]
    partner = shuffled(groups, seed=1)
    assert sorted(partner) == [0, 1, 2, 3, 4]
    for own, other in enumerate(partner):
        assert own != other and groups[own] == groups[other]
    with pytest.raises(ModelError, match="group of one"):
        shuffled(["a", "b", "b"], seed=1)


def test_the_interval_holds_the_mean() -> None:
    values = np.random.default_rng(3).normal(1.0, 0.5, 200)
    found = estimate(values, seed=0)
    assert found.low < found.mean < found.high
    assert found.high - found.low == pytest.approx(4 * 0.5 / np.sqrt(200), rel=0.3)
    assert estimate(values, seed=0) == found


def test_what_cannot_be_compared() -> None:
    images, masks = np.zeros((2, 8, 8, 3), np.uint8), [np.zeros((8, 8), np.int32)] * 2
    with pytest.raises(ModelError, match="too few"):
        mask_fidelity(images[:1], masks[:1])
    with pytest.raises(ModelError, match="another size"):
        mask_fidelity(images, [np.zeros((4, 4), np.int32)] * 2)
    with pytest.raises(ModelError, match="number or size"):
        mask_fidelity(images, masks, real=images[:1])


def test_drawn_pairs_are_what_they_were() -> None:
    first, again = (list(draw_pairs(5, 6, free_share=0.5)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.image, other.image) and one.caption == other.caption
        assert np.array_equal(one.mask.instances, other.mask.instances)
    free = list(draw_pairs(5, 4, free_share=1.0))
    assert all(pair.mask.count >= 1 and pair.image.shape == (64, 64, 3) for pair in free)
