"""From encoded images to rows: (image, t, noise), m of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.losses.rows import Rows

# More are not faster there, and mean more blanks to compute. Where rows are small, 16 of them take
# little longer than what every pass costs, whatever it computes.
_MOST_ROWS_CPU: Final = 16
_MOST_SMALL_ROWS_CPU: Final = 48
_SMALL_NUMBERS: Final = 2**16  # of latents in a batch of small rows
_MOST_ROWS_GPU: Final = 256
_MOST_NUMBERS: Final = 2**17  # of latents in a batch: 128 rows at 16x16x4, 8 at 64x64x4


class EncodedImages(Protocol):
    """Images and their captions as the diffusion model sees them, on the CPU."""

    @property
    def latents(self) -> Tensor:
        """[images, c, h, w] float32, scaled for the UNet."""

    @property
    def text(self) -> Tensor:
        """[captions, length, width] float32, each caption once."""

    @property
    def caption_of(self) -> Tensor:
        """[images] int64: row of `text`."""

    @property
    def reference(self) -> Tensor | None:
        """R^Y above the diagonal, [images, N (N - 1) / 2]; where a loss compares with it."""

    @property
    def likeness(self) -> Tensor | None:
        """r of each caption and public phrase, [captions, P]; where a loss needs it."""


def draw_timesteps(
    images: int, draws: int, steps: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Timesteps [images * draws] in 0..steps-1, uniform, those of one image evenly spread.

    Draw j of an image falls into the j-th of `draws` equal parts (stratified sampling), so the mean
    over the draws stays unbiased and varies less.
    """
    spread = (generator.random((images, draws)) + np.arange(draws)) / draws
    # random() < 1, but (1 - 2^-53 + draws - 1) / draws may round up to 1: hence the clip.
    return (spread * steps).astype(np.int64).clip(max=steps - 1).reshape(-1)


def draw_rows(
    images: EncodedImages,
    chosen: Sequence[NDArray[np.int64]],
    draws: int,
    steps: int,
    generators: Sequence[np.random.Generator],
) -> Rows:
    """Rows of the groups whose image indices are `chosen`, group after group; on the CPU.

    The numbers of each group (at a site: a patient) come from its own one of `generators`, so that
    they do not depend on the other groups, or on the batch.
    """
    times, noises = [], []
    shape = images.latents.shape[1:]
    for indices, generator in zip(chosen, generators, strict=True):
        count = len(indices) * draws
        times.append(draw_timesteps(len(indices), draws, steps, generator))
        noises.append(generator.standard_normal((count, *shape), dtype=np.float32))
    rows = torch.from_numpy(np.concatenate(chosen)).repeat_interleave(draws)
    return Rows(
        latents=images.latents[rows],
        timesteps=torch.from_numpy(np.concatenate(times)),
        noise=torch.from_numpy(np.concatenate(noises)),
        text=images.text[images.caption_of[rows]],
        reference=None if images.reference is None else images.reference[rows],
        likeness=None if images.likeness is None else images.likeness[images.caption_of[rows]],
    )


def default_rows(images: EncodedImages, device: torch.device) -> int:
    """Rows of a batch for latents of this size on `device`: fewer for large ones."""
    numbers = images.latents.shape[1:].numel()
    most = _MOST_ROWS_GPU
    if device.type == "cpu":
        most = int(np.clip(_SMALL_NUMBERS // numbers, _MOST_ROWS_CPU, _MOST_SMALL_ROWS_CPU))
    return int(np.clip(_MOST_NUMBERS // numbers, 1, most))
