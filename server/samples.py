"""What the adapter changed: a picture of the study's public prompts, before and after."""

from __future__ import annotations

from pathlib import Path

import torch

from model.adapters import load_adapter
from model.base import load_base
from model.digest import folder_digest
from model.generation.adapter import file_digest
from model.generation.compare import GridRequest, compare_adapter
from model.generation.provenance import Drawing, Provenance, software, write_png
from privacy.errors import DeploymentError
from privacy.files import told_if_unwritable
from privacy.study.manifest import Samples


def draw_samples(
    base: Path, adapter: Path, samples: Samples, out: Path, device: torch.device
) -> None:
    """Write the grid to `out` (PNG), with its provenance.

    Raises `DeploymentError` where it cannot be written.
    """
    comparison = GridRequest(samples.prompts, samples.seeds, samples.steps, samples.guidance)
    grid = compare_adapter(load_base(base, device), adapter, comparison)
    origin = load_adapter(adapter).origin
    drawing = Drawing(
        base=origin.base if origin is not None else folder_digest(base),
        steps=samples.steps,
        guidance=samples.guidance,
        software=software(),
        adapter=file_digest(adapter),
        adapter_source=adapter.name,
        origin=origin,
    )
    with told_if_unwritable(out, "Free some space there.", DeploymentError):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_png(grid, out, Provenance(drawing, samples.prompts, samples.seeds))
