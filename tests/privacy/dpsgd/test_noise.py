from __future__ import annotations

import math
import os
import random

import numpy as np
import pytest

from privacy.dpsgd.noise import SystemNoise
from tests.traps import forbid_ordinary_generators

NOISE = SystemNoise()
MANY = 200_000


def test_two_calls_share_nothing() -> None:
    assert not np.intersect1d(NOISE.uniform(1000), NOISE.uniform(1000)).size


def test_uniform_statistics() -> None:
    samples = NOISE.uniform(MANY)
    assert samples.min() >= 0 and samples.max() < 1
    counts = np.histogram(samples, bins=100, range=(0, 1))[0]
    chi2 = ((counts - MANY / 100) ** 2 / (MANY / 100)).sum()
    assert chi2 < 99 + 7 * math.sqrt(2 * 99)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1001])
def test_any_length(n: int) -> None:
    assert NOISE.uniform(n).shape == (n,)


def test_seeds_of_ordinary_generators_do_not_matter() -> None:
    torch = pytest.importorskip("torch")
    outcomes = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        outcomes.append(NOISE.uniform(64))
    assert not np.array_equal(*outcomes)


def test_no_ordinary_generator_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_ordinary_generators(monkeypatch)
    assert NOISE.uniform(1000).std() > 0.1


def test_the_key_comes_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "urandom", lambda n: asked.append(n) or b"\7" * n)
    first, second = NOISE.uniform(64), NOISE.uniform(64)
    assert np.array_equal(first, second)  # the system's bytes are the only randomness there is
    assert asked == [32, 16, 32, 16]
