"""Self-supervised pretraining on pictures without labels: a small SimCLR, and its linear probe.

Chen et al. 2020, "A simple framework for contrastive learning of visual representations", eq. 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model.arrays import Groups, Images
from model.lab.augmentation.networks import (
    TRUNK_WIDTH,
    NetworkRecipe,
    altered,
    descend,
    make_trunk,
)

_PROJECTION = 32
_TEMPERATURE = 0.2
_SMALLEST_CROP = 0.6  # of a side


def two_view_loss(projected: torch.Tensor) -> torch.Tensor:
    """NT-Xent of projections [2 n, d]: rows i and n + i are two views of one picture."""
    rows = functional.normalize(projected, dim=-1)
    logits = rows @ rows.T / _TEMPERATURE
    logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool), float("-inf"))
    half = len(rows) // 2
    return functional.cross_entropy(logits, torch.arange(len(rows)).roll(half))


def pretrain_views(images: Images, seed: int, recipe: NetworkRecipe) -> nn.Sequential:
    """A trunk, pretrained on images uint8 [n, s, s, 3] without their labels."""
    torch.manual_seed(seed)
    trunk = make_trunk()
    projector = nn.Sequential(
        nn.Linear(TRUNK_WIDTH, TRUNK_WIDTH), nn.SiLU(), nn.Linear(TRUNK_WIDTH, _PROJECTION)
    )
    both = nn.Sequential(trunk, projector)

    def loss(rows: Groups, rng: np.random.Generator) -> torch.Tensor:
        views = [_cropped(altered(images[rows], rng), rng) for _ in range(2)]
        return two_view_loss(both(torch.cat(views)))

    descend(both, np.ones(len(images)), recipe, seed, loss)
    return trunk.eval()


def _cropped(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    side = pictures.shape[-1]
    kept = int(rng.integers(int(_SMALLEST_CROP * side), side + 1))
    top, left = rng.integers(side - kept + 1, size=2)
    part = pictures[:, :, top : top + kept, left : left + kept]
    return functional.interpolate(part, (side, side), mode="bilinear", antialias=True)
