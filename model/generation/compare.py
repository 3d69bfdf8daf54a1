"""What an adapter changes: the same prompts and seeds, without it and with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from model.base import Pipeline
from model.generation.adapter import check_adapter, put_adapter
from model.generation.grid import Column, grid
from model.sampling import DEFAULT_GUIDANCE, DEFAULT_STEPS, sample


@dataclass(frozen=True)
class GridRequest:
    """What to draw: every prompt with every seed."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE


def compare_adapter(
    pipeline: Pipeline, adapter: Path | None, comparison: GridRequest, base: str | None = None
) -> Image.Image:
    """A grid with a row for every prompt and seed: of the base alone, or before and after.

    The adapter stays on the pipeline. `base`: the pipeline's digest, if known. Raises `ModelError`
    for a file that is not an adapter of this base.
    """
    if adapter is not None:
        check_adapter(pipeline, adapter, base)
    distinct = tuple(dict.fromkeys(comparison.seeds))
    prompts = [prompt for prompt in comparison.prompts for _ in distinct]
    seeds = distinct * len(comparison.prompts)

    def draw() -> list[Image.Image]:
        return sample(
            pipeline, prompts, seeds, steps=comparison.steps, guidance=comparison.guidance
        )

    return grid(before_and_after(pipeline, adapter, draw), prompts)


def before_and_after(
    pipeline: Pipeline, adapter: Path | None, draw: Callable[[], Sequence[Image.Image]]
) -> list[Column]:
    """What `draw` returns without the adapter and, where there is one, with it.

    `check_adapter` was called before. The adapter stays on the pipeline.
    """
    if adapter is None:
        return [Column("base", draw())]
    before = Column("before", draw())
    put_adapter(pipeline, adapter)
    return [before, Column("after", draw())]
