"""What the adapter changed: a picture of the study's public prompts, before and after."""

from __future__ import annotations

from pathlib import Path

import torch

from model.base import load_base
from model.sampling import before_after_grid, sample
from privacy.errors import DeploymentError
from privacy.manifest import Samples


def draw_samples(
    base: Path, adapter: Path, samples: Samples, out: Path, device: torch.device
) -> None:
    """Write the grid to `out` (PNG): every prompt with every seed, without and with `adapter`.

    The adapter is read from its file as anybody would read it, by `load_lora_weights`.
    Raises `DeploymentError` where `out` cannot be written.
    """
    pipeline = load_base(base, device)
    prompts = [prompt for prompt in samples.prompts for _ in samples.seeds]
    seeds = [seed for _ in samples.prompts for seed in samples.seeds]

    def draw() -> list[object]:
        steps, guidance = samples.steps, samples.guidance
        return list(sample(pipeline, prompts, seeds, steps=steps, guidance=guidance))

    before = draw()
    pipeline.load_lora_weights(str(adapter.parent), weight_name=adapter.name)
    grid = before_after_grid(prompts, before, draw())
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        grid.save(out)
    except OSError as error:
        raise DeploymentError(
            f"{out} cannot be written: {error.strerror}.", "Free some space there."
        ) from None
