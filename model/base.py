"""The frozen base pipeline, loaded once and kept. `model/cache.py` says where its files are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from model.digest import pipeline_files
from model.fitness import check_base
from privacy.errors import ModelError

# A diffusers StableDiffusionPipeline. It registers its parts (unet, vae, text_encoder, tokenizer,
# scheduler) at run time, where no type checker sees them.
Pipeline: TypeAlias = Any


def load_base(
    path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Pipeline:
    """Load the pipeline in `path`, frozen and in eval mode; from safetensors only, no network.

    Raises `ModelError` if it cannot be loaded or trained (`model.fitness`).
    """
    pipeline_files(path)  # refuses parts with code of their own
    check_base(path)
    _silence_progress_bars()
    kind: Any = StableDiffusionPipeline
    try:
        pipeline: Pipeline = kind.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The base pipeline in {path} cannot be loaded: its settings and weights do not match.",
            "Get the base again, all files of one version; every part needs safetensors weights.",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    return pipeline.to(device)


def save_base(pipeline: Pipeline, folder: Path) -> None:
    """Write the pipeline's parts to `folder` so that all are read as float32 by default.

    transformers reads a model in the precision that its config names (the saved one, possibly
    half), diffusers in single: the text encoder's embeddings would not match the UNet's weights.
    """
    pipeline.save_pretrained(folder, safe_serialization=True)
    config = folder / "text_encoder" / "config.json"
    values = json.loads(config.read_text("utf-8")) | {"dtype": "float32"}
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", "utf-8")


def image_size(pipeline: Pipeline) -> int:
    """Side of the square images that the pipeline was made for, in pixels."""
    return int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)


def _silence_progress_bars() -> None:
    loggers: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    for logger in loggers:
        logger.disable_progress_bar()
