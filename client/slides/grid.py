"""Where the tiles of a slide lie, and from which level of its pyramid they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from client.slides.unusable import UnusableSlide
from privacy.errors import ConfigError

SMALLEST_TILE: Final = 16
LARGEST_TILE: Final = 4096
# Magnifying by less than a tenth is a difference between scanners, not invented detail.
_FINER: Final = 0.9
_WHOLE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class TileCut:
    """How tiles are cut: `size` pixels a side, `mpp` micrometres a pixel."""

    size: int
    mpp: float

    def __post_init__(self) -> None:
        if not SMALLEST_TILE <= self.size <= LARGEST_TILE:
            raise ConfigError(
                f"--size is {self.size}.", f"It is {SMALLEST_TILE} to {LARGEST_TILE} pixels."
            )
        check_plausible(self.mpp, "--mpp")


@dataclass(frozen=True, slots=True)
class SlideShape:
    """What a slide's file says of its pixels: width and height of level 0, micrometres a pixel."""

    size: tuple[int, int]
    mpp: tuple[float, float]
    downsamples: Mapping[int, float]  # of the levels that show the whole slide; of level 0 it is 1


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Complete tiles side by side, without overlap, from the upper left corner."""

    slide: tuple[int, int]  # width and height of level 0
    columns: int
    rows: int
    step: tuple[float, float]  # of a tile, in pixels of level 0
    level: int  # the coarsest that still has the detail
    region: tuple[int, int]  # of a tile, in pixels of that level

    def corner(self, column: int, row: int) -> tuple[int, int]:
        """The upper left pixel of a tile, at level 0."""
        return round(column * self.step[0]), round(row * self.step[1])

    def places(self) -> Iterator[tuple[int, int]]:
        """Every (column, row), row by row."""
        return ((column, row) for row in range(self.rows) for column in range(self.columns))


def plan_grid(shape: SlideShape, cut: TileCut) -> TileGrid:
    """The grid of `cut` on a slide; raises `UnusableSlide` where it has none."""
    factors = tuple(cut.mpp / mpp for mpp in shape.mpp)
    if min(factors) < _FINER:
        raise UnusableSlide(
            f"it has {max(shape.mpp):.3g} micrometres a pixel, too coarse for --mpp {cut.mpp:g}"
        )
    step = (cut.size * factors[0], cut.size * factors[1])
    columns, rows = (int(side / each + _WHOLE) for side, each in zip(shape.size, step, strict=True))
    if not columns or not rows:
        raise UnusableSlide(
            f"{shape.size[0]}x{shape.size[1]} pixels are smaller than one tile at --mpp {cut.mpp:g}"
        )
    level = coarsest(shape.downsamples, min(factors))
    scale = shape.downsamples[level]
    region = (max(1, round(step[0] / scale)), max(1, round(step[1] / scale)))
    return TileGrid(shape.size, columns, rows, step, level, region)


def coarsest(downsamples: Mapping[int, float], wanted: float) -> int:
    """The level with the fewest pixels that still has all detail at a downsample of `wanted`."""
    fitting = [level for level, by in downsamples.items() if by <= max(1.0, wanted) * (1 + 1e-3)]
    return max(fitting, key=lambda level: downsamples[level])


def check_plausible(mpp: float, what: str) -> None:
    """Raise `ConfigError` for a resolution that no microscope has."""
    if not plausible(mpp):
        raise ConfigError(
            f"{what} is {mpp:g}.",
            "It is in micrometres a pixel: 0.25 for a 40x objective, 0.5 for 20x, 1 for 10x.",
        )


def plausible(mpp: float) -> bool:
    """Whether a slide can have so many micrometres a pixel."""
    return 0.02 <= mpp <= 50


def contradicts(power: float, mpp: float) -> bool:
    """Whether an objective (20 for 20x; 0 for unknown) is not that of so many micrometres a pixel.

    Cameras differ, so 20x is anything from 0.31 to 0.8.
    """
    return power > 0 and not 1 / 1.6 <= mpp * power / 10 <= 1.6
