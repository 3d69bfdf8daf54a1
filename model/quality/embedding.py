"""Images and texts through frozen encoders, in batches and without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.arrays import Features
from model.encoders import ImageEncoder, ImageTextEncoder, prepare

_BATCH: Final = 64


def embed_images(encoder: ImageEncoder, images: NDArray[np.uint8]) -> Features:
    """Float32 [n, E] of images [n, s, s, 3]."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            batch = prepare(np.ascontiguousarray(images[start : start + _BATCH]), encoder)
            parts.append(encoder.embed(batch).float().cpu().numpy())
    return np.concatenate(parts)


def embed_texts(encoder: ImageTextEncoder, texts: Sequence[str]) -> Features:
    """Float32 [n, E], L2-normalised."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(texts), _BATCH):
            part = encoder.embed_text(list(texts[start : start + _BATCH]))
            parts.append(part.float().cpu().numpy())
    return np.concatenate(parts)
