"""Images through frozen encoders, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from model.encoders import ImageTextEncoder, prepare
from model.encoders.interface import ImageEncoder
from model.lab.evaluation.figures import Doubles, Features, Groups
from model.lab.evaluation.memorisation import Views, symmetries

_BATCH: Final = 64
PIXELS: Final = "pixels"
_SIDE: Final = 16  # of the thumbnails that stand for plain pixels


class Space(Protocol):
    """A name and features [n, E] of images uint8 [n, s, s, 3]."""

    @property
    def name(self) -> str:
        """For tables."""

    def features(self, images: NDArray[np.uint8]) -> Features:
        """Float32 [n, E]."""


class EncoderSpace:
    """The features of a frozen encoder."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self.encoder = encoder
        self.name = encoder.name

    def features(self, images: NDArray[np.uint8]) -> Features:
        """See `Space`; in batches, without gradients."""
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), _BATCH):
                batch = prepare(np.ascontiguousarray(images[start : start + _BATCH]), self.encoder)
                parts.append(self.encoder.embed(batch).float().cpu().numpy())
        return np.concatenate(parts)


class PixelSpace:
    """Thumbnails of 16 x 16 px, contrast included: what no encoder can be blind to."""

    name = PIXELS

    def features(self, images: NDArray[np.uint8]) -> Features:
        """See `Space`."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
        small = torch.nn.functional.interpolate(
            pixels, (_SIDE, _SIDE), mode="bicubic", antialias=True
        )
        return np.asarray(small.flatten(1).numpy())


def views(space: Space, images: NDArray[np.uint8], patients: Groups, weights: Doubles) -> Views:
    """Features of all 8 symmetries; weights are bootstrap multiplicities [R, n]."""
    found = np.stack([space.features(view) for view in symmetries(images)])
    return Views(found, patients, weights)


def text_features(encoder: ImageTextEncoder, texts: Sequence[str]) -> Features:
    """Float32 [n, E], L2-normalised."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(texts), _BATCH):
            part = encoder.embed_text(list(texts[start : start + _BATCH]))
            parts.append(part.float().cpu().numpy())
    return np.concatenate(parts)
