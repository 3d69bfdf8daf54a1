"""The spaces in which images are compared: a frozen encoder's, and plain pixels."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from model.arrays import Doubles, Features, Groups
from model.encoders.interface import ImageEncoder
from model.lab.evaluation.memorisation import Views, symmetries
from model.quality.embedding import embed_images

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
        """See `Space`."""
        return embed_images(self.encoder, images)


class PixelSpace:
    """Thumbnails of 16 x 16 px, with contrast: they show even what an encoder is blind to."""

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
