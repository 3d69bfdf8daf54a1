"""Bugs that such systems have had, planted one by one: a detector sees each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from privacy.dpsgd import lora_engine, noise, opacus_engine, sampling
from privacy.dpsgd.assignment import permuted
from privacy.dpsgd.engine import BLANK, ClippedSum, PhysicalBatch
from privacy.dpsgd.noise import NoiseSource, SystemNoise
from privacy.dpsgd.release import Release
from privacy.dpsgd.substreams import Substreams
from privacy.mechanisms.local import gradient as local
from tests.privacy.dpsgd.detectors import (
    draws_are_poisson,
    known_gradients_are_clipped_per_patient,
    noise_has_the_promised_variance,
    noise_is_fresh,
)
from tests.privacy.dpsgd.engines import ENGINES, Make

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

Patch = pytest.MonkeyPatch
DRAW = local.draw
SUM_CLIPPED = lora_engine.sum_clipped


def drawn_instead(patch: Patch, noise_of: Callable[..., Any]) -> None:
    """Whole centres, plus what `noise_of` makes of the arguments of a draw around zeros."""

    def draw(centres: Any, deviation: int, seed: bytes, *, fraction_bits: int) -> Any:
        return (centres >> fraction_bits) + noise_of(np.zeros_like(centres), deviation, seed)

    patch.setattr(local, "draw", draw)


def scaled(factor: float) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        drawn_instead(patch, lambda *rest: (factor * DRAW(*rest)).astype(np.int64))

    return plant


def noise_that_ignores_the_clip(patch: Patch) -> None:
    real = local.private_gradient

    def gradient(engine: Any, batches: Any, release: Release, source: NoiseSource) -> Any:
        other = release.noise_multiplier / release.clipping_norm
        return real(engine, batches, replace(release, noise_multiplier=other), source)

    patch.setattr(local, "private_gradient", gradient)


def noise_added_after_the_mean(patch: Patch) -> None:
    real = local.private_gradient

    def gradient(engine: Any, batches: Any, release: Release, source: NoiseSource) -> Any:
        less = release.noise_multiplier / release.denominator
        return real(engine, batches, replace(release, noise_multiplier=less), source)

    patch.setattr(local, "private_gradient", gradient)


def noise_kept_from_the_first_step(patch: Patch) -> None:
    fresh = SystemNoise.uniform

    def uniform(self: SystemNoise, n: int) -> Any:
        if not hasattr(self, "kept"):
            self.kept = fresh(self, n)
        return self.kept

    patch.setattr(SystemNoise, "uniform", uniform)


def noise_from_a_fixed_seed(patch: Patch) -> None:
    """Fresh within an attempt, the same in every attempt."""

    def uniform(self: SystemNoise, n: int) -> Any:
        if not hasattr(self, "generator"):
            self.generator = np.random.default_rng(0)
        return self.generator.random(n)

    patch.setattr(SystemNoise, "uniform", uniform)


def a_key_that_is_no_secret(patch: Patch) -> None:
    patch.setattr(noise.os, "urandom", bytes)


def a_short_block_repeated(patch: Patch) -> None:
    drawn_instead(
        patch, lambda zeros, *rest: np.resize(DRAW(zeros[: len(zeros) // 2], *rest), len(zeros))
    )


def shuffled_batches(patch: Patch) -> None:
    """Every patient once an epoch, in batches of one size."""
    waiting: list[int] = []

    def draw(patients: Any, rate: float, streams: Substreams) -> Any:
        size = round(rate * len(patients))
        if len(waiting) < size:
            waiting[:] = permuted(patients, streams).tolist()
        taken, waiting[:] = waiting[:size], waiting[size:]
        return np.sort(np.array(taken, dtype=np.int64))

    patch.setattr(sampling, "poisson_draw", draw)


def batches_of_one_size(patch: Patch) -> None:
    def draw(patients: Any, rate: float, streams: Substreams) -> Any:
        return np.sort(permuted(patients, streams)[: round(rate * len(patients))])

    patch.setattr(sampling, "poisson_draw", draw)


def draws_used_twice(patch: Patch) -> None:
    real, kept = sampling.poisson_draw, []

    def draw(patients: Any, rate: float, streams: Substreams) -> Any:
        if kept:
            return kept.pop()
        kept.append(real(patients, rate, streams))
        return kept[0]

    patch.setattr(sampling, "poisson_draw", draw)


def a_rate_that_is_too_high(patch: Patch) -> None:
    real = sampling.poisson_draw
    patch.setattr(
        sampling, "poisson_draw", lambda n, rate, streams: real(n, min(1.0, 1.2 * rate), streams)
    )


def a_step_key_that_stays(patch: Patch) -> None:
    """The draw of every step is that of the first one."""
    kept = Substreams(bytes(range(32)))
    patch.setattr(Substreams, "fresh", classmethod(lambda cls, source: kept))


@pytest.mark.parametrize(
    ("plant", "sound"),
    [
        (scaled(0.0), noise_has_the_promised_variance),
        (scaled(0.5), noise_has_the_promised_variance),
        (scaled(0.9), noise_has_the_promised_variance),
        (noise_that_ignores_the_clip, noise_has_the_promised_variance),
        (noise_added_after_the_mean, noise_has_the_promised_variance),
        (noise_kept_from_the_first_step, noise_is_fresh),
        (noise_from_a_fixed_seed, noise_is_fresh),
        (a_key_that_is_no_secret, noise_is_fresh),
        (a_short_block_repeated, noise_is_fresh),
        (shuffled_batches, draws_are_poisson),
        (batches_of_one_size, draws_are_poisson),
        (draws_used_twice, draws_are_poisson),
        (a_rate_that_is_too_high, draws_are_poisson),
        (a_step_key_that_stays, draws_are_poisson),
    ],
    ids=lambda value: getattr(value, "__name__", "case").replace("_", "-"),
)
def test_a_planted_bug_is_seen(
    plant: Callable[[Patch], None], sound: Callable[[], bool], monkeypatch: Patch
) -> None:
    assert sound()
    plant(monkeypatch)
    assert not sound()


def clip_per_tile(batches: Iterable[PhysicalBatch], *rest: Any) -> ClippedSum:
    def apart() -> Iterable[PhysicalBatch]:
        for batch in batches:
            places, rows_each = batch.shape
            names = batch.patients.repeat_interleave(rows_each)
            apart = torch.arange(places * rows_each)
            yield PhysicalBatch(torch.where(names == BLANK, BLANK, apart), batch.losses)

    return SUM_CLIPPED(apart(), *rest)


def no_clip(batches: Iterable[PhysicalBatch], clipping_norm: float, *rest: Any) -> ClippedSum:
    return SUM_CLIPPED(batches, 1e9, *rest)


def mean_of_the_batch(batches: Iterable[PhysicalBatch], *rest: Any) -> ClippedSum:
    found = SUM_CLIPPED(batches, *rest)
    return ClippedSum(found.total / max(1, found.patients), found.patients, found.dropped)


def the_whole_batch_clipped_at_once(
    batches: Iterable[PhysicalBatch], clipping_norm: float, *rest: Any
) -> ClippedSum:
    """What clipping `.grad` does: one norm for everybody."""
    found = SUM_CLIPPED(batches, 1e9, *rest)
    scale = min(1.0, clipping_norm / float(found.total.norm()))
    return ClippedSum(found.total * scale, found.patients, found.dropped)


@pytest.mark.parametrize("make", **ENGINES)
@pytest.mark.parametrize(
    "bug", [clip_per_tile, no_clip, mean_of_the_batch, the_whole_batch_clipped_at_once]
)
def test_a_planted_clipping_bug_is_seen(
    make: Make, bug: Callable[..., ClippedSum], monkeypatch: Patch
) -> None:
    assert known_gradients_are_clipped_per_patient(make)
    monkeypatch.setattr(lora_engine, "sum_clipped", bug)
    monkeypatch.setattr(opacus_engine, "sum_clipped", bug)
    assert not known_gradients_are_clipped_per_patient(make)
