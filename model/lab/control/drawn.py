"""Drawn tissue with its masks, and what a fluorescence microscope might see of the same nuclei."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from model.lab.control.markers import simulated_marker
from model.lab.control.nuclear_mask import NuclearMask
from model.lab.control.pairs import Pair
from model.lab.tissue.appearance import Appearance
from model.lab.tissue.canvas import SIZE, Canvas, separated
from model.lab.tissue.captions import caption, studies_showing
from model.lab.tissue.tile import MORPHOLOGIES, draw_tile

_HOSTS = ("solid_nests", "lymphoid", "single_files", "stroma", "spindle_cells", "glands")


def draw_pairs(seed: int, count: int, *, free_share: float) -> Iterator[Pair]:
    """`count` tiles: every morphology in turn, and a share of free layouts between them.

    A free layout scatters nuclei of one to several sizes over plain ground, so that a control
    learns masks that no morphology would have, such as those of real slides.
    """
    for index in range(count):
        rng = np.random.default_rng([seed, 4, index])
        if rng.random() < free_share:
            yield _free(rng)
        else:
            yield drawn_pair(MORPHOLOGIES[index % len(MORPHOLOGIES)], rng)


def drawn_pair(morphology: str, rng: np.random.Generator) -> Pair:
    """A tile of one morphology with its caption, mask and a simulated nuclear marker."""
    tile = draw_tile(morphology, Appearance.draw(rng), rng)
    return _pair(tile.image, tile.mask, morphology, rng)


def _free(rng: np.random.Generator) -> Pair:
    canvas = Canvas(rng)
    host = _HOSTS[int(rng.integers(len(_HOSTS)))]
    streaks = canvas.fibres(float(rng.uniform(0, np.pi)), float(rng.uniform(2, 5)))
    canvas.fill(1.0, float(rng.uniform(0.08, 0.24)), float(rng.uniform(0.2, 0.7)) + 0.12 * streaks)
    for _ in range(int(rng.integers(1, 4))):
        radius = float(rng.uniform(1.5, 5.0))
        apart = radius * float(rng.uniform(1.9, 4.0))
        centres = separated(rng, int(rng.integers(3, 90)), apart, low=-2, high=SIZE + 2)
        stretch = min(float(rng.uniform(1.0, 2.2)), (5.4 / radius) ** 2)
        canvas.nuclei(centres, radius, stretch=stretch, stain=float(rng.uniform(0.75, 1.3)))
    return _pair(Appearance.draw(rng).render(canvas.stains, rng), canvas.mask, host, rng)


def _pair(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint16],
    morphology: str,
    rng: np.random.Generator,
) -> Pair:
    studies = studies_showing(morphology)
    text = caption(studies[int(rng.integers(len(studies)))], morphology, rng)
    nuclei = NuclearMask.untyped(mask)
    return Pair(image, nuclei, text, simulated_marker(nuclei.instances, rng)[None])
