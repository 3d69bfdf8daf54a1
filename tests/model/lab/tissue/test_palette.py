"""Other dyes than H&E's: named by colour, never a protocol of the domain."""

from __future__ import annotations

import numpy as np
import pytest

from model.lab.tissue.domain import STAINS
from model.lab.tissue.palette import DYES, Palette, draw_palettes, is_protocol, palette_of


def test_no_palette_is_a_protocol_and_every_protocol_is_recognised() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        appearance = Palette.draw(rng).appearance
        assert not is_protocol(appearance.nuclear, appearance.ground)
    assert all(is_protocol(s.appearance.nuclear, s.appearance.ground) for s in STAINS)


def test_words_are_dyes_and_strengths_and_no_protocols_name() -> None:
    rng = np.random.default_rng(1)
    palettes = [Palette.draw(rng) for _ in range(200)]
    texts = [palette.caption("H&E section of bone, stroma.", rng) for palette in palettes]
    assert not any(stain.words in text or "H&E" in text for stain in STAINS for text in texts)
    for palette in palettes:
        dye, strength = palette.nuclei.split()[-1], palette.appearance.haematoxylin
        assert palette.appearance.nuclear == DYES[dye]
        word = "faint" if strength < 1 else "deep" if strength > 2 else dye
        assert palette.nuclei.split()[0] == word
    assert len({palette.ground.split()[-1] for palette in palettes}) == len(DYES)


@pytest.mark.parametrize("start", [0, 5])
def test_the_series_has_no_beginning(start: int) -> None:
    assert np.array_equal(draw_palettes(4, start, 3), draw_palettes(4, 0, 8)[start : start + 3])


def test_a_tile_is_drawn_in_the_palette_of_its_number() -> None:
    tiles = draw_palettes(9, 0, 24)
    deep = [n for n in range(24) if palette_of(9, n).ground.startswith("deep")]
    faint = [n for n in range(24) if palette_of(9, n).ground.startswith("faint")]
    assert tiles[deep].mean() < tiles[faint].mean() - 10  # grey levels
