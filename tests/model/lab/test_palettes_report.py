"""The report on stains: what the autoencoder gives back, and whether samples have their dyes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.base import Pipeline, load_base
from model.lab.pretraining import palettes
from model.lab.tissue.domain import STAINS
from model.lab.tissue.palette import Palette

TINY = Path(__file__).parents[3] / "weights" / "tiny"
needs_weights = pytest.mark.skipif(not TINY.is_dir(), reason="weights/tiny is not checked out")


@needs_weights
@pytest.mark.parametrize(("change", "error"), [(0, 0.0), (20, 20.0)])
def test_fidelity_is_what_the_reconstruction_changes(
    monkeypatch: pytest.MonkeyPatch, change: int, error: float
) -> None:
    def through(vae: object, images: np.ndarray) -> np.ndarray:
        del vae
        return np.where(images < 128, images + change, images - change).astype(np.uint8)

    monkeypatch.setattr(palettes, "reconstruct", through)
    rows = palettes.fidelity(load_base(TINY), patients=2)
    assert [row.protocol for row in rows] == ["H&E", *(stain.name for stain in STAINS)]
    assert all(row.n == 2 and row.error == pytest.approx(error) for row in rows)
    assert all(row.shift <= error and row.between > 5 for row in rows)


def _sampled(monkeypatch: pytest.MonkeyPatch, *, obeying: bool) -> palettes.DyeObedience:
    """Samples of a base that draws each caption's ground, or that of the caption after it."""

    class Tile:
        def __init__(self, grey: int) -> None:
            self.grey = grey

        def convert(self, mode: str) -> np.ndarray:
            del mode
            return np.full((64, 64, 3), self.grey, np.uint8)

    greys = iter(range(0, 240, 20))
    drawn: list[int] = []

    def draw_tile(*given: object) -> object:
        del given
        drawn.append(next(greys))
        return type("Drawn", (), {"image": np.full((64, 64, 3), drawn[-1], np.uint8)})

    def sample(pipeline: Pipeline, prompts: list[str], seeds: list[int]) -> list[Tile]:
        del pipeline
        assert len(prompts) == len(seeds) == len(set(seeds))
        return [Tile(grey) for grey in (drawn if obeying else drawn[::-1])]

    monkeypatch.setattr(palettes, "draw_tile", draw_tile)
    monkeypatch.setattr(palettes, "sample", sample)
    figures, pairs = palettes.obedience(None, captions=12)
    assert pairs.shape == (12, 64, 128, 3)
    assert palettes.palette_sheet(pairs).size == (6 * 132 * 2, 2 * 68 * 2)
    return figures


def test_samples_in_their_dyes_are_nearer_to_their_own_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = _sampled(monkeypatch, obeying=True)
    assert (figures.n, figures.own) == (12, 0.0) and figures.low > 10


def test_samples_in_other_dyes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = _sampled(monkeypatch, obeying=False)
    assert figures.own > 100 and figures.low < 0


def test_prompts_name_dyes() -> None:
    palette = Palette.draw(np.random.default_rng(0))
    assert palette.nuclei in palette.caption("x", np.random.default_rng(0))
