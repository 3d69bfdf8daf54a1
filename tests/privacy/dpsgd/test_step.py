from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from privacy.dpsgd.engine import ClippedSum, PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.noise import SystemNoise
from privacy.dpsgd.release import Release, noise_to_clip
from privacy.dpsgd.step import private_gradient
from privacy.errors import AccountingError
from tests.privacy.dpsgd.test_noise import forbid_ordinary_generators
from tests.privacy.dpsgd.worlds import mixer, unet

SIZE = 50_000


class FixedSum:
    """An engine whose sum is known: what remains of a release is its noise."""

    size = SIZE
    total = torch.linspace(-1, 1, SIZE, dtype=torch.float64)

    def clipped_sum(self, batches: Iterable[PhysicalBatch], clipping_norm: float) -> ClippedSum:
        drawn = len(list(batches))
        return ClippedSum(self.total if drawn else torch.zeros_like(self.total), drawn, 0)


def released(release: Release, batches: int = 1) -> torch.Tensor:
    batch = PhysicalBatch(torch.tensor([0]), lambda: torch.zeros(1))
    gradient = private_gradient(FixedSum(), [batch] * batches, release, SystemNoise())
    assert (gradient.dtype, gradient.shape) == (torch.float32, (SIZE,))
    return gradient


@pytest.mark.parametrize(("clip", "sigma", "denominator"), [(1, 1, 1), (0.01, 4, 250), (30, 2, 7)])
def test_the_noise_has_the_right_deviation(clip: float, sigma: float, denominator: float) -> None:
    release = Release(clip, sigma, denominator)
    residual = released(release).double() * denominator - FixedSum.total
    assert abs(float(residual.std()) / (sigma * clip) - 1) < 7 / math.sqrt(2 * SIZE)
    assert abs(float(residual.mean())) / (sigma * clip) < 7 / math.sqrt(SIZE)


def test_an_empty_draw_releases_noise_alone() -> None:
    residual = released(Release(0.5, 2.0, 10.0), batches=0).double() * 10
    assert abs(float(residual.std()) - 1) < 7 / math.sqrt(2 * SIZE)


def test_noise_is_never_reused() -> None:
    first, second = (released(Release(1.0, 100.0, 1.0), batches=0) for _ in range(2))
    correlation = np.corrcoef(first.numpy(), second.numpy())[0, 1]
    assert abs(correlation) < 7 / math.sqrt(SIZE)


def test_without_noise_it_is_the_mean_over_the_declared_number() -> None:
    gradient = released(Release(1.0, 0.0, 4.0))
    assert torch.equal(gradient, (FixedSum.total / 4).float())


def test_the_denominator_is_public_whatever_was_drawn() -> None:
    world = mixer()
    engine = LoraEngine(world.module, world.parameters)
    release = Release(0.1, 0.0, 250.0)
    for patients in (world.patients, world.patients[:1]):
        batch = world.batch(patients)
        total = engine.clipped_sum([batch], 0.1).total
        gradient = private_gradient(engine, [batch], release, SystemNoise())
        assert torch.equal(gradient, (total / 250).float())


def test_a_whole_step_uses_no_ordinary_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    world = unet()
    engine = LoraEngine(world.module, world.parameters)
    forbid_ordinary_generators(monkeypatch)
    first, second = (
        private_gradient(engine, [world.batch()], Release(1.0, 1.0, 5.0), SystemNoise())
        for _ in range(2)
    )
    assert not torch.equal(first, second)


def test_equal_seeds_give_unlike_noise() -> None:
    outcomes = []
    for _ in range(2):
        torch.manual_seed(5)
        np.random.seed(5)
        outcomes.append(released(Release(1.0, 1.0, 1.0)))
    assert not torch.equal(*outcomes)


@pytest.mark.parametrize("key", ["clipping_norm", "noise_multiplier", "denominator"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_bad_constants_are_refused(key: str, value: float) -> None:
    values = {"clipping_norm": 1.0, "noise_multiplier": 1.0, "denominator": 1.0, key: value}
    with pytest.raises(AccountingError, match=key):
        Release(**values)


@pytest.mark.parametrize("key", ["clipping_norm", "denominator"])
def test_zero_constants_are_refused(key: str) -> None:
    values = {"clipping_norm": 1.0, "noise_multiplier": 1.0, "denominator": 1.0, key: 0.0}
    with pytest.raises(AccountingError, match=key):
        Release(**values)


def test_the_noise_is_told_against_the_largest_signal() -> None:
    assert noise_to_clip(Release(0.2, 8.0, 250.0), 4500) == pytest.approx(8 * math.sqrt(4500) / 250)
