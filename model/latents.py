"""Images as the diffusion model sees them."""

from __future__ import annotations

from typing import Any

import torch
from numpy import uint8
from numpy.typing import NDArray
from torch import Tensor

from model.base import Pipeline


@torch.no_grad()
def latents_of(pipeline: Pipeline, images: NDArray[uint8]) -> Tensor:
    """The posterior's mode of images [n, s, s, 3], scaled as the UNet was trained on.

    Float32 [n, c, h, w] on the CPU. All at once: batching is up to the caller.
    """
    vae: Any = pipeline.vae
    first = next(weights for weights in vae.parameters() if weights.dim() == 4)
    if not first.is_contiguous(
        memory_format=torch.channels_last
    ):  # going through all of them takes 10 ms
        # Only the memory layout changes: convolutions on a CPU take half the time.
        vae.to(memory_format=torch.channels_last)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(pipeline.device, vae.dtype)
    encoded = vae.encode(pixels / 127.5 - 1)
    # AutoencoderTiny has no posterior, only latents.
    latents = encoded.latent_dist.mode() if "latent_dist" in encoded else encoded.latents
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    scaled: Tensor = (latents - shift) * vae.config.scaling_factor
    return scaled.float().cpu()
