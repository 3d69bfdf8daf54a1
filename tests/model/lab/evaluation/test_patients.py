from __future__ import annotations

import numpy as np
import pytest

from model.lab.evaluation.figures import ImageSet
from model.lab.evaluation.patients import (
    halves,
    interval,
    mean_interval,
    multiplicities,
    resample,
)
from model.quality.alignment import TooFewError
from privacy.errors import ModelError


def test_halves_share_no_patient_and_are_equally_large() -> None:
    patients = np.repeat(np.arange(7), [1, 2, 3, 40, 5, 6, 7])
    for seed in range(20):
        first, second = halves(patients, np.random.default_rng(seed))
        assert not set(patients[first]) & set(patients[second])
        assert len(first) == len(second) > 0
        assert len(set(first)) == len(first)


def test_one_patient_cannot_be_halved() -> None:
    with pytest.raises(TooFewError, match="one patient's"):
        halves(np.zeros(10, np.int64), np.random.default_rng(0))


def test_a_patients_images_come_and_go_together() -> None:
    patients = np.array([0, 0, 0, 1, 1, 2])
    drawn = multiplicities(patients, 50, np.random.default_rng(0))
    assert drawn.shape == (50, 6)
    assert (drawn[:, 0] == drawn[:, 2]).all() and (drawn[:, 3] == drawn[:, 4]).all()
    per_patient = drawn[:, [0, 3, 5]]
    assert (per_patient.sum(axis=1) == 3).all()
    assert per_patient.std() > 0.5


def test_paired_generated_images_follow_their_captions_patient() -> None:
    drawn = resample(np.array([0, 0, 1]), np.array([1, 0]), paired=True, resamples=30, seed=1)
    assert (drawn.real[:, 0] == drawn.generated[:, 1]).all()
    assert (drawn.real[:, 2] == drawn.generated[:, 0]).all()


def test_intervals_over_patients_are_wider_than_over_images() -> None:
    # 5 patients of 100 tiles, all tiles of a patient equal: 5 observations, not 500.
    values = np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], 100)
    patients, tiles = np.repeat(np.arange(5), 100), np.arange(500)
    rng = np.random.default_rng(0)
    mean, low, high = mean_interval(values, multiplicities(patients, 2000, rng))
    _, naive_low, naive_high = mean_interval(values, multiplicities(tiles, 2000, rng))
    assert mean == 2.0
    # Standard error of 5 values of variance 2: sqrt(2 / 5) = 0.63; of 500: 0.063.
    assert high - low == pytest.approx(2 * 1.96 * 0.632, rel=0.1)
    assert naive_high - naive_low == pytest.approx(2 * 1.96 * 0.0632, rel=0.1)


def test_an_interval_lies_about_its_value_and_ignores_nan() -> None:
    low, high = interval(10.0, np.array([1.0, 2.0, 3.0, np.nan]))
    assert (low + high) / 2 == pytest.approx(10.0)
    assert np.isnan(interval(1.0, np.array([np.nan]))).all()


def test_an_image_set_of_unequal_parts_is_refused() -> None:
    with pytest.raises(ModelError, match="2 images, 1 captions"):
        ImageSet(np.zeros((2, 4, 4, 3), np.uint8), ("a",), np.zeros(2, np.int64))
