"""From drawn tiles to the rows of a physical batch: (tile, t, noise), m of each tile.

The diffusion's own t and noise protect nobody. They come from ordinary generators. Each patient's
is seeded with 128 bits of the step's secret randomness, so that none depends on another patient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.training.encoding import EncodedTiles
from model.losses import Rows
from privacy.dpsgd.substreams import Purpose, Substreams


def generators_of(patients: NDArray[np.int64], streams: Substreams) -> list[np.random.Generator]:
    """A generator for each of `patients` (their numbers)."""
    keys = streams.words(Purpose.ROWS, patients)
    return [np.random.Generator(np.random.Philox(key=key)) for key in keys]


def draw_timesteps(
    tiles: int, draws: int, steps: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Timesteps [tiles * draws] in 0..steps-1, uniform, those of one tile evenly spread.

    Draw j of a tile falls into the j-th of `draws` equal parts (stratified sampling), so the mean
    over the draws stays unbiased and varies less.
    """
    spread = (generator.random((tiles, draws)) + np.arange(draws)) / draws
    # random() < 1, but (1 - 2^-53 + draws - 1) / draws may round up to 1: hence the clip.
    return (spread * steps).astype(np.int64).clip(max=steps - 1).reshape(-1)


def draw_rows(
    tiles: EncodedTiles,
    chosen: Sequence[NDArray[np.int64]],
    draws: int,
    steps: int,
    generators: Sequence[np.random.Generator],
) -> Rows:
    """Rows of the patients whose tile indices are `chosen`, patient after patient; on the CPU.

    Each patient's numbers come from its own one of `generators`, so that they do not depend on who
    else is there, or on the physical batch.
    """
    times, noises = [], []
    shape = tiles.latents.shape[1:]
    for indices, generator in zip(chosen, generators, strict=True):
        count = len(indices) * draws
        times.append(draw_timesteps(len(indices), draws, steps, generator))
        noises.append(generator.standard_normal((count, *shape), dtype=np.float32))
    # A tile's draws are neighbours, as `draw_timesteps` orders them.
    rows = torch.from_numpy(np.concatenate(chosen)).repeat_interleave(draws)
    return Rows(
        latents=tiles.latents[rows],
        timesteps=torch.from_numpy(np.concatenate(times)),
        noise=torch.from_numpy(np.concatenate(noises)),
        text=tiles.text[tiles.caption_of[rows]],
        reference=None if tiles.reference is None else tiles.reference[rows],
    )


def by_place(rows: Rows, filled: Tensor, rows_each: int) -> Rows:
    """`rows`, patient after patient, moved to the `filled` places: bool [places].

    The rows of the other places are blank.
    """
    places = filled.repeat_interleave(rows_each).nonzero().flatten()
    return rows.spread(places, len(filled) * rows_each)


def no_rows(tiles: EncodedTiles) -> Rows:
    """No rows, in the shapes and types of those that `draw_rows` returns."""
    return Rows(
        latents=tiles.latents[:0],
        timesteps=torch.empty(0, dtype=torch.int64),
        noise=tiles.latents[:0],
        text=tiles.text[:0],
        reference=None if tiles.reference is None else tiles.reference[:0],
    )
