"""What is tissue, what is glass, what is pen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.data import read_tile
from client.slides.filters import TileRules, TileShares, TileVerdict, coloured, tile_shares
from privacy.errors import ConfigError

SHARED = Path(__file__).parents[4] / "shared" / "data"
DEFAULTS = TileRules(tissue=0.4, pen=0.05)


def plain(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((8, 8, 3), colour, np.uint8)


@pytest.mark.parametrize(
    ("colour", "tissue", "pen"),
    [
        pytest.param((255, 255, 255), 0, 0, id="white"),
        pytest.param((230, 233, 231), 0, 0, id="glass"),
        pytest.param((150, 152, 151), 0, 0, id="grey dust"),
        pytest.param((214, 130, 176), 1, 0, id="eosin"),
        pytest.param((92, 60, 140), 1, 0, id="haematoxylin"),
        pytest.param((190, 40, 90), 1, 0, id="red blood cells"),
        pytest.param((140, 100, 60), 1, 0, id="DAB, brown"),
        pytest.param((30, 140, 110), 0, 1, id="green pen"),
        pytest.param((30, 90, 180), 0, 1, id="blue pen"),
        pytest.param((220, 20, 25), 0, 1, id="red pen"),
        pytest.param((25, 25, 28), 0, 1, id="black pen"),
        pytest.param((120, 200, 120), 0, 1, id="light green pen"),
        pytest.param((60, 190, 190), 0, 1, id="turquoise pen"),
        pytest.param((0, 0, 0), 0, 1, id="border of a scan"),
        pytest.param((240, 238, 215), 0, 0, id="yellowish glass"),
        pytest.param((205, 203, 208), 0, 0, id="dim glass"),
        pytest.param((225, 225, 222), 0, 0, id="air bubble"),
        pytest.param((225, 210, 190), 1, 0, id="DAB, faint"),
        pytest.param((190, 196, 220), 1, 0, id="haematoxylin, faint"),
        pytest.param((220, 170, 195), 1, 0, id="necrosis"),
        pytest.param((90, 120, 190), 1, 0, id="trichrome, blue"),
        # What docs/slides.md says that no filter of colours can tell.
        pytest.param((80, 20, 120), 1, 0, id="violet pen"),
        pytest.param((30, 30, 70), 1, 0, id="navy pen"),
        pytest.param((250, 150, 50), 1, 0, id="orange pen"),
        pytest.param((250, 240, 80), 1, 0, id="yellow pen"),
        pytest.param((208, 69, 76), 0, 1, id="fresh blood"),
        pytest.param((30, 28, 30), 0, 1, id="carbon"),
        pytest.param((215, 210, 225), 0, 0, id="very faint"),
    ],
)
def test_a_colour_is_tissue_pen_or_neither(
    colour: tuple[int, int, int], tissue: float, pen: float
) -> None:
    assert tile_shares(plain(colour)) == TileShares(tissue, pen)
    assert coloured(plain(colour)).mean() == max(tissue, pen)


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        (TileShares(0.4, 0.05), TileVerdict.KEPT),
        (TileShares(0.39, 0.0), TileVerdict.NO_TISSUE),
        (TileShares(0.9, 0.051), TileVerdict.PEN),
        (TileShares(0.0, 0.9), TileVerdict.PEN),
    ],
)
def test_the_rules_are_bounds(shares: TileShares, verdict: TileVerdict) -> None:
    assert DEFAULTS.verdict(shares) is verdict


@pytest.mark.parametrize("wrong", [{"tissue": 1.1, "pen": 0}, {"tissue": 0.5, "pen": -0.1}])
def test_a_share_is_between_0_and_1(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="share of a tile"):
        TileRules(**wrong)


FIXTURES = {
    "almost-white-1": TileVerdict.NO_TISSUE,
    "no-tissue": TileVerdict.NO_TISSUE,
    "no-tissue2": TileVerdict.NO_TISSUE,
    "no-tissue-green-pen": TileVerdict.PEN,
    "no-tissue-red-pen": TileVerdict.PEN,
    "tcga-green-pen": TileVerdict.PEN,
    "tcga-red-pen": TileVerdict.PEN,
    "high-nuclei-score-level0": TileVerdict.KEPT,
    "medium-nuclei-score-level0": TileVerdict.KEPT,
    "low-nuclei-score-level0": TileVerdict.NO_TISSUE,  # fat: a sixth is tissue
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real tiles (../shared/data) are not here")
@pytest.mark.parametrize(("name", "verdict"), FIXTURES.items(), ids=FIXTURES)
def test_real_tiles_are_told_apart(name: str, verdict: TileVerdict) -> None:
    tile = read_tile(SHARED / "slides" / "fixtures" / f"{name}.png", 512)
    assert DEFAULTS.verdict(tile_shares(tile)) is verdict


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real tiles (../shared/data) are not here")
@pytest.mark.parametrize("site", ["site-1", "site-2", "site-3"])
def test_no_stain_of_three_hospitals_is_taken_for_a_pen(site: str) -> None:
    pictures = sorted((SHARED / "sites" / site).rglob("*.[jt][pi][gf]"))[::6]
    assert len(pictures) > 10
    for path in pictures:
        assert tile_shares(read_tile(path, 128)).pen <= DEFAULTS.pen, path.name
