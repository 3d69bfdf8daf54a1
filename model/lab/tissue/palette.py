"""Dyes that captions name by colour: what the tiny base sees beside H&E.

A real base has seen many stains and knows the words for their colours, yet not a hospital's
protocols. So has this one: a palette is any pair of dyes but those of a protocol of
`model.lab.tissue.domain`, and its words are colours, never a protocol's name.
"""

# Why: docs/adr/0056-a-base-that-knows-colours.md

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model.lab.tissue.appearance import Appearance, Rgb
from model.lab.tissue.domain import STAINS
from model.lab.tissue.tile import MORPHOLOGIES, draw_tile

# Optical density over (red, green, blue): a dye looks like the colour that it does not absorb.
DYES: MappingProxyType[str, Rgb] = MappingProxyType(
    {
        "blue": (0.82, 0.56, 0.12),
        "turquoise": (0.92, 0.30, 0.25),
        "green": (0.72, 0.18, 0.67),
        "yellow": (0.08, 0.28, 0.96),
        "orange": (0.08, 0.54, 0.84),
        "brown": (0.32, 0.58, 0.75),
        "red": (0.10, 0.74, 0.67),
        "magenta": (0.18, 0.95, 0.25),
        "purple": (0.55, 0.80, 0.24),
        "black": (0.58, 0.58, 0.58),
    }
)
_NEAR = 15.0  # degrees between dyes below which they count as one
_HUES = (-10.0, 10.0)  # degrees about the grey axis
_NUCLEAR = (0.6, 2.8)  # strengths, as the two below
_GROUND = (0.15, 2.0)
_NUCLEAR_WORDS = (1.0, 2.0)  # faint below the first, deep above the second
_GROUND_WORDS = (0.5, 1.3)
_SERIES = 7  # sets these draws apart from `draw_series`


@dataclass(frozen=True)
class Palette:
    """Two dyes as a caption says them, such as "deep blue" and "faint brown", and their look."""

    nuclei: str
    ground: str
    appearance: Appearance

    def caption(self, of: str, rng: np.random.Generator) -> str:
        """The caption `of` a tile's content, with the dyes in front of it and no word of H&E."""
        dyes = f"{self.nuclei} on {self.ground}"
        plain = of.replace("H&E section", "Section")
        return f"Stained {dyes}: {plain}" if rng.random() < 0.5 else f"{dyes}: {plain}"

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Palette:
        """Any two dyes in any strength that are not the two of a protocol."""
        names = tuple(DYES)
        while True:
            nuclei, ground = (names[int(rng.integers(len(names)))] for _ in range(2))
            if not is_protocol(DYES[nuclei], DYES[ground]):
                break
        strong, ground_strength = float(rng.uniform(*_NUCLEAR)), float(rng.uniform(*_GROUND))
        appearance = Appearance(
            "palette",
            haematoxylin_hue=float(rng.uniform(*_HUES)),
            eosin_hue=float(rng.uniform(*_HUES)),
            haematoxylin=strong,
            eosin=ground_strength,
            white=(0.96, float(rng.uniform(0.93, 0.96)), float(rng.uniform(0.94, 0.98))),
            brightness=float(rng.uniform(0.96, 1.03)),
            blur=float(rng.uniform(0.4, 0.65)),
            noise=float(rng.uniform(1.0, 3.0)),
            nuclear=DYES[nuclei],
            ground=DYES[ground],
        )
        return cls(
            _worded(nuclei, strong, _NUCLEAR_WORDS),
            _worded(ground, ground_strength, _GROUND_WORDS),
            appearance,
        )


def is_protocol(nuclear: Rgb, ground: Rgb) -> bool:
    """Whether both dyes lie within 15 degrees of those of one of the domain's protocols."""
    return any(
        _degrees(nuclear, stain.appearance.nuclear) < _NEAR
        and _degrees(ground, stain.appearance.ground) < _NEAR
        for stain in STAINS
    )


def palette_of(seed: int, index: int) -> Palette:
    """The palette of tile `index` of `draw_palettes`."""
    return Palette.draw(np.random.default_rng([seed, _SERIES, index]))


def draw_palettes(seed: int, start: int, count: int) -> NDArray[np.uint8]:
    """Images [count, 64, 64, 3] from `start` on: MORPHOLOGIES[k % 12], each in its palette."""
    images = []
    for index in range(start, start + count):
        morphology = MORPHOLOGIES[index % len(MORPHOLOGIES)]
        rng = np.random.default_rng([seed, _SERIES + 1, index])
        images.append(draw_tile(morphology, palette_of(seed, index).appearance, rng).image)
    return np.stack(images)


def _worded(dye: str, strength: float, bounds: tuple[float, float]) -> str:
    faint, deep = bounds
    if strength < faint:
        return f"faint {dye}"
    return f"deep {dye}" if strength > deep else dye


def _degrees(one: Rgb, other: Rgb) -> float:
    a, b = np.asarray(one), np.asarray(other)
    cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return float(np.degrees(np.arccos(min(1.0, cosine))))
