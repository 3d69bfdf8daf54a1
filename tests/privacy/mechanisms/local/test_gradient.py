from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch

from privacy.discrete_gaussian import draw
from privacy.dpsgd.engine import PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.noise import SystemNoise
from privacy.dpsgd.release import Release, noise_to_clip
from privacy.dpsgd.substreams import stream_secret
from privacy.errors import AccountingError
from privacy.mechanisms.local.gradient import private_gradient
from privacy.mechanisms.local.grid import LOCAL_GRID, MOST_LOCAL_PARAMETERS, local_grid
from tests.privacy.dpsgd.worlds import mixer, unet
from tests.traps import forbid_ordinary_generators

SIZE = 50_000


class FixedSum:
    """An engine whose sum is known: what remains of a release is its noise."""

    size = SIZE
    total = torch.linspace(-1, 1, SIZE, dtype=torch.float64)

    def contributions(
        self, batches: Iterable[PhysicalBatch], clipping_norm: float
    ) -> Iterator[torch.Tensor]:
        for _ in batches:
            # In two places, so that there is something to be added up.
            whole = (self.total * (2.0**30 / clipping_norm)).to(torch.int64)
            yield torch.stack([whole // 3, whole - whole // 3])


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
    assert torch.allclose(gradient.double(), FixedSum.total / 4, rtol=1e-7, atol=2.0**-31)


def test_the_denominator_is_public_whatever_was_drawn() -> None:
    world = mixer()
    engine = LoraEngine(world.module, world.parameters)
    release = Release(0.1, 0.0, 250.0)
    for patients in (world.patients, world.patients[:1]):
        batch = world.batch(patients)
        total = sum(part.sum(dim=0) for part in engine.contributions([batch], 0.1))
        gradient = private_gradient(engine, [batch], release, SystemNoise())
        assert torch.equal(gradient, (total.double() * 2.0**-30 * (0.1 / 250)).float())


class Told:
    """A source whose numbers are known."""

    def uniform(self, n: int) -> np.ndarray:
        return np.arange(n) / 64


@pytest.mark.parametrize("sigma", [0.01, 0.9, 4.65, 300.0, 1e4])
def test_a_step_is_the_exact_draw_around_the_exact_sum(sigma: float) -> None:
    clip, denominator = 0.25, 120.0
    batch = PhysicalBatch(torch.tensor([0]), lambda: torch.zeros(1))
    found = private_gradient(FixedSum(), [batch], Release(clip, sigma, denominator), Told())
    grid = local_grid(sigma)
    total = (FixedSum.total * (2.0**30 / clip)).to(torch.int64).tolist()
    factor, shift = grid.scale
    centres = [math.floor(Fraction(x * factor, 1 << shift) + Fraction(1, 2)) for x in total]
    noisy = draw(
        np.array(centres), grid.deviation, stream_secret(Told()), fraction_bits=grid.centre_bits
    )
    unit = 2.0**grid.centre_bits / grid.centre_scale * (clip / denominator)
    assert np.allclose(found.numpy(), noisy * unit, rtol=1e-6, atol=0)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 4.65, 77.7, 1e4])
def test_the_grid_never_has_less_noise_than_sigma(sigma: float) -> None:
    grid = local_grid(sigma)
    clip = Fraction(grid.centre_scale, 1 << grid.centre_bits)
    deviation = Fraction(grid.deviation, 1 << 16)
    assert deviation >= Fraction(sigma) * clip
    assert deviation <= LOCAL_GRID and float(deviation) == pytest.approx(LOCAL_GRID, rel=1e-3)
    # What maps a sum to centres never makes a patient longer than C.
    factor, shift = grid.scale
    assert Fraction(factor, 1 << shift) * 2**30 <= grid.centre_scale


def test_a_patient_moves_the_centres_by_the_clip_and_one_rounding() -> None:
    grid = local_grid(4.0)
    random = np.random.default_rng(0)
    patient = random.standard_normal(2000)
    patient = np.trunc(patient * 2**30 / np.linalg.norm(patient)).astype(np.int64)
    others = random.integers(-(2**38), 2**38, 2000)
    moved = grid.scale.centres(others + patient) - grid.scale.centres(others.copy())
    assert np.linalg.norm(moved) <= grid.centre_scale + math.sqrt(2000)


@pytest.mark.parametrize("sigma", [1e-3, 2e4])
def test_a_sigma_that_nothing_accounts_for_is_refused(sigma: float) -> None:
    with pytest.raises(AccountingError, match="noise_multiplier"):
        released(Release(1.0, sigma, 1.0))


def test_an_adapter_beyond_the_bound_is_refused_before_anything_is_computed() -> None:
    class Huge(FixedSum):
        size = MOST_LOCAL_PARAMETERS + 1

    with pytest.raises(AccountingError, match="lower rank"):
        private_gradient(Huge(), [], Release(1.0, 1.0, 1.0), SystemNoise())


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
