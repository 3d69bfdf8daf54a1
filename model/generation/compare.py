"""What an adapter changes: the same prompts and seeds, without it and with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from model.base import Pipeline
from model.generation.adapter import check_adapter, put_adapter
from model.generation.grid import Column, grid
from model.lab.drawing.prompts import Prompt
from model.lab.drawing.shots import Shot, preview, shots, stacked
from model.sampling import DEFAULT_GUIDANCE, DEFAULT_STEPS, Settings, sample_each


@dataclass(frozen=True)
class Pictures:
    """What to draw: every prompt with every seed."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE


@dataclass(frozen=True)
class Guide:
    """A pipeline with a control, of the same parts as the plain one, and how strong it is."""

    pipeline: Pipeline
    strength: float = 1.0


def compare_adapter(
    pipeline: Pipeline, adapter: Path | None, pictures: Pictures, base: str | None = None
) -> Image.Image:
    """Every prompt with every seed: of the base alone, or before and after with `adapter`.

    The adapter stays on the pipeline. `base`: the pipeline's digest, if known. Raises ModelError
    for a file that is no adapter of this base.
    """
    if adapter is not None:
        check_adapter(pipeline, adapter, base)
    wanted = shots(tuple(map(Prompt, pictures.prompts)), pictures.seeds)
    settings = Settings(pictures.steps, pictures.guidance)
    return compare(pipeline, adapter, wanted, settings)


def compare(
    pipeline: Pipeline,
    adapter: Path | None,
    wanted: Sequence[Shot],
    settings: Settings,
    guide: Guide | None = None,
) -> Image.Image:
    """A row for each shot, with what it follows; `check_adapter` was called before."""
    by, strength = (guide.pipeline, guide.strength) if guide is not None else (pipeline, 1.0)
    followed = [preview(shot.condition) for shot in wanted if shot.condition is not None]
    columns = [Column("to follow", followed)] if followed else []
    if adapter is None:
        columns.append(Column("base", draw(by, wanted, settings, strength)))
    else:
        columns.append(Column("before", draw(by, wanted, settings, strength)))
        put_adapter(pipeline, adapter)
        columns.append(Column("after", draw(by, wanted, settings, strength)))
    return grid(columns, [shot.prompt.text for shot in wanted])


def draw(
    pipeline: Pipeline, wanted: Sequence[Shot], settings: Settings, strength: float = 1.0
) -> list[Image.Image]:
    """The shots' pictures in their order; `pipeline` has a control where they follow something."""
    texts, seeds = [shot.prompt.text for shot in wanted], [shot.seed for shot in wanted]
    conditions = stacked([shot.condition for shot in wanted], strength)
    drawn = dict(sample_each(pipeline, texts, seeds, settings, conditions))
    return [drawn[index] for index in range(len(wanted))]
