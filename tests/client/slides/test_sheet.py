"""The contact sheet: what was kept and what was not, each at its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("openslide", reason="the extra `slides` is not installed")

from client.slides import sheet
from client.slides.filters import TileVerdict
from client.slides.grid import SlideShape, TileCut, plan_grid
from client.slides.sheet import slide_strip, write_sheets, write_strip

SIDE, GAP, TOP = sheet._SIDE, sheet._GAP, sheet._TITLE
FRAME = {
    TileVerdict.KEPT: (0, 130, 60),
    TileVerdict.PEN: (200, 30, 30),
    TileVerdict.NO_TISSUE: (140, 140, 140),
}


def colour_of(place: tuple[int, int]) -> tuple[int, int, int]:
    return (20 * place[0], 60 * place[1], 255)


class Plain:
    """A slide of which every place has a colour of its own."""

    def region(self, grid: Any, place: tuple[int, int]) -> Image.Image:
        return Image.new("RGB", (64, 64), colour_of(place))


def strip_of(verdicts: Mapping[tuple[int, int], TileVerdict]) -> Image.Image:
    """The strip of a slide of 10 x 4 tiles."""
    grid = plan_grid(SlideShape((640, 256), (0.5, 0.5), {0: 1.0}), TileCut(64, 0.5))
    overview = Image.new("RGB", (320, 128), (255, 200, 200))
    parts: Any = SimpleNamespace(slide=Plain(), grid=grid, overview=overview)
    decided = {place: SimpleNamespace(verdict=verdict) for place, verdict in verdicts.items()}
    journal: Any = SimpleNamespace(decided=decided)
    return slide_strip("slide-1", parts, journal)


def test_a_strip_shows_a_few_tiles_of_each_kind_side_by_side() -> None:
    kept = {(column, 0): TileVerdict.KEPT for column in range(8)}
    glass = {(column, 1): TileVerdict.NO_TISSUE for column in range(3)}
    pen = {(column, 2): TileVerdict.PEN for column in range(5)}
    strip = strip_of({**pen, **glass, **kept})
    shown = [(column, 0) for column in (0, 2, 3, 4, 6, 7)]  # spread evenly over all eight
    shown += [(0, 1), (2, 1), (1, 2), (3, 2)]
    assert strip.width == GAP + (1 + len(shown)) * (SIDE + GAP)
    for number, place in enumerate(shown, start=1):
        left = GAP + number * (SIDE + GAP)
        assert strip.getpixel((left + SIDE // 2, TOP + SIDE // 2)) == colour_of(place)
        for x, y in ((left, TOP), (left + SIDE - 1, TOP + SIDE - 1)):
            assert strip.getpixel((x, y)) == FRAME[{**pen, **glass, **kept}[place]]
        for x in (left - 1, left + SIDE):
            assert strip.getpixel((x, TOP)) == (255, 255, 255)


def test_the_overview_marks_what_was_kept_where_it_lies() -> None:
    strip = strip_of({(9, 3): TileVerdict.KEPT, (0, 0): TileVerdict.NO_TISSUE})
    seen = strip.crop((GAP, TOP, GAP + SIDE, TOP + SIDE * 128 // 320))
    green = [
        (x, y)
        for x in range(seen.width)
        for y in range(seen.height)
        if seen.getpixel((x, y)) == FRAME[TileVerdict.KEPT]
    ]
    assert min(green) == (seen.width * 9 // 10, seen.height * 3 // 4)
    assert max(green) == (seen.width - 1, seen.height - 1)


def test_sheets_have_forty_strips_each_in_order_and_replace_older_ones(tmp_path: Path) -> None:
    strip = strip_of({(0, 0): TileVerdict.KEPT})
    paths = []
    for number in range(42):
        paths.append(tmp_path / f"{number}.png")
        if number != 3:  # a slide that gave no tiles has none
            write_strip(paths[-1], Image.new("RGB", strip.size, (number, 0, 200)))
    (tmp_path / "contact-sheet-7.png").write_bytes(b"of an earlier run")
    sheets = write_sheets(tmp_path, paths)
    assert [path.name for path in sheets] == ["contact-sheet-1.png", "contact-sheet-2.png"]
    assert sorted(tmp_path.glob("contact-sheet-*")) == sheets
    wanted = [number for number in range(42) if number != 3]
    for path, numbers in zip(sheets, (wanted[:40], wanted[40:]), strict=True):
        with Image.open(path) as page:
            legend = page.height - len(numbers) * strip.height
            for row, number in enumerate(numbers):
                middle = legend + row * strip.height + strip.height // 2
                assert page.getpixel((5, middle)) == (number, 0, 200)
