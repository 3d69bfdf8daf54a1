"""Overview, packing and shrinking of what was read of a slide."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("openslide", reason="the extra `slides` is not installed")

from client.slides.cutting import candidates
from client.slides.filters import coloured
from client.slides.grid import SlideShape, TileCut, TileGrid, plan_grid
from client.slides.png import lossless_png
from client.slides.shrinking import averaged, sharpest
from tests.client.slides.making import GLASS, PINK, specimen

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (256, 1), (64, 48), (300, 200)])
def test_a_png_holds_the_same_pixels(size: tuple[int, int]) -> None:
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)
    with Image.open(io.BytesIO(lossless_png(Image.fromarray(pixels)))) as opened:
        assert (opened.format, opened.mode, opened.size) == ("PNG", "RGB", size)
        opened.load()
        assert np.array_equal(np.asarray(opened), pixels)


def test_a_png_of_tissue_is_packed() -> None:
    picture = Image.fromarray(specimen(256))
    assert len(lossless_png(picture)) < 256 * 256 * 3 / 8


def by_hand(grid: TileGrid, overview: np.ndarray) -> Iterator[tuple[int, int]]:
    """Each place's part of the overview, one after the other."""
    down, across = (
        side / of for side, of in zip(overview.shape[:2], grid.slide[::-1], strict=True)
    )
    for place in grid.places():
        left, top = grid.corner(*place)
        first = (int(top * down), int(left * across))
        last = (int((top + grid.step[1]) * down), int((left + grid.step[0]) * across))
        part = overview[
            first[0] : max(first[0] + 1, last[0]), first[1] : max(first[1] + 1, last[1])
        ]
        if coloured(part).mean() >= 0.01:
            yield place


@pytest.mark.parametrize("size", [(1100, 1030), (5000, 4990), (9000, 7000)])
@pytest.mark.parametrize("cut", [TileCut(100, 0.7), TileCut(256, 2.0)])
def test_candidates_are_the_places_with_colour(size: tuple[int, int], cut: TileCut) -> None:
    grid = plan_grid(SlideShape(size, (0.5, 0.5), {0: 1.0}), cut)
    shrink = max(size) / 320
    overview = np.full((round(size[1] / shrink), round(size[0] / shrink), 3), GLASS, np.uint8)
    overview[RNG.random(overview.shape[:2]) < 0.02] = PINK
    overview[40:90, 60:100] = PINK
    assert candidates(grid, overview) == list(by_hand(grid, overview))


def test_what_is_judged_has_the_colours_of_what_is_kept() -> None:
    region = Image.fromarray(specimen(516))
    kept, judged = sharpest(region, 256), averaged(region, 256)
    assert kept.size == judged.size == (256, 256)
    pixels = (np.asarray(kept).astype(int), np.asarray(judged).astype(int))
    assert np.abs(pixels[0].mean((0, 1)) - pixels[1].mean((0, 1))).max() < 0.5
