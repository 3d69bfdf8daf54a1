"""A short stage one, and what it has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from model.lab.stage_one.settings import StageOneSettings

Weights = dict[str, torch.Tensor]
SETTINGS = StageOneSettings(
    steps=4,
    batch=2,
    micro_batch=2,
    warm_up=0,
    learning_rate=1e-3,
    ema_decay=0.5,
    weights="float32",
    workers=0,
    checkpoint_every=2,
    log_every=1,
)


def changed(**keys: Any) -> StageOneSettings:
    return SETTINGS.model_copy(update=keys)


def unet(base: Path) -> Weights:
    return load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
