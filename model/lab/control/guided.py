"""Sampling under a control: any base, with or without an adapter on its UNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionControlNetPipeline
from PIL import Image

from model.base import Pipeline
from model.lab.control.network import Control, check_fits
from model.sampling import DEFAULT_GUIDANCE, DEFAULT_STEPS
from privacy.errors import ModelError

DEFAULT_STRENGTH = 1.0
_BATCH = 16


@dataclass(frozen=True)
class Guided:
    """What to draw: one image for each prompt, seed and condition [n, C, s, s].

    strength: factor on what the control adds to the UNet; 0 is the base alone.
    """

    prompts: Sequence[str]
    seeds: Sequence[int]
    conditions: torch.Tensor
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    strength: float = DEFAULT_STRENGTH

    def __post_init__(self) -> None:
        """Raise `ModelError` if they differ in number."""
        counts = {len(self.prompts), len(self.seeds), len(self.conditions)}
        if len(counts) != 1:
            raise ModelError(
                f"{len(self.prompts)} prompts, {len(self.seeds)} seeds and "
                f"{len(self.conditions)} conditions.",
                "Give each image one of each.",
            )


def control_pipeline(pipeline: Pipeline, control: Control) -> Pipeline:
    """A pipeline of the same parts (not copies) that takes conditions as `image`.

    The UNet keeps what is attached to it: an adapter works as it does without a control.
    Raises `ModelError` if the control is for a base of another shape.
    """
    check_fits(pipeline, control)
    unet, network = pipeline.unet, control.network
    if (network.device, network.dtype) != (unet.device, unet.dtype):
        network = network.to(unet.device, unet.dtype)
    kind: Any = StableDiffusionControlNetPipeline
    guided: Pipeline = kind(
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        unet=unet,
        controlnet=network,
        scheduler=pipeline.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    guided.set_progress_bar_config(disable=True)
    return guided


def sample_controlled(pipeline: Pipeline, control: Control, guided: Guided) -> list[Image.Image]:
    """One image per prompt, seed and condition; noise is drawn as `model.sampling.sample` does."""
    size = control.spec.size
    if tuple(guided.conditions.shape[1:]) != (control.spec.channels, size, size):
        raise ModelError(
            f"Conditions of shape {tuple(guided.conditions.shape)}; the control takes "
            f"[n, {control.spec.channels}, {size}, {size}].",
            "Make them with model.lab.control.conditions.",
        )
    both = control_pipeline(pipeline, control)
    images: list[Image.Image] = []
    for start in range(0, len(guided.prompts), _BATCH):
        part = slice(start, start + _BATCH)
        with torch.no_grad():
            output = both(
                prompt=list(guided.prompts[part]),
                image=guided.conditions[part].to(pipeline.unet.device),
                generator=[torch.Generator().manual_seed(seed) for seed in guided.seeds[part]],
                num_inference_steps=guided.steps,
                guidance_scale=guided.guidance,
                controlnet_conditioning_scale=float(guided.strength),
                height=size,
                width=size,
            )
        images += output.images
    return images
