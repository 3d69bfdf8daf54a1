"""A whole slide, opened with OpenSlide: its pixels and their size, and nothing else.

Slides carry photographs of their label, with the patient's name or number, and of the whole glass,
label included; OpenSlide keeps both apart from the specimen's pyramid as associated images. Nothing
here reads an associated image, or a property other than resolution, objective, the size of the
file's blocks and the colour of empty places.
"""

# Why: docs/adr/0052-from-slides-to-tiles.md

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import openslide
from PIL import Image

from client.slides.grid import SlideShape, TileGrid, coarsest, contradicts, plausible
from client.slides.shrinking import shrunk
from client.slides.unusable import UnusableSlide
from model.file_kinds import file_kind, first_bytes
from privacy.closing import Closing

_BLOCK: Final = 1024  # pixels of a level, a side, that are read at once for the overview
# Pixels of a slide that is kept once it was read: OpenSlide lays its blocks over each other pixel
# by pixel, which takes longer than to decode them, every time.
_SMALL: Final = 4096 * 4096
_ROUNDED: Final = 0.01
_HEX: Final = re.compile(r"[0-9A-Fa-f]{6}")


def _unknown_slide(path: Path) -> str:
    """What is wrong with a file that OpenSlide does not know, by its first bytes."""
    words = "not a slide that OpenSlide knows"
    try:
        kind = file_kind(first_bytes(path))
    except OSError:
        kind = ""
    if "git-lfs" in kind or kind == "encrypted":
        return f"{words}: {kind}"
    found = kind or "a plain picture, or a file that was cut off"
    return f"{words}: {found}; copy it again, or export it as SVS or as a tiled TIFF"


def _unopened(said: str) -> str:
    """Why OpenSlide does not open a slide that it knows, by what it says."""
    if "compression" in said:
        return (
            "its pictures are packed in a way that OpenSlide does not read; export it as SVS or as "
            "a tiled TIFF, packed with JPEG, LZW or deflate"
        )
    return "it cannot be opened: damaged, or not all of it is here"


class WholeSlide(Closing):
    """The specimen of a slide file. Every method raises `UnusableSlide`.

    After one of them has failed, OpenSlide answers nothing more of this slide.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError:
            raise UnusableSlide(_unknown_slide(path)) from None
        except (openslide.OpenSlideError, OSError) as error:
            raise UnusableSlide(_unopened(str(error))) from None
        self._levels = _whole_levels(self._slide.level_dimensions)
        self._kept: Image.Image | None = None  # level 0, of a small slide without a pyramid

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def shape(self, otherwise: float | None) -> SlideShape:
        """Size and resolution; `otherwise` (micrometres a pixel) where the file does not say it."""
        return SlideShape(self._slide.dimensions, self._resolution(otherwise), self._levels)

    def region(self, grid: TileGrid, place: tuple[int, int]) -> Image.Image:
        """What the tile at (column, row) is made of: RGB, of the size `grid.region`."""
        kept = self._kept_part(grid, place)
        return kept or self._read(grid.corner(*place), grid.level, grid.region)

    def overview(self, most: int) -> Image.Image:
        """The specimen in small, RGB, its longer side at most `most` pixels; read in blocks."""
        width, height = self._slide.dimensions
        shrink = max(1.0, max(width, height) / most)
        level = coarsest(self._levels, shrink)
        scale = self._levels[level]
        seen = Image.new(
            "RGB", (max(1, round(width / shrink)), max(1, round(height / shrink))), "white"
        )
        across, down = self._slide.level_dimensions[level]
        if level == 0 and across * down <= _SMALL:
            self._kept = Image.new("RGB", (across, down))
        wide, high = self._block(level)
        for top in range(0, down, high):
            for left in range(0, across, wide):
                size = (min(wide, across - left), min(high, down - top))
                block = self._read((round(left * scale), round(top * scale)), level, size)
                if self._kept is not None:
                    self._kept.paste(block, (left, top))
                corners = [round(at * scale / shrink) for at in (left, top)]
                ends = [
                    round((at + side) * scale / shrink)
                    for at, side in zip((left, top), size, strict=True)
                ]
                small = (max(1, ends[0] - corners[0]), max(1, ends[1] - corners[1]))
                seen.paste(shrunk(block, small), (corners[0], corners[1]))
        return seen

    def _block(self, level: int) -> tuple[int, int]:
        """Width and height of whole blocks of the file, of which none is then drawn in parts."""
        names = (f"openslide.level[{level}].tile-{side}" for side in ("width", "height"))
        sides = (int(_number(self._slide.properties.get(name, ""))) for name in names)
        wide, high = (_BLOCK // max(1, side) * side or _BLOCK for side in sides)
        return wide, high

    def _kept_part(self, grid: TileGrid, place: tuple[int, int]) -> Image.Image | None:
        """The same pixels that `_read` would give, where they are here."""
        (left, top), (across, down) = grid.corner(*place), grid.region
        if self._kept is None or grid.level != 0:
            return None
        if left + across > self._kept.width or top + down > self._kept.height:
            return None  # by a pixel, from rounding
        return self._kept.crop((left, top, left + across, top + down))

    def _read(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        try:
            read = self._slide.read_region(corner, level, size)
        except openslide.OpenSlideError:
            raise UnusableSlide("a part of it cannot be read: damaged or cut off") from None
        if np.asarray(read.getchannel("A")).min() == 255:
            return read.convert("RGB")
        empty = Image.new("RGBA", size, self._empty())
        return Image.alpha_composite(empty, read).convert("RGB")

    def _empty(self) -> str:
        """The colour of places that were not scanned: white, unless the file names another."""
        colour = self._slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "")
        return f"#{colour}" if _HEX.fullmatch(colour) else "#ffffff"

    def _resolution(self, otherwise: float | None) -> tuple[float, float]:
        names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        found = [_number(self._slide.properties.get(name, "")) for name in names]
        if all(plausible(mpp) for mpp in found):
            return found[0], found[1]
        power = _number(self._slide.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER, ""))
        if otherwise is None:
            raise UnusableSlide(_unscaled(power))
        if contradicts(power, otherwise):
            raise UnusableSlide(
                f"it says only that its objective is {power:g}x, which is about {10 / power:.2g} "
                f"micrometres a pixel, and --slide-mpp is {otherwise:g}; cut such slides from a "
                "table of their own, with their own --slide-mpp"
            )
        return otherwise, otherwise


def _whole_levels(sizes: Sequence[tuple[int, int]]) -> dict[int, float]:
    """The downsample of every level that has the shape of the first.

    A label that a converter has stored in tiles, as a reduced picture, looks like a level.
    """
    width, height = sizes[0]
    found = {}
    for level, (across, down) in enumerate(sizes):
        by = (width / across, height / down)
        # A pixel more or less, and what rounding at every level adds up to.
        off = abs(by[0] - by[1]) / max(by)
        if off <= _ROUNDED + 2 / min(across, down):
            found[level] = (by[0] + by[1]) / 2
    return found


def _unscaled(power: float) -> str:
    """That a slide does not say its resolution, and what to do; with its objective, if it has."""
    said = f" (only that its objective is {power:g}x)" if power > 0 else ""
    return (
        f"it does not say how many micrometres a pixel has{said}, or says what no scanner has; "
        "give them, for all such slides: --slide-mpp 0.25 for a 40x objective, 0.5 for 20x"
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
