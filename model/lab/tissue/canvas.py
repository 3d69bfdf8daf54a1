"""Primitives for painting morphologies: fields, regions, nuclei.

Coordinates are pixels, (x, y); a canvas holds stain concentrations, not colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from model.arrays import Singles

SIZE = 64
Points = NDArray[np.float64]

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
_AXIS = np.arange(SIZE, dtype=np.float32)
_WINDOW = 13  # a nucleus and its soft edge fit into 13 x 13 pixels
_DY, _DX = np.mgrid[0:_WINDOW, 0:_WINDOW].astype(np.float32) - _WINDOW // 2


@cache
def _spline(knots: int) -> Singles:
    """Rows of cubic B-spline weights, [SIZE, knots + 3]: coarse noise to a smooth line."""
    at = np.arange(SIZE) / SIZE * knots
    left = np.floor(at).astype(int)
    t = at - left
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    )
    matrix = np.zeros((SIZE, knots + 3), np.float32)
    for offset in range(4):
        matrix[np.arange(SIZE), left + offset] = weights[offset] / 6
    return matrix


@dataclass(frozen=True)
class Nuclei:
    """Ellipses: centres [n, 2], half axes [n, 2], angles [n] in radians, haematoxylin [n]."""

    centres: Points
    axes: Points
    angles: NDArray[np.float64]
    stain: NDArray[np.float64]


class Canvas:
    """Concentrations of one tile, [2, SIZE, SIZE], and the instance mask of its nuclei."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.stains = np.zeros((2, SIZE, SIZE), np.float32)
        self.mask = np.zeros((SIZE, SIZE), np.uint16)
        self.size_factor = float(rng.uniform(0.9, 1.12))  # of all nuclei of this tile

    def field(self, knots: int) -> Singles:
        """Smooth noise [SIZE, SIZE], about standard normal, `knots` bumps across."""
        basis = _spline(knots)
        rough = self.rng.standard_normal((knots + 3, knots + 3), dtype=np.float32)
        return np.multiply(basis @ rough @ basis.T, 2.0, dtype=np.float32)

    def fibres(self, angle: float, pitch: float, waviness: float = 4.0) -> Singles:
        """Wavy parallel streaks [SIZE, SIZE] in -1..1; `angle` is along them, pitch in pixels."""
        across = -_X * np.sin(angle) + _Y * np.cos(angle)
        across = across + waviness * self.field(2) + 0.6 * self.field(6)
        levels = self.rng.uniform(-1, 1, 256).astype(np.float32)
        return np.asarray(np.interp(across / pitch + 128, np.arange(256), levels), np.float32)

    def fill(
        self, cover: Singles | float, haematoxylin: Singles | float, eosin: Singles | float
    ) -> None:
        """Lay an opaque material over the canvas where `cover` (0-1) says so."""
        self.stains[0] += cover * (haematoxylin - self.stains[0])
        self.stains[1] += cover * (eosin - self.stains[1])

    def scatter(self, inside: Singles, spacing: float, jitter: float = 0.2) -> Points:
        """Points [n, 2], `spacing` pixels apart where `inside` > 0.5: a shaken hexagon grid."""
        count = int(SIZE * 1.6 / spacing) + 2
        row, column = np.mgrid[0:count, 0:count] - count / 2
        grid = np.stack([column + 0.5 * (np.arange(count)[:, None] % 2), row * 0.866], axis=-1)
        points = grid.reshape(-1, 2) * spacing
        points += self.rng.normal(0, jitter * spacing, points.shape)
        return keep(rotated(points, float(self.rng.uniform(0, np.pi))) + SIZE / 2, inside)

    def nuclei(
        self,
        centres: Points,
        radius: float,
        *,
        stretch: float = 1.15,
        angles: Points | None = None,
        stain: float = 1.0,
    ) -> None:
        """Paint nuclei of about `radius`; angles [n] point along the long axis (random if None)."""
        n = len(centres)
        if n == 0:
            return
        rng = self.rng
        scale = radius * self.size_factor * np.exp(rng.normal(0, 0.10, n))
        shape = np.sqrt(stretch * np.exp(rng.normal(0, 0.08, n)))
        angles = rng.uniform(0, np.pi, n) if angles is None else angles + rng.normal(0, 0.12, n)
        axes = np.stack([scale * shape, scale / shape], axis=-1)
        self._paint(Nuclei(centres, axes, angles, stain * rng.uniform(0.85, 1.15, n)))

    def _paint(self, nuclei: Nuclei) -> None:
        corner = np.round(nuclei.centres).astype(np.int64)
        shift = (nuclei.centres - corner).astype(np.float32)
        dx = _DX - shift[:, 0, None, None]
        dy = _DY - shift[:, 1, None, None]
        cos = np.cos(nuclei.angles).astype(np.float32)[:, None, None]
        sin = np.sin(nuclei.angles).astype(np.float32)[:, None, None]
        axes = nuclei.axes.astype(np.float32)[:, :, None, None]
        radial = np.hypot((dx * cos + dy * sin) / axes[:, 0], (dy * cos - dx * sin) / axes[:, 1])
        cover = np.clip((1 - radial) * axes[:, 1] + 0.5, 0, 1)
        x = corner[:, 0, None, None] + _DX.astype(np.int64)
        y = corner[:, 1, None, None] + _DY.astype(np.int64)
        hit = (cover > 0) & (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
        which, at = np.nonzero(hit)[0], (y * SIZE + x)[hit]
        # chromatin gathers at the rim; the centre is a little lighter
        stain = nuclei.stain.astype(np.float32)[which] * (0.8 + 0.25 * np.minimum(radial[hit], 1))
        covered = np.zeros(SIZE * SIZE, np.float32)
        stained = np.zeros(SIZE * SIZE, np.float32)
        np.maximum.at(covered, at, cover[hit])
        np.maximum.at(stained, at, stain)
        self.fill(covered.reshape(SIZE, SIZE), stained.reshape(SIZE, SIZE), 0.25)
        solid = radial[hit] <= 1
        self.mask.reshape(-1)[at[solid]] = int(self.mask.max()) + 1 + which[solid]


def rotated(points: Points, angle: float) -> Points:
    """Points [n, 2] turned about the origin."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


def keep(points: Points, inside: Singles, margin: float = 2.0) -> Points:
    """Those of the points [n, 2] that lie on (or up to `margin` off) the tile and in `inside`."""
    near = np.all((points > -margin) & (points < SIZE - 1 + margin), axis=1)
    points = points[near]
    x, y = np.clip(np.round(points), 0, SIZE - 1).astype(int).T
    return np.asarray(points[inside[y, x] > 0.5])


def soft(distance: Singles, width: float = 1.0) -> Singles:
    """Cover 0-1 from a signed distance in pixels, negative inside."""
    return np.asarray(np.clip(0.5 - distance / width, 0, 1), np.float32)


def polar(centre: Points) -> tuple[Singles, Singles]:
    """Distance and angle [SIZE, SIZE] of each pixel from a centre (x, y)."""
    dx, dy = _X - np.float32(centre[0]), _Y - np.float32(centre[1])
    return np.hypot(dx, dy), np.arctan2(dy, dx)


def nearest_two(points: Points) -> tuple[Singles, Singles]:
    """Distance [SIZE, SIZE] to the nearest and the second nearest of points [n >= 2, 2]."""
    first = np.full((SIZE, SIZE), np.inf, np.float32)
    second = first.copy()
    for x, y in points.astype(np.float32):  # a running minimum: no [n, SIZE, SIZE] in memory
        squared = np.add.outer((_AXIS - y) ** 2, (_AXIS - x) ** 2)
        np.minimum(second, np.maximum(first, squared), out=second)
        np.minimum(first, squared, out=first)
    return np.sqrt(first), np.sqrt(second)


def separated(
    rng: np.random.Generator, count: int, apart: float, *, low: float = 0.0, high: float = SIZE
) -> Points:
    """Up to `count` points [n, 2] in the square low..high, at least `apart` from each other."""
    candidates = rng.uniform(low, high, (count * 12, 2))
    chosen: list[NDArray[np.float64]] = []
    while len(candidates) and len(chosen) < count:
        chosen.append(candidates[0])
        squared = ((candidates - candidates[0]) ** 2).sum(axis=1)
        candidates = candidates[squared >= apart**2]
    return np.array(chosen)
