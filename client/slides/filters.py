"""Is a tile tissue? Shares of pixels by how much red, green and blue light they absorb.

Absorption is -ln((v + 1) / 256) for a value v of 0..255 (Beer and Lambert), 0 for white.
Haematoxylin and eosin both absorb green most (Ruifrok and Johnston 2001, vectors .65 .70 .29 and
.07 .99 .11), so what absorbs red clearly more than green is a green or blue pen; what absorbs blue
as much as green and hardly any red is a red one; what absorbs all alike and much is a black one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from privacy.errors import ConfigError

# By value 0..255.
_ABSORPTION: Final = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
_COLOURED: Final = 0.12  # between the most and the least absorbed colour
_DENSE: Final = 0.25  # of all three together: glass and its dust are below


class TileVerdict(StrEnum):
    """What becomes of a place of the grid."""

    KEPT = "kept"
    NO_TISSUE = "no tissue"
    PEN = "pen"


@dataclass(frozen=True, slots=True)
class TileShares:
    """Shares of a tile's pixels, 0..1."""

    tissue: float
    pen: float


@dataclass(frozen=True, slots=True)
class TileRules:
    """At least so much tissue, at most so much pen; raises `ConfigError` outside of 0..1."""

    tissue: float
    pen: float

    def __post_init__(self) -> None:
        for name, share in (("tissue", self.tissue), ("pen", self.pen)):
            if not 0 <= share <= 1:
                raise ConfigError(f"--{name} is {share:g}.", "It is a share of a tile, 0 to 1.")

    def verdict(self, shares: TileShares) -> TileVerdict:
        """What becomes of a tile with these shares; pen is told first."""
        if shares.pen > self.pen:
            return TileVerdict.PEN
        return TileVerdict.KEPT if shares.tissue >= self.tissue else TileVerdict.NO_TISSUE


def tile_shares(tile: npt.NDArray[np.uint8]) -> TileShares:
    """The shares of an RGB tile [height, width, 3]."""
    tissue, pen = _masks(tile)
    return TileShares(*(np.count_nonzero(mask) / mask.size for mask in (tissue, pen)))


def coloured(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which pixels of an RGB picture [height, width, 3] are tissue or pen, and not glass."""
    tissue, pen = _masks(picture)
    return tissue | pen


def _masks(picture: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which pixels are tissue, and which are pen; [height, width] each."""
    red, green, blue = np.take(_ABSORPTION, np.moveaxis(picture, -1, 0))
    most = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    spread = most - least
    cold = (red - green > 0.35) & (red > 1.25 * green)
    warm = (blue > 0.85 * green) & (red < 0.35 * green) & (green > 0.7)
    black = (least > 1.2) & (spread < 0.35)
    pen = cold | warm | black
    stained = (spread > _COLOURED) & (red + green + blue > _DENSE)
    return stained & ~pen, pen
