"""What the adapter changed: a picture of the study's public prompts, before and after."""

from __future__ import annotations

from pathlib import Path

import torch

from model.base import load_base
from model.sampling import Pictures, compare_adapter
from privacy.errors import DeploymentError
from privacy.manifest import Samples


def draw_samples(
    base: Path, adapter: Path, samples: Samples, out: Path, device: torch.device
) -> None:
    """Write the grid to `out` (PNG). Raises `DeploymentError` where it cannot be written."""
    pictures = Pictures(samples.prompts, samples.seeds, samples.steps, samples.guidance)
    grid = compare_adapter(load_base(base, device), adapter, pictures)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        grid.save(out)
    except OSError as error:
        raise DeploymentError(
            f"{out} cannot be written: {error.strerror}.", "Free some space there."
        ) from None
