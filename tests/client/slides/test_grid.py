"""Where tiles lie, and from which level they are read."""

from __future__ import annotations

import pytest

from client.slides.grid import SlideShape, TileCut, plan_grid
from client.slides.unusable import UnusableSlide
from privacy.errors import ConfigError

LEVELS = {0: 1.0, 1: 4.0, 2: 16.0}


def shape(size: tuple[int, int] = (40_000, 20_000), mpp: float = 0.25) -> SlideShape:
    return SlideShape(size, (mpp, mpp), LEVELS)


@pytest.mark.parametrize(
    ("cut", "grid"),  # columns, rows, level, region
    [
        pytest.param(TileCut(256, 0.25), (156, 78, 0, (256, 256)), id="as scanned"),
        pytest.param(TileCut(256, 0.5), (78, 39, 0, (512, 512)), id="half"),
        pytest.param(TileCut(256, 1.0), (39, 19, 1, (256, 256)), id="a level's own"),
        pytest.param(TileCut(256, 2.0), (19, 9, 1, (512, 512)), id="between levels"),
        pytest.param(TileCut(100, 0.27), (370, 185, 0, (108, 108)), id="no whole ratio"),
        pytest.param(TileCut(256, 0.23), (169, 84, 0, (236, 236)), id="slightly finer"),
    ],
)
def test_the_grid_of_a_cut(cut: TileCut, grid: tuple[object, ...]) -> None:
    found = plan_grid(shape(), cut)
    assert (found.columns, found.rows, found.level, found.region) == grid
    assert len(list(found.places())) == found.columns * found.rows
    last = found.corner(found.columns - 1, found.rows - 1)
    assert all(
        at + step <= side + 1
        for at, step, side in zip(last, found.step, (40_000, 20_000), strict=True)
    )


def test_a_tile_is_as_large_on_every_slide() -> None:
    """In micrometres: two scanners, one tissue."""
    for mpp in (0.23, 0.25, 0.499):
        found = plan_grid(shape(mpp=mpp), TileCut(256, 0.5))
        assert found.step[0] * mpp == pytest.approx(128)


def test_pixels_need_not_be_square() -> None:
    found = plan_grid(SlideShape((1000, 1000), (0.25, 0.5), {0: 1.0}), TileCut(100, 0.5))
    assert (found.step, found.region) == ((200.0, 100.0), (200, 100))


@pytest.mark.parametrize(
    ("size", "mpp", "words"),
    [
        pytest.param((40_000, 20_000), 0.5, "too coarse for --mpp 0.25", id="no such detail"),
        pytest.param((200, 20_000), 0.25, "smaller than one tile", id="too small"),
    ],
)
def test_what_has_no_grid(size: tuple[int, int], mpp: float, words: str) -> None:
    with pytest.raises(UnusableSlide, match=words):
        plan_grid(shape(size, mpp), TileCut(256, 0.25))


@pytest.mark.parametrize("cut", [(8, 0.5), (5000, 0.5), (256, 0.0), (256, -1.0), (256, 250.0)])
def test_what_is_no_cut(cut: tuple[int, float]) -> None:
    with pytest.raises(ConfigError):
        TileCut(*cut)
    with pytest.raises(ConfigError):
        TileCut(256, float("nan"))
