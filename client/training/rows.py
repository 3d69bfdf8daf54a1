"""From drawn tiles to the rows of a physical batch: (tile, t, noise), m of each tile.

The diffusion's own t and noise protect no one; they come from a torch generator that is seeded
afresh by the site's cryptographic source for every step, and so are never used twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.training.encoding import EncodedTiles
from model.losses import Rows
from privacy.dpsgd.noise import NoiseSource


def fresh_generator(source: NoiseSource) -> torch.Generator:
    """A CPU generator seeded with 53 bits of `source`."""
    seed = int(source.uniform(1)[0] * 2**53)
    return torch.Generator().manual_seed(seed)


def draw_timesteps(tiles: int, draws: int, steps: int, generator: torch.Generator) -> Tensor:
    """Timesteps [tiles * draws] in 0..steps-1, uniform, those of one tile spread out evenly.

    Draw j of a tile falls into the j-th of `draws` equal parts (stratified sampling): the mean
    over the draws stays unbiased and varies less.
    """
    places = torch.rand(tiles, draws, generator=generator, dtype=torch.float64)
    spread = (places + torch.arange(draws)) / draws
    return (spread * steps).long().clamp(max=steps - 1).reshape(-1)


def draw_rows(
    tiles: EncodedTiles,
    chosen: Sequence[NDArray[np.int64]],
    draws: int,
    steps: int,
    generator: torch.Generator,
) -> Rows:
    """Rows of the patients whose tile indices are `chosen`, patient after patient; on the CPU.

    Each patient takes its numbers from the generator in turn, so that a split of the patients
    into other physical batches gives the same rows.
    """
    times, noises = [], []
    shape = tiles.latents.shape[1:]
    for indices in chosen:
        times.append(draw_timesteps(len(indices), draws, steps, generator))
        noises.append(torch.randn(len(indices) * draws, *shape, generator=generator))
    rows = torch.from_numpy(np.concatenate(chosen)).repeat_interleave(draws)
    return Rows(
        latents=tiles.latents[rows],
        timesteps=torch.cat(times),
        noise=torch.cat(noises),
        text=tiles.text[tiles.caption_of[rows]],
        reference=None if tiles.reference is None else tiles.reference[rows],
    )
