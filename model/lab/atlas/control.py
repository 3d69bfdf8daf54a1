"""How good the judge itself is: the same question about tiles that show their phrase for certain.

Only for tissue words, because that is what can be drawn. The tiles go through the base's
autoencoder, as every picture of the base does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.arrays import Images
from model.base import Pipeline
from model.lab.pretraining.autoencoder import reconstruct
from model.lab.tissue.appearance import Appearance
from model.lab.tissue.tile import draw_tile

CONTROL_SIDE = 64  # px of a drawn tile
_SEED = 63_000  # of tiles that no training draws


def control_tiles(pipeline: Pipeline, morphologies: Sequence[str]) -> Images:
    """A tile [64, 64, 3] of each, in an appearance of its own, as the autoencoder gives it back."""
    tiles = []
    for number, morphology in enumerate(morphologies):
        rng = np.random.default_rng([_SEED, number])
        tiles.append(draw_tile(morphology, Appearance.draw(rng), rng).image)
    return reconstruct(pipeline.vae, np.stack(tiles))
