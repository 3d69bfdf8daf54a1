"""What stage one of a real base does: `stage-one.toml`, every key with a default."""

from __future__ import annotations

import os
from typing import Annotated, Final, Literal

from pydantic import Field

from privacy.config import Strict

# Keys that change how fast or how safely a run proceeds, never the resulting model.
SPEED: Final = frozenset(
    {"micro_batch", "workers", "checkpoint_every", "gradient_checkpointing", "log_every"}
)

Whole = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class StageOneSettings(Strict):
    """Strict settings: an unknown key, or a value of another kind, fails by name.

    `batch` is the number of images per optimiser step, over all processes and accumulated
    gradients; `micro_batch` what one device holds at a time. `size` in pixels, 0 for the base's
    own. `learning_rate` follows `warm_up` steps of linear rise.
    """

    seed: Annotated[int, Field(ge=0)] = 2026
    steps: Whole = 10_000
    batch: Whole = 64
    micro_batch: Whole = 8
    size: Annotated[int, Field(ge=0)] = 0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    warm_up: Annotated[int, Field(ge=0)] = 500
    rate_schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    gradient_norm: Annotated[float, Field(gt=0)] = 1.0  # of the mean gradient, for stability
    ema_decay: Share = 0.9999
    caption_dropout: Share = 0.1
    caption: Annotated[str, Field(min_length=1)] = "text"  # column, or key of a shard's JSON
    min_snr: Annotated[float, Field(ge=0)] = 5.0  # gamma; 0 weights all timesteps equally
    text_encoder: bool = False  # train it, too
    flips: bool = True  # across and down; a section has no upright side
    latents: Literal["encoded", "cached"] = "encoded"  # every time, or once and kept on disk
    broken_limit: Share = 0.01  # of the images; more of them end the run
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    weights: Literal["float16", "float32"] = "float16"  # of the resulting base
    gradient_checkpointing: bool = False
    workers: Annotated[int, Field(ge=0)] = 4  # processes that read images, for each device
    checkpoint_every: Whole = 500
    log_every: Whole = 10

    def smoke(self) -> StageOneSettings:
        """The same for a few steps of two images: runs everything, learns nothing."""
        few = {"steps": 4, "batch": 2, "micro_batch": 1, "checkpoint_every": 2, "log_every": 1}
        return self.model_copy(update=few)

    def loaders(self) -> int:
        """How many of `workers` run here: no more than processors, of which torch would warn."""
        usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        return min(self.workers, len(usable(0)))

    def outcome(self) -> dict[str, object]:
        """The keys that determine the resulting model; a run resumes only with the same."""
        return self.model_dump(mode="json", exclude=set(SPEED))
