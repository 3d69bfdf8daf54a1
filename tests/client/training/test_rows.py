"""Rows: timesteps, noise and their independence of the physical batches."""

from __future__ import annotations

import numpy as np
import torch

from client.training.rows import draw_rows, draw_timesteps, fresh_generator
from privacy.dpsgd.noise import SystemNoise
from tests.client.training.conftest import SeededNoise, make_tiles


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_draw_of_a_tile_falls_into_its_own_part() -> None:
    times = draw_timesteps(500, 4, 1000, generator()).reshape(500, 4)
    assert ((times // 250) == torch.arange(4)).all()


def test_timesteps_are_uniform_and_in_range() -> None:
    times = draw_timesteps(20_000, 1, 10, generator())
    counts = torch.bincount(times, minlength=10)
    assert counts.shape == (10,)
    assert ((counts - 2000).abs() < 250).all()  # more than 5 standard deviations


def test_rows_repeat_their_tile_and_its_own_caption() -> None:
    tiles = make_tiles(3)
    chosen = [np.array([2, 0]), np.array([1])]
    rows = draw_rows(tiles, chosen, 2, 1000, generator())
    order = [2, 2, 0, 0, 1, 1]
    torch.testing.assert_close(rows.latents, tiles.latents[order])
    torch.testing.assert_close(rows.text, tiles.text[tiles.caption_of[order]])
    assert rows.noise.shape == rows.latents.shape
    assert len(torch.unique(rows.noise.reshape(6, -1), dim=0)) == 6


def test_a_split_into_physical_batches_changes_no_row() -> None:
    tiles = make_tiles(4)
    chosen = tiles.by_patient()
    whole = draw_rows(tiles, chosen, 3, 1000, generator())
    source = generator()
    parts = [draw_rows(tiles, [one], 3, 1000, source) for one in chosen]
    torch.testing.assert_close(whole.noise, torch.cat([part.noise for part in parts]))
    torch.testing.assert_close(whole.timesteps, torch.cat([part.timesteps for part in parts]))


def test_generators_are_fresh() -> None:
    source = SystemNoise()
    one, two = (torch.randn(8, generator=fresh_generator(source)) for _ in range(2))
    assert (one != two).any()
    seeded = (fresh_generator(SeededNoise(3)).initial_seed() for _ in range(2))
    assert len(set(seeded)) == 1
