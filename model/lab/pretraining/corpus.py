"""The pretraining corpus: tiles of every morphology in equal number, and captions for them."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.lab.pretraining.recipe import Progress, Recipe
from model.lab.tissue.captions import caption, studies_showing
from model.lab.tissue.tile import MORPHOLOGIES, draw_series

_CHUNK = 480


@dataclass(frozen=True)
class Corpus:
    """images uint8 [n, 64, 64, 3]; labels int64 [n], indices into MORPHOLOGIES.

    The last `held_out` of them serve only to validate judges and autoencoder.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    held_out: int

    @property
    def train(self) -> int:
        """Number of tiles, from the first, that training may see."""
        return len(self.images) - self.held_out


def _draw_all(seed: int, total: int, on_progress: Progress) -> NDArray[np.uint8]:
    if total <= _CHUNK:  # not worth a second process
        images = draw_series(seed, 0, total)
        on_progress("tiles", total, total)
        return images
    starts = range(0, total, _CHUNK)
    counts = [min(_CHUNK, total - start) for start in starts]
    images = np.empty((total, 64, 64, 3), np.uint8)
    # spawn, because a fork of a process with OpenMP threads may hang
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        chunks = pool.map(draw_series, [seed] * len(counts), starts, counts)
        for start, chunk in zip(starts, chunks, strict=True):
            images[start : start + len(chunk)] = chunk
            on_progress("tiles", start + len(chunk), total)
    return images


def draw_corpus(recipe: Recipe, workspace: Path, on_progress: Progress) -> Corpus:
    """Draw all tiles (in one process per core), or read them back from an earlier run."""
    total = recipe.tiles + recipe.held_out
    file = workspace / "tiles.npy"
    if not file.exists():
        np.save(file, _draw_all(recipe.seed, total, on_progress))
    labels = np.arange(total, dtype=np.int64) % len(MORPHOLOGIES)
    return Corpus(np.load(file), labels, recipe.held_out)


def draw_caption(label: int, rng: np.random.Generator) -> str:
    """A caption for a tile of MORPHOLOGIES[label], of a study that shows it."""
    morphology = MORPHOLOGIES[label]
    studies = studies_showing(morphology)
    return caption(studies[int(rng.integers(len(studies)))], morphology, rng)


def caption_corpus(seed: int, count: int = 6000) -> list[str]:
    """Captions to train the tokenizer on."""
    rng = np.random.default_rng([seed, 1 << 32])
    return [draw_caption(index % len(MORPHOLOGIES), rng) for index in range(count)]
