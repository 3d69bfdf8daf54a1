"""Synthetic encoded tiles, and a seeded stand-in for the site's cryptographic source."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from client.training import EncodedTiles
from privacy.config import check
from privacy.study.manifest import Study


class SeededNoise:
    """A repeatable `NoiseSource`. For tests only: it protects nobody."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def uniform(self, n: int) -> Any:
        return self._random.random(n)


def make_tiles(patients: int, *, most: int = 3, seed: int = 0, side: int = 8) -> EncodedTiles:
    """1 to `most` tiles a patient, with a shift of the latents that an adapter can learn.

    Latents of half the tiny base's side, 16: attention over them takes a sixteenth of the time.
    """
    random = np.random.default_rng(seed)
    owners = np.repeat(np.arange(patients), random.integers(1, most + 1, patients))
    latents = random.normal(scale=0.3, size=(len(owners), 4, side, side)) + 1.5
    return EncodedTiles(
        latents=torch.tensor(latents, dtype=torch.float32),
        text=torch.tensor(random.normal(size=(3, 16, 32)), dtype=torch.float32),
        caption_of=torch.tensor(random.integers(0, 3, len(owners))),
        patient_of=torch.tensor(owners),
    )


def changed(study: Study, **training: Any) -> Study:
    """`study` with other values in its `[training]`."""
    values = study.model_dump(mode="json")
    values["training"] |= training
    return check(values, Study, where="test")
