"""One run of stage one: what its parts share, and whether its base can be trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from model.base import Pipeline, image_size
from model.digest import folder_digest
from model.lab.stage_one.order import BatchLayout
from model.lab.stage_one.settings import StageOneSettings
from model.lab.stage_one.source import PictureSource
from model.lab.stage_one.workspace import WORKSPACE
from privacy.errors import ModelError


@dataclass(frozen=True, slots=True)
class StageOneRun:
    """What the parts of one run share."""

    out: Path
    settings: StageOneSettings
    source: PictureSource
    pipeline: Pipeline
    accelerator: Accelerator
    layout: BatchLayout

    @property
    def workspace(self) -> Path:
        """Where checkpoints lie until the end."""
        return self.out / WORKSPACE

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.settings.size or image_size(self.pipeline)

    @property
    def latent(self) -> tuple[int, int, int]:
        """Shape of one picture's latents: c, h, w."""
        side = self.size // int(self.pipeline.vae_scale_factor)
        return int(self.pipeline.unet.config.in_channels), side, side


def identity(run: StageOneRun, base: Path) -> dict[str, object]:
    """What distinguishes this run from runs with other settings, base or data."""
    return {
        **run.settings.outcome(),
        "base": folder_digest(base),
        "data": run.source.fingerprint().hex(),
        "precision": run.accelerator.mixed_precision,
    }


def check_stage_one_base(run: StageOneRun) -> None:
    """Raise `ModelError` if the base's shape or size is not what stage one trains."""
    config = run.pipeline.unet.config
    extra = next(
        (name for name in ("class_embed_type", "addition_embed_type") if config.get(name)), None
    )
    if extra or config.in_channels != run.pipeline.vae.config.latent_channels:
        raise ModelError(
            f"The base's UNet needs more than latents, time and text ({extra or 'channels'}).",
            "Use a plain text-to-image base: not inpainting, not class-conditioned, not SDXL.",
        )
    step = int(run.pipeline.vae_scale_factor) * 2 ** (len(config.block_out_channels) - 1)
    if run.size % step:
        nearest = max(step, round(run.size / step) * step)
        raise ModelError(
            f"The base cannot draw {run.size} px: its sizes are multiples of {step}.",
            f"Set size = {nearest} in stage-one.toml.",
        )
