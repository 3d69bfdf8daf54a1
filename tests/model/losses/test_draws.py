"""Timesteps: spread over the whole schedule, and uniform."""

from __future__ import annotations

import numpy as np

from model.losses.draws import draw_timesteps


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_draw_of_a_tile_falls_into_its_own_part() -> None:
    times = draw_timesteps(500, 4, 1000, generator()).reshape(500, 4)
    assert ((times // 250) == np.arange(4)).all()


def test_timesteps_are_uniform_and_in_range() -> None:
    times = draw_timesteps(20_000, 1, 10, generator())
    counts = np.bincount(times, minlength=10)
    assert counts.shape == (10,)
    assert (abs(counts - 2000) < 250).all()  # more than 5 standard deviations
