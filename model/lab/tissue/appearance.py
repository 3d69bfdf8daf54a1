"""How a tile was stained and scanned: the part of a picture that differs between hospitals.

Colour follows the Beer-Lambert law in optical density (Ruifrok and Johnston 2001, "Quantification
of histochemical staining by color deconvolution"): intensity = white * exp(-(h * H + e * E)) with
concentrations h, e per pixel and unit stain vectors H, E over (red, green, blue).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.arrays import Singles

Bytes = NDArray[np.uint8]
Rgb = tuple[float, float, float]

HAEMATOXYLIN: Rgb = (0.65, 0.70, 0.29)
EOSIN: Rgb = (0.07, 0.99, 0.11)
_GREY_AXIS = np.full(3, 1 / np.sqrt(3))


def _rotate_hue(vector: Rgb, degrees: float) -> NDArray[np.float64]:
    """Rotate a stain vector about the grey axis (Rodrigues' formula); result [3], unit length."""
    v = np.asarray(vector, dtype=np.float64)
    angle = np.deg2rad(degrees)
    along = _GREY_AXIS * (v @ _GREY_AXIS)
    turned = along + (v - along) * np.cos(angle) + np.cross(_GREY_AXIS, v) * np.sin(angle)
    clipped = np.maximum(turned, 0.01)  # a stain never adds light
    return np.asarray(clipped / np.linalg.norm(clipped))


@dataclass(frozen=True)
class Appearance:
    """Stain and scanner of one slide.

    nuclear, ground: unit vectors of the two stains, optical density over (red, green, blue):
    one for nuclei, one for everything else. Protocols other than H&E have other vectors; hue and
    strength below then refer to those.
    haematoxylin_hue, eosin_hue: degrees about the grey axis away from Ruifrok's vectors.
    haematoxylin, eosin: strength, natural-log optical density at concentration 1.
    white: colour of empty glass, 0-1 per channel. brightness: factor on all light.
    blur: Gaussian sigma in pixels. noise: standard deviation in grey levels of 255.
    """

    scanner: str
    haematoxylin_hue: float = 0.0
    eosin_hue: float = 0.0
    haematoxylin: float = 1.3
    eosin: float = 0.9
    white: Rgb = (0.96, 0.95, 0.96)
    brightness: float = 1.0
    blur: float = 0.5
    noise: float = 2.0
    nuclear: Rgb = HAEMATOXYLIN
    ground: Rgb = EOSIN

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Appearance:
        """Draw from the range that the tiny base is pretrained on; HOSPITALS lie outside it."""
        return cls(
            scanner="pretraining",
            haematoxylin_hue=float(rng.uniform(-8, 8)),
            eosin_hue=float(rng.uniform(-6, 6)),
            haematoxylin=float(rng.uniform(1.15, 1.5)),
            eosin=float(rng.uniform(0.75, 1.05)),
            white=(0.96, float(rng.uniform(0.93, 0.96)), float(rng.uniform(0.94, 0.98))),
            brightness=float(rng.uniform(0.96, 1.03)),
            blur=float(rng.uniform(0.4, 0.65)),
            noise=float(rng.uniform(1.0, 3.0)),
        )

    def jittered(self, rng: np.random.Generator) -> Appearance:
        """The same laboratory on another day: the small difference between two patients."""
        return replace(
            self,
            haematoxylin_hue=self.haematoxylin_hue + float(rng.normal(0, 1.5)),
            eosin_hue=self.eosin_hue + float(rng.normal(0, 1.5)),
            haematoxylin=self.haematoxylin * float(np.exp(rng.normal(0, 0.04))),
            eosin=self.eosin * float(np.exp(rng.normal(0, 0.04))),
            brightness=self.brightness * float(np.exp(rng.normal(0, 0.01))),
        )

    def render(self, concentrations: Singles, rng: np.random.Generator) -> Bytes:
        """Turn concentrations [2, s, s] of (haematoxylin, eosin) into an image [s, s, 3]."""
        vectors = np.stack(
            [
                self.haematoxylin * _rotate_hue(self.nuclear, self.haematoxylin_hue),
                self.eosin * _rotate_hue(self.ground, self.eosin_hue),
            ]
        ).astype(np.float32)
        blurred = ndimage.gaussian_filter(concentrations, (0.0, self.blur, self.blur), truncate=3.0)
        density = np.tensordot(np.maximum(blurred, 0), vectors, axes=(0, 0))
        light = np.asarray(self.white, np.float32) * self.brightness * np.exp(-density)
        grain = rng.standard_normal(light.shape, dtype=np.float32) * self.noise
        return np.clip(light * 255 + grain, 0, 255).round().astype(np.uint8)


# Each differs from every `Appearance.draw` in several figures at once, and from the other two.
HOSPITALS = MappingProxyType(
    {
        "north": Appearance(  # overstained with haematoxylin: everything blue and purple
            scanner="north-bluish",
            haematoxylin_hue=16,
            eosin_hue=24,
            haematoxylin=1.9,
            eosin=0.7,
            white=(0.90, 0.92, 0.99),
            blur=0.4,
            noise=2.0,
        ),
        "harbour": Appearance(  # old haematoxylin, fresh eosin: pink throughout
            scanner="harbour-pink",
            haematoxylin_hue=-18,
            eosin_hue=-8,
            haematoxylin=0.95,
            eosin=1.6,
            white=(0.99, 0.93, 0.95),
            blur=0.6,
            noise=3.0,
        ),
        "hillside": Appearance(  # pale slides under a warm lamp: brownish, yellowish
            scanner="hillside-warm",
            haematoxylin_hue=-34,
            eosin_hue=-24,
            haematoxylin=0.95,
            eosin=0.6,
            white=(0.97, 0.91, 0.76),
            brightness=0.95,
            blur=0.75,
            noise=4.0,
        ),
    }
)
