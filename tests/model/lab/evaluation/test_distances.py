"""Distances between sets against values worked out by hand, and against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest

from model.arrays import Features
from model.lab.evaluation.compare import SetMetric, Sets, compare
from model.lab.evaluation.frechet import Frechet, weighted_frechet
from model.lab.evaluation.kernels import ClipDiscrepancy, KernelDistance, discrepancies, polynomial
from model.lab.evaluation.patients import resample
from model.quality.alignment import TooFewError


def _gaussian(n: int, mean: list[float], scale: list[float], seed: int) -> Features:
    """n points whose sample mean and covariance are exactly these (diagonal)."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T)).T)
    return (x * scale + mean).astype(np.float32)


def _ones(x: Features) -> np.ndarray:
    return np.ones((1, len(x)))


def test_frechet_distance_of_known_gaussians() -> None:
    # |mu - nu|^2 + sum (s - t)^2 = 9 + 16 + (1 - 3)^2 + (2 - 2)^2 = 29
    x, y = _gaussian(50, [0, 0], [1, 2], 0), _gaussian(80, [3, 4], [3, 2], 1)
    assert Frechet().values(x, y) == pytest.approx([29.0], rel=1e-4)
    assert weighted_frechet(x, y, np.ones(50), np.ones(80)) == pytest.approx(29.0, rel=1e-4)


@pytest.mark.parametrize("n", [5, 200])  # fewer and more images than features
def test_the_bootstraps_frechet_distance_is_torchmetrics(n: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 12)), rng.normal(0.3, 2, size=(n + 3, 12))
    x, y = x.astype(np.float32), y.astype(np.float32)
    ours = Frechet().spread(x, y, (_ones(x), _ones(y)))
    assert ours[0] == pytest.approx(Frechet().values(x, y), rel=1e-4)


def test_multiplicities_are_copies() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 3)).astype(np.float32), rng.normal(size=(8, 3)).astype(np.float32)
    times = np.array([0, 1, 2, 3, 1, 0, 1, 1, 2])
    copied = x.repeat(times, axis=0)
    weighted = weighted_frechet(x, y, times.astype(float), np.ones(8))
    assert weighted == pytest.approx(Frechet().values(copied, y)[0], rel=1e-4)
    cmmd = ClipDiscrepancy().spread(x, y, (times[None].astype(float), _ones(y)))
    assert cmmd[0] == pytest.approx(ClipDiscrepancy().values(copied, y), rel=1e-6)


def test_kid_by_hand_and_by_torchmetrics() -> None:
    # E = 1: k(a, b) = (ab + 1)^3. x = {0, 1}: k(0,1) = 1. y = {1, 2}: k(1,2) = 27.
    # Between: k(0,.) = 1, 1; k(1,1) = 8, k(1,2) = 27: mean 9.25. MMD^2 = 1 + 27 - 18.5 = 9.5.
    x, y = np.array([[0.0], [1.0]], np.float32), np.array([[1.0], [2.0]], np.float32)
    assert KernelDistance().values(x, y) == pytest.approx([9.5])
    assert KernelDistance().spread(x, y, (_ones(x), _ones(y)))[0] == pytest.approx([9.5])


def test_copies_of_an_image_are_no_pair_of_an_unbiased_discrepancy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(30, 4)).astype(np.float32)
    doubled = discrepancies(polynomial, x, y, (2 * _ones(x), 2 * _ones(y)), unbiased=True)
    once = discrepancies(polynomial, x, y, (_ones(x), _ones(y)), unbiased=True)
    assert doubled == pytest.approx(once)


def test_cmmd_by_hand() -> None:
    # Opposite unit vectors, |x - y|^2 = 4: MMD^2 = 1 + 1 - 2 exp(-4 / 200), times 1000.
    x, y = np.array([[2.0, 0]] * 3, np.float32), np.array([[-1.0, 0]] * 4, np.float32)
    assert ClipDiscrepancy().values(x, y) == pytest.approx([2000 * (1 - np.exp(-0.02))], rel=1e-6)


@pytest.mark.parametrize("metric", [Frechet(), ClipDiscrepancy()])
def test_identical_sets_are_at_distance_0(metric: SetMetric) -> None:
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    assert metric.values(x, x) == pytest.approx([0.0], abs=1e-4)


def _clustered(patients: int, tiles: int, seed: int) -> tuple[Features, np.ndarray]:
    """Tiles scatter about their patient, patients about 0, ten times as wide."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(patients, 1, 8))
    x = centres + 0.1 * rng.normal(size=(patients, tiles, 8))
    return x.reshape(-1, 8).astype(np.float32), np.repeat(np.arange(patients), tiles)


def test_random_halves_flatter_the_floor_and_patient_halves_do_not() -> None:
    x, patients = _clustered(10, 20, 0)
    y, others = _clustered(10, 20, 1)
    drawn = resample(patients, others, paired=False, resamples=10, seed=0)
    by_patient = compare(Frechet(), Sets("e", x, y, patients, 0), drawn)[0][0]
    by_tile = compare(Frechet(), Sets("e", x, y, np.arange(len(x)), 0), drawn)[0][0]
    honest, flattering = by_patient.beside[0].value, by_tile.beside[0].value
    assert honest > 10 * flattering
    # Other patients of the same kind are as far as the patient-disjoint floor says, no farther.
    assert by_patient.beside[1].value < 1.5 * honest
    assert by_tile.beside[1].value > 5 * flattering


def test_a_figure_says_on_what_it_rests() -> None:
    x, patients = _clustered(10, 4, 0)
    drawn = resample(patients, np.arange(30), paired=False, resamples=50, seed=3)
    figure = compare(KernelDistance(), Sets("enc", x, x[:30] + 1, patients, 3), drawn)[0][0]
    assert (figure.metric, figure.encoder, figure.seed) == ("kid", "enc", 3)
    assert (figure.n_real, figure.n_generated, figure.patients) == (40, 30, 10)
    assert figure.low < figure.value < figure.high
    assert [reference.name for reference in figure.beside] == ["floor", "at the same size"]
    assert figure.beside[1].value > figure.beside[0].value


def test_too_few_images_are_refused_with_the_number_needed() -> None:
    x, patients = _clustered(4, 2, 0)
    drawn = resample(patients, patients, paired=True, resamples=5, seed=0)
    with pytest.raises(TooFewError, match=r"needs 9 real images .* \(8 features\); there are 8"):
        compare(Frechet(), Sets("e", x, x, patients, 0), drawn)


def test_a_floor_that_needs_more_images_is_a_gap_and_the_figure_stands() -> None:
    x, patients = _clustered(4, 3, 0)
    drawn = resample(patients, patients, paired=True, resamples=5, seed=0)
    figures, gaps = compare(Frechet(), Sets("e", x, x + 1, patients, 0), drawn)
    assert figures[0].beside == () and figures[0].value == pytest.approx(8.0, rel=1e-3)
    assert gaps[0].metric == "frechet: floor" and "needs 9 images in each" in gaps[0].reason
