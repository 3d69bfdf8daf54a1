"""Frozen encoders: what the losses and the evaluation need from them, and how images get there.

An encoder normalises inside; outside, an image is RGB in 0..1 at the encoder's own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from privacy.errors import ModelError

Pictures: TypeAlias = Sequence[Image.Image] | NDArray[np.uint8]


@runtime_checkable
class ImageEncoder(Protocol):
    """A frozen encoder of images, in eval mode. Gradients can flow through to the images."""

    @property
    def name(self) -> str:
        """A short name for tables: the source it was loaded from."""

    @property
    def digest(self) -> str:
        """ "sha256:" and 64 hex digits over the encoder's files; the key of caches."""

    @property
    def size(self) -> int:
        """Side of the square images that it takes, in pixels."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """Patch tokens float32 [n, D, g, g], without the class token, of images [n, 3, s, s].

        Images are float in 0..1, on `device`. Raises ModelError for images of another size.
        """

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled features float32 [n, E] of images [n, 3, s, s] in 0..1.

        L2-normalised if the encoder knows texts too, unnormalised otherwise.
        """


@runtime_checkable
class ImageTextEncoder(ImageEncoder, Protocol):
    """An encoder whose images and texts share one space."""

    def embed_text(self, texts: Sequence[str]) -> torch.Tensor:
        """Float32 [n, E], L2-normalised, in the space of `embed`; long texts are cut, silently."""


def prepare(images: Pictures, encoder: ImageEncoder) -> torch.Tensor:
    """Images at the encoder's size, float32 [n, 3, s, s] in 0..1 on its device.

    images: PIL pictures of any sizes, or uint8 [n, h, w, 3]. Resized with antialiasing (bicubic);
    a picture that is not square loses both ends of its longer side. Raises ModelError for other
    arrays.
    """
    if isinstance(images, np.ndarray):
        return _prepared(_checked(images), encoder)
    if not images:
        raise ModelError("There are no images to encode.", "Give one or more.")
    arrays = [np.asarray(image.convert("RGB"))[None] for image in images]
    if len({array.shape for array in arrays}) == 1:
        return _prepared(np.concatenate(arrays), encoder)
    return torch.cat([_prepared(array, encoder) for array in arrays])


def _checked(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not images.size:
        raise ModelError(
            f"An array of {images.dtype}, shape {list(images.shape)}, is not a set of images.",
            "Give uint8 [n, height, width, 3].",
        )
    return images


def _prepared(images: NDArray[np.uint8], encoder: ImageEncoder) -> torch.Tensor:
    """uint8 [n, h, w, 3] to float [n, 3, s, s] in 0..1."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.array(images[:, top : top + side, left : left + side])  # a PIL view is read-only
    pixels = torch.from_numpy(square).to(encoder.device).permute(0, 3, 1, 2).float() / 255
    if side != encoder.size:
        size = (encoder.size, encoder.size)
        pixels = functional.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
    return pixels


def check_images(images: torch.Tensor, size: int) -> None:
    """Raise ModelError unless images are float [n, 3, size, size]."""
    if images.ndim != 4 or images.shape[1:] != (3, size, size) or not images.is_floating_point():
        raise ModelError(
            f"The encoder takes float images of {size} x {size} px, not {images.dtype} of shape "
            f"{list(images.shape)}.",
            "Use `model.encoders.prepare`, or an encoder made for images of this size.",
        )
