"""One tile of tissue: a morphology drawn in an appearance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model.lab.tissue import epithelium, matrix
from model.lab.tissue.appearance import Appearance
from model.lab.tissue.canvas import Canvas
from privacy.errors import ModelError

_PAINTERS: MappingProxyType[str, Callable[[Canvas], None]] = MappingProxyType(
    {
        "glands": epithelium.glands,
        "cribriform": epithelium.cribriform,
        "papillary": epithelium.papillary,
        "solid_nests": epithelium.solid_nests,
        "spindle_cells": matrix.spindle_cells,
        "single_files": epithelium.single_files,
        "lymphoid": matrix.lymphoid,
        "necrosis": matrix.necrosis,
        "mucin": matrix.mucin,
        "fat": matrix.fat,
        "keratin": epithelium.keratin,
        "stroma": matrix.stroma,
    }
)
MORPHOLOGIES: tuple[str, ...] = tuple(_PAINTERS)


@dataclass(frozen=True)
class Tile:
    """image uint8 [64, 64, 3]; mask uint16 [64, 64], 0 background, each nucleus its own number."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint16]


def draw_tile(morphology: str, appearance: Appearance, rng: np.random.Generator) -> Tile:
    """Draw one tile; equal arguments and generator state give equal bytes.

    Raises ModelError for a morphology that is not in MORPHOLOGIES.
    """
    painter = _PAINTERS.get(morphology)
    if painter is None:
        raise ModelError(
            f"Unknown morphology {morphology!r}.", f"Choose one of {', '.join(MORPHOLOGIES)}."
        )
    canvas = Canvas(rng)
    painter(canvas)
    return Tile(appearance.render(canvas.stains, rng), canvas.mask)


def draw_series(seed: int, start: int, count: int) -> NDArray[np.uint8]:
    """Images [count, 64, 64, 3], from number `start` on of the endless series of `seed`.

    The k-th shows MORPHOLOGIES[k % 12] in an appearance of the pretraining range. It is
    here and not with the pretraining so that a process that only draws imports no torch.
    """
    images = []
    for index in range(start, start + count):
        rng = np.random.default_rng([seed, index])
        morphology = MORPHOLOGIES[index % len(MORPHOLOGIES)]
        images.append(draw_tile(morphology, Appearance.draw(rng), rng).image)
    return np.stack(images)
