"""Shots before and after an adapter, next to the masks or markers that they follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from model.base import Pipeline
from model.generation.compare import before_and_after
from model.generation.grid import Column, grid
from model.lab.drawing.shots import Shot, preview, stacked_conditions
from model.sampling import SamplerSettings, sample_each


@dataclass(frozen=True)
class Guide:
    """A pipeline with a control, built from the plain one's parts, and how strongly it steers."""

    pipeline: Pipeline
    strength: float = 1.0


def compare_shots(
    pipeline: Pipeline,
    adapter: Path | None,
    wanted: Sequence[Shot],
    settings: SamplerSettings,
    guide: Guide | None = None,
) -> Image.Image:
    """A row for each shot, with what it follows; call `check_adapter` first."""
    guide = guide or Guide(pipeline)
    followed = [preview(shot.condition) for shot in wanted if shot.condition is not None]
    columns = [Column("to follow", followed)] if followed else []
    columns += before_and_after(pipeline, adapter, lambda: _draw(guide, wanted, settings))
    return grid(columns, [shot.prompt.text for shot in wanted])


def _draw(guide: Guide, wanted: Sequence[Shot], settings: SamplerSettings) -> list[Image.Image]:
    """The shots' pictures in their order."""
    texts, seeds = [shot.prompt.text for shot in wanted], [shot.seed for shot in wanted]
    conditions = stacked_conditions([shot.condition for shot in wanted], guide.strength)
    drawn = dict(sample_each(guide.pipeline, texts, seeds, settings, conditions))
    return [drawn[index] for index in range(len(wanted))]
