"""Pictures laid out for people to compare: a row for each prompt, a column for each model."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from privacy.errors import ModelError

_MARGIN, _CELL, _HEAD, _TEXT_WIDTH = 8, 192, 28, 232
_INK, _PAPER = (32, 32, 40), (255, 255, 255)
_MARK = "Synthetic: no patients"


@dataclass(frozen=True)
class Column:
    """A labelled column of a grid: one image per row."""

    label: str
    images: Sequence[Image.Image]


def _enlarged(image: Image.Image) -> Image.Image:
    """The image scaled to a cell; small ones by whole factors, so every pixel stays visible."""
    factor = max(1, _CELL // max(image.size))
    whole = image.convert("RGB").resize(
        (image.width * factor, image.height * factor), Image.Resampling.NEAREST
    )
    whole.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    return whole


def grid(columns: Sequence[Column], prompts: Sequence[str]) -> Image.Image:
    """One row per prompt, with the prompt on its left, and one column with a heading per `Column`.

    The corner says that the pictures are synthetic. Raises `ModelError` unless each column has one
    image per prompt.
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
    draw.text((_MARGIN, 6), _MARK, fill=_INK, font=heading)
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
