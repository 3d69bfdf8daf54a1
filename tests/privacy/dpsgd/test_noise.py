from __future__ import annotations

import math
import os
import random

import numpy as np
import pytest

from privacy.dpsgd.noise import SystemNoise
from privacy.errors import AccountingError

NOISE = SystemNoise()
MANY = 200_000


@pytest.mark.parametrize("std", [1e-6, 1.0, 37.5])
def test_mean_and_deviation(std: float) -> None:
    samples = NOISE.gaussian(MANY, std).astype(np.float64) / std
    # Seven standard errors: fails once in 10^12 runs.
    assert abs(samples.mean()) < 7 / math.sqrt(MANY)
    assert abs(samples.std() - 1) < 7 / math.sqrt(2 * MANY)


def test_the_distribution_is_gaussian() -> None:
    stats = pytest.importorskip("scipy.stats")
    samples = NOISE.gaussian(MANY, 1.0, np.float64)
    assert stats.kstest(samples, "norm").pvalue > 1e-9
    assert abs(stats.kurtosis(samples)) < 7 * math.sqrt(24 / MANY)
    assert 3.5 < np.abs(samples).max() < 8


def test_samples_are_independent_of_each_other() -> None:
    samples = NOISE.gaussian(MANY, 1.0, np.float64)
    for lag in (1, 2, MANY // 4, MANY // 2):
        for power in (1, 2):
            series = samples**power
            assert abs(np.corrcoef(series[:-lag], series[lag:])[0, 1]) < 7 / math.sqrt(MANY - lag)


def test_two_calls_share_nothing() -> None:
    first, second = NOISE.gaussian(MANY, 1.0), NOISE.gaussian(MANY, 1.0)
    assert abs(np.corrcoef(first, second)[0, 1]) < 7 / math.sqrt(MANY)
    assert not np.intersect1d(NOISE.uniform(1000), NOISE.uniform(1000)).size


def test_uniform_statistics() -> None:
    samples = NOISE.uniform(MANY)
    assert samples.min() >= 0 and samples.max() < 1
    counts = np.histogram(samples, bins=100, range=(0, 1))[0]
    chi2 = ((counts - MANY / 100) ** 2 / (MANY / 100)).sum()
    assert chi2 < 99 + 7 * math.sqrt(2 * 99)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1001, (1 << 18) + 3])
def test_any_length(n: int) -> None:
    samples = NOISE.gaussian(n, 2.0)
    assert (samples.shape, samples.dtype) == ((n,), np.float32)
    assert np.isfinite(samples).all()
    assert NOISE.uniform(n).shape == (n,)


def test_no_std_no_noise() -> None:
    assert not NOISE.gaussian(100, 0.0).any()


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf])
def test_bad_std_is_refused(std: float) -> None:
    with pytest.raises(AccountingError, match="deviation"):
        NOISE.gaussian(1, std)


def test_seeds_of_ordinary_generators_do_not_matter() -> None:
    torch = pytest.importorskip("torch")
    outcomes = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        outcomes.append((NOISE.gaussian(64, 1.0), NOISE.uniform(64)))
    assert not np.array_equal(outcomes[0][0], outcomes[1][0])
    assert not np.array_equal(outcomes[0][1], outcomes[1][1])


def forbid_ordinary_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every ordinary generator raise: what still works uses none of them."""
    torch = pytest.importorskip("torch")

    def refuse(*_args: object, **_keywords: object) -> None:
        raise AssertionError("an ordinary random generator was used for noise")

    names = ("randn", "randn_like", "rand", "rand_like", "normal", "randint", "randperm")
    for name in (*names, "bernoulli", "multinomial", "poisson"):
        monkeypatch.setattr(torch, name, refuse)
    for name in ("normal_", "uniform_", "random_", "bernoulli_"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    for name in ("normal", "standard_normal", "randn", "rand", "random", "uniform", "default_rng"):
        monkeypatch.setattr(np.random, name, refuse)
    for name in ("RandomState", "Generator", "PCG64", "permutation", "choice", "shuffle"):
        monkeypatch.setattr(np.random, name, refuse)
    for name in ("random", "gauss", "normalvariate", "getrandbits", "sample", "shuffle"):
        monkeypatch.setattr(random, name, refuse)


def test_no_ordinary_generator_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_ordinary_generators(monkeypatch)
    assert NOISE.gaussian(1000, 1.0).std() > 0.5
    assert NOISE.uniform(1000).std() > 0.1


def test_the_key_comes_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "urandom", lambda n: asked.append(n) or b"\7" * n)
    first, second = NOISE.gaussian(64, 1.0), NOISE.gaussian(64, 1.0)
    assert np.array_equal(first, second)  # the system's bytes are the only randomness there is
    assert asked == [32, 16, 32, 16]
