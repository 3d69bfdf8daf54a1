"""The margin of the structure term, from public images alone.

m = median rho of stage one + 0.1: a little more than what the base already reaches. The median
weighs every draw by w(t), as the loss does: a row of noise says nothing about the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.base import Pipeline
from model.encoders.interface import ImageEncoder
from model.latents import latents_of
from model.losses.features import caught, feature_side
from model.losses.reference import reference_correlations
from model.losses.rows import NoiseSchedule, Rows
from model.losses.stage_two import agreement
from model.text import encode_captions
from privacy.errors import ModelError

BEYOND: Final = 0.1  # beyond the median
_IMAGES: Final = 8  # at once
_FEWEST: Final = 8  # images below which a median means nothing


@dataclass(frozen=True, slots=True)
class Margin:
    """rho of stage one on public images: weighted median and quartiles, and the margin m."""

    median: float
    low: float  # a quarter of the weight lies below
    high: float
    images: int
    draws: int  # of (t, eps), for each image

    @property
    def margin(self) -> float:
        """m, rounded up to two places, at most 1: the value for study.toml."""
        return min(float(np.ceil((self.median + BEYOND) * 100 - 1e-9) / 100), 1.0)


@dataclass(frozen=True, slots=True)
class PublicImages:
    """Images uint8 [n, s, s, 3] at the base's size, and a caption for each."""

    images: NDArray[np.uint8]
    captions: Sequence[str]


@torch.no_grad()
def public_margin(
    pipeline: Pipeline,
    encoder: ImageEncoder,
    public: PublicImages,
    block: str,
    *,
    seed: int = 0,
    draws: int = 8,
) -> Margin:
    """rho of `block` against `encoder`, over `draws` of (t, eps) for each public image.

    Timesteps are spread out evenly. The same arguments give the same margin. `pipeline` carries no
    adapter. Raises `ModelError` if the block is unknown or the images are too few.
    """
    count = len(public.images)
    if count < _FEWEST:
        raise ModelError(
            f"{count} public images are too few for a margin.", f"Give {_FEWEST} or more."
        )
    side = feature_side(pipeline.unet, block)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for start in range(0, count, _IMAGES):
        part = slice(start, start + _IMAGES)
        some = PublicImages(public.images[part], public.captions[part])
        rows = _rows(pipeline, some, draws, generator)
        reference = reference_correlations(encoder, some.images, side)
        found.append(_rho(pipeline, rows, reference.repeat_interleave(draws, dim=0), block))
    rho, weight = torch.cat(found, dim=1).double().numpy()
    low, median, high = (_quantile(rho, weight, q) for q in (0.25, 0.5, 0.75))
    return Margin(median, low, high, count, draws)


def _rows(pipeline: Pipeline, public: PublicImages, draws: int, generator: torch.Generator) -> Rows:
    """`draws` rows of each image, without a reference; on the CPU."""
    latents = latents_of(pipeline, public.images).repeat_interleave(draws, dim=0)
    steps = len(NoiseSchedule.of(pipeline.scheduler))
    places = torch.rand(len(public.images), draws, generator=generator) + torch.arange(draws)
    times = (places / draws * steps).long().clamp(max=steps - 1).reshape(-1)
    text = encode_captions(pipeline, public.captions).repeat_interleave(draws, dim=0)
    return Rows(latents, times, torch.randn(latents.shape, generator=generator), text)


def _rho(pipeline: Pipeline, rows: Rows, reference: Tensor, block: str) -> Tensor:
    """rho and w(t) of every row: [2, n] on the CPU."""
    rows = Rows(rows.latents, rows.timesteps, rows.noise, rows.text, reference).to(pipeline.device)
    schedule, dtype = NoiseSchedule.of(pipeline.scheduler, pipeline.device), pipeline.unet.dtype
    with caught(pipeline.unet, block) as features:
        pipeline.unet(schedule.noised(rows).to(dtype), rows.timesteps, rows.text.to(dtype))
    return torch.stack([agreement(features[0], rows), schedule.signal(rows)]).cpu()


def _quantile(values: NDArray[np.float64], weights: NDArray[np.float64], quantile: float) -> float:
    """The smallest value at or below which that share of the weight lies."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) >= quantile * weights.sum()
    return float(values[order][np.argmax(reached)])
