"""Rows: timesteps, noise and their independence of everybody else."""

from __future__ import annotations

import numpy as np
import torch

from client.training.rows import by_place, generators_of
from model.losses.draws import draw_rows
from privacy.dpsgd.noise import SystemNoise
from privacy.dpsgd.substreams import Substreams
from tests.client.training.tiles import make_tiles


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_rows_repeat_their_tile_and_its_own_caption() -> None:
    tiles = make_tiles(3)
    chosen = [np.array([2, 0]), np.array([1])]
    rows = draw_rows(tiles, chosen, 2, 1000, [generator(1), generator(2)])
    order = [2, 2, 0, 0, 1, 1]
    torch.testing.assert_close(rows.latents, tiles.latents[order])
    torch.testing.assert_close(rows.text, tiles.text[tiles.caption_of[order]])
    assert rows.noise.shape == rows.latents.shape
    assert rows.noise.dtype == torch.float32
    assert len(torch.unique(rows.noise.reshape(6, -1), dim=0)) == 6


def test_whoever_else_is_there_a_patients_rows_are_the_same() -> None:
    tiles, streams = make_tiles(4), Substreams.fresh(SystemNoise())
    numbers, chosen = np.arange(4), tiles.by_patient()
    whole = draw_rows(tiles, chosen, 3, 1000, generators_of(numbers, streams))
    start = 0
    for number, own in zip(numbers, chosen, strict=True):
        alone = draw_rows(tiles, [own], 3, 1000, generators_of(numbers[[number]], streams))
        part = slice(start, start + 3 * len(own))
        assert torch.equal(whole.noise[part], alone.noise)
        assert torch.equal(whole.timesteps[part], alone.timesteps)
        start = part.stop


def test_patients_and_steps_have_numbers_of_their_own() -> None:
    two, source = np.arange(2), SystemNoise()
    drawn = [
        one.standard_normal(4).tolist()
        for streams in (Substreams.fresh(source), Substreams.fresh(source))
        for one in generators_of(two, streams)
    ]
    assert len({tuple(numbers) for numbers in drawn}) == 4


def test_blank_places_hold_zeros() -> None:
    tiles = make_tiles(2, most=1)
    rows = draw_rows(tiles, tiles.by_patient(), 2, 1000, [generator(1), generator(2)])
    spread = by_place(rows, torch.tensor([False, True, False, True]), 2)
    assert torch.equal(spread.latents[[2, 3, 6, 7]], rows.latents)
    assert torch.equal(spread.timesteps[[2, 3, 6, 7]], rows.timesteps)
    blank = spread.latents[[0, 1, 4, 5]], spread.noise[[0, 1, 4, 5]], spread.text[[0, 1, 4, 5]]
    assert all((part == 0).all() for part in blank)
    assert spread.reference is None
