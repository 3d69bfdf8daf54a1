"""From drawn tiles to the rows of a physical batch: (tile, t, noise), m of each tile.

The diffusion's own t and noise protect nobody. They come from ordinary generators. Each patient's
is seeded with 128 bits of the step's secret randomness, so that none depends on another patient.
"""

from __future__ import annotations

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
        likeness=None if tiles.likeness is None else tiles.likeness[:0],
    )
