"""The pretraining corpus: tiles of every morphology in equal number, and captions for them.

First those in H&E, then those in other dyes, then the held-out ones, in H&E again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.lab.pretraining.recipe import Progress, Recipe
from model.lab.tissue.captions import ALL_WORDS, CaptionWords, caption, studies_showing
from model.lab.tissue.palette import Palette, draw_palettes, palette_of
from model.lab.tissue.tile import MORPHOLOGIES, draw_series

_CHUNK = 480
Draw = Callable[[int, int, int], NDArray[np.uint8]]  # of a seed: from which number, how many


@dataclass(frozen=True)
class Corpus:
    """images uint8 [n, 64, 64, 3]; labels int64 [n], indices into MORPHOLOGIES.

    The first `slides` are in H&E. palettes: the dyes of those that follow, by number.
    The last `held_out` serve only to validate judges and autoencoder.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    palettes: tuple[Palette, ...]
    held_out: int

    @property
    def slides(self) -> int:
        """Number of tiles, from the first, that training may see in H&E."""
        return self.train - len(self.palettes)

    @property
    def train(self) -> int:
        """Number of tiles, from the first, that training may see."""
        return len(self.images) - self.held_out

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """A caption for tile `index`, with its dyes where they are not H&E's."""
        text = draw_caption(int(self.labels[index]), rng)
        if not self.slides <= index < self.train:
            return text
        return self.palettes[index - self.slides].caption(text, rng)


def _draw_all(draw: Draw, seed: int, total: int, on_progress: Progress) -> NDArray[np.uint8]:
    if total <= _CHUNK:  # not worth a second process
        images = draw(seed, 0, total)
        on_progress("tiles", total, total)
        return images
    starts = range(0, total, _CHUNK)
    counts = [min(_CHUNK, total - start) for start in starts]
    images = np.empty((total, 64, 64, 3), np.uint8)
    # spawn, because a fork of a process with OpenMP threads may hang
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        chunks = pool.map(draw, [seed] * len(counts), starts, counts)
        for start, chunk in zip(starts, chunks, strict=True):
            images[start : start + len(chunk)] = chunk
            on_progress("tiles", start + len(chunk), total)
    return images


def draw_corpus(recipe: Recipe, workspace: Path, on_progress: Progress) -> Corpus:
    """Draw all tiles (in one process per core), or read them back from an earlier run."""
    total, seed, drawn = recipe.tiles + recipe.held_out, recipe.seed, recipe.tiles
    file = workspace / "tiles.npy"
    if not file.exists():
        slides = _draw_all(draw_series, seed, total, on_progress)
        dyed = _draw_all(draw_palettes, seed, recipe.palettes, on_progress)
        np.save(file, np.concatenate([slides[:drawn], dyed, slides[drawn:]]))
    numbers = [range(drawn), range(recipe.palettes), range(drawn, total)]
    labels = np.concatenate([np.asarray(part, np.int64) for part in numbers]) % len(MORPHOLOGIES)
    palettes = tuple(palette_of(seed, index) for index in range(recipe.palettes))
    return Corpus(np.load(file), labels, palettes, recipe.held_out)


def draw_caption(label: int, rng: np.random.Generator, words: CaptionWords = ALL_WORDS) -> str:
    """A caption for a tile of MORPHOLOGIES[label], of a study that shows it, in these words."""
    morphology = MORPHOLOGIES[label]
    studies = studies_showing(morphology)
    return caption(studies[int(rng.integers(len(studies)))], morphology, rng, words)


def caption_corpus(seed: int, count: int = 6000) -> list[str]:
    """Captions to train the tokenizer on."""
    rng = np.random.default_rng([seed, 1 << 32])
    plain = [draw_caption(index % len(MORPHOLOGIES), rng) for index in range(count)]
    dyed = [palette_of(seed, index).caption(plain[index], rng) for index in range(count // 3)]
    return plain + dyed
