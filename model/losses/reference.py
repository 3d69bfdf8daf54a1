"""R^Y: how alike a tile's places are to a frozen encoder that sees the clean image."""

from __future__ import annotations

import torch
from torch import Tensor

from model.encoders.interface import ImageEncoder, Pictures, prepare
from model.losses.features import pooled
from model.losses.terms import above_diagonal, correlations


@torch.no_grad()
def reference_correlations(encoder: ImageEncoder, images: Pictures, side: int) -> Tensor:
    """R^Y above its diagonal, float16 [n, N (N - 1) / 2] on the CPU: 4 kB an image for N = 64.

    `images`: uint8 [n, h, w, 3] or pictures, brought to the encoder's resolution. `side`: of the
    block's grid (`feature_side`). A finer grid of the encoder is averaged over areas down to it, a
    coarser one stays, and the features are averaged to it when they are compared. Half precision is
    accurate to 5e-4 for a correlation.
    """
    tokens = encoder.tokens(prepare(images, encoder))
    grid = min(side, *tokens.shape[2:])  # never finer than the encoder: that would invent places
    return above_diagonal(correlations(pooled(tokens, grid * grid))).half().cpu()
