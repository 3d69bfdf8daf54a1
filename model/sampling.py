"""Sample any Stable-Diffusion-shaped pipeline, and lay samples out for people to compare."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from model.adapters import attach, detach, load_adapter
from model.base import Pipeline
from privacy.errors import ModelError

DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 3.0
_BATCH = 16
_MARGIN, _CELL, _HEAD, _TEXT_WIDTH = 8, 192, 28, 232
_INK, _PAPER = (32, 32, 40), (255, 255, 255)


@dataclass(frozen=True)
class Pictures:
    """What to draw: every prompt with every seed."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE


def sample(
    pipeline: Pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = DEFAULT_STEPS,
    guidance: float = DEFAULT_GUIDANCE,
    size: int | None = None,
) -> list[Image.Image]:
    """One image per prompt and seed; size in pixels, the pipeline's own if None.

    Each image has its own generator (on the CPU, so that a GPU draws the same noise): a seed gives
    the same image whatever else is in the batch, but for rounding of the arithmetic.
    Raises ModelError if prompts and seeds differ in number.
    """
    if len(prompts) != len(seeds):
        raise ModelError(
            f"{len(prompts)} prompts but {len(seeds)} seeds.", "Give each prompt one seed."
        )
    pipeline.set_progress_bar_config(disable=True)
    images: list[Image.Image] = []
    for start in range(0, len(prompts), _BATCH):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + _BATCH]]
        with torch.no_grad():
            output = pipeline(
                prompt=list(prompts[start : start + _BATCH]),
                generator=generators,
                num_inference_steps=steps,
                guidance_scale=guidance,
                height=size,
                width=size,
            )
        images += output.images
    return images


def compare_adapter(
    pipeline: Pipeline,
    adapter: Path | None,
    pictures: Pictures,
) -> Image.Image:
    """Every prompt with every seed: of the base alone, or before and after with `adapter`.

    The adapter is read from its file as anybody would read it, by `load_lora_weights`, and stays
    on the pipeline. Raises ModelError for a file that is no adapter of this base.
    """
    prompts = [prompt for prompt in pictures.prompts for _ in pictures.seeds]
    seeds = [seed for _ in pictures.prompts for seed in pictures.seeds]

    def draw() -> list[Image.Image]:
        return sample(pipeline, prompts, seeds, steps=pictures.steps, guidance=pictures.guidance)

    before = draw()
    if adapter is None:
        return grid([Column("base", before)], prompts)
    _check_fits(pipeline, adapter)
    pipeline.load_lora_weights(str(adapter.parent), weight_name=adapter.name)
    return before_after_grid(prompts, before, draw())


def _check_fits(pipeline: Pipeline, adapter: Path) -> None:
    """Refuse what `load_lora_weights` would skip with a warning, or fail on without words."""
    saved = load_adapter(adapter)
    wanted = attach(pipeline.unet, saved.adapter)
    detach(pipeline.unet)
    if wanted.fingerprint() != saved.layout.fingerprint():
        raise ModelError(
            f"{adapter} was trained on another base.", "Name its own base (craftsfl: --base)."
        )


@dataclass(frozen=True)
class Column:
    """A labelled column of a grid: one image per row."""

    label: str
    images: Sequence[Image.Image]


def _enlarged(image: Image.Image) -> Image.Image:
    """The image in a cell; small ones by whole factors, so that every pixel stays visible."""
    factor = max(1, _CELL // max(image.size))
    whole = image.convert("RGB").resize(
        (image.width * factor, image.height * factor), Image.Resampling.NEAREST
    )
    whole.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    return whole


def grid(columns: Sequence[Column], prompts: Sequence[str]) -> Image.Image:
    """A picture: one row per prompt, which stands at its left, and one headed column per Column.

    Raises ModelError if a column has not one image per prompt.
    """
    for column in columns:
        if len(column.images) != len(prompts):
            raise ModelError(
                f"Column {column.label!r} has {len(column.images)} images for "
                f"{len(prompts)} prompts.",
                "Give each column one image per prompt.",
            )
    width = _TEXT_WIDTH + len(columns) * (_CELL + _MARGIN) + 2 * _MARGIN
    height = _HEAD + len(prompts) * (_CELL + _MARGIN) + _MARGIN
    picture = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(picture)
    heading, text = ImageFont.load_default(15), ImageFont.load_default(14)
    for row, prompt in enumerate(prompts):
        lines = "\n".join(textwrap.wrap(prompt, 30))
        draw.multiline_text(
            (_MARGIN, _HEAD + row * (_CELL + _MARGIN) + _MARGIN), lines, fill=_INK, font=text
        )
    for position, column in enumerate(columns):
        left = _TEXT_WIDTH + _MARGIN + position * (_CELL + _MARGIN)
        draw.text((left, 6), column.label, fill=_INK, font=heading)
        for row, image in enumerate(column.images):
            picture.paste(_enlarged(image), (left, _HEAD + row * (_CELL + _MARGIN)))
    return picture


def before_after_grid(
    prompts: Sequence[str],
    before: Sequence[Image.Image],
    after: Sequence[Image.Image],
    *,
    labels: tuple[str, str] = ("before", "after"),
) -> Image.Image:
    """Samples of the same prompts and seeds side by side, without and with the adapter."""
    return grid([Column(labels[0], before), Column(labels[1], after)], prompts)
