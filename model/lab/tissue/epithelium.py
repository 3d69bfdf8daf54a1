"""Morphologies made by epithelial cells: glands, cribriform, papillary, nests, files, keratin."""

from __future__ import annotations

import numpy as np

from model.arrays import Singles
from model.lab.tissue.canvas import (
    SIZE,
    Canvas,
    Points,
    keep,
    nearest_two,
    polar,
    separated,
    soft,
)

EVERYWHERE: Singles = np.ones((SIZE, SIZE), np.float32)


def lay_stroma(canvas: Canvas, angle: float, eosin: float = 0.5) -> None:
    """Cover the whole tile with collagen: wavy pink fibres along `angle`."""
    texture = canvas.fibres(angle, float(canvas.rng.uniform(1.6, 2.4)))
    canvas.fill(1.0, 0.06, eosin + 0.22 * texture + 0.05 * canvas.field(4))


def _outline(rng: np.random.Generator, radius: float) -> tuple[Points, float]:
    """Fourier coefficients of a wobbly closed outline of mean `radius`."""
    return np.stack([rng.normal(0, [0.09, 0.05, 0.03]), rng.uniform(0, 2 * np.pi, 3)]), radius


def _outline_at(outline: tuple[Points, float], phi: Points | Singles) -> Points:
    (amplitude, phase), radius = outline
    wobble = sum(
        a * np.cos((k + 2) * phi + p) for k, (a, p) in enumerate(zip(amplitude, phase, strict=True))
    )
    return np.asarray(radius * (1 + wobble))


def glands(canvas: Canvas) -> None:
    """One to three rings of columnar cells around an empty lumen, nuclei at the base."""
    rng = canvas.rng
    lay_stroma(canvas, float(rng.uniform(0, np.pi)), 0.42)
    count = int(rng.integers(1, 4))
    for centre in separated(rng, count, 30, low=9, high=55):
        outline = _outline(rng, float(rng.uniform(15, 20) if count == 1 else rng.uniform(12, 15)))
        distance, phi = polar(centre)
        edge = _outline_at(outline, phi).astype(np.float32)
        canvas.fill(soft(distance - edge), 0.22, 0.38)
        canvas.fill(soft(distance - edge * np.float32(rng.uniform(0.45, 0.58))), 0.0, 0.02)
        n = int(2 * np.pi * outline[1] * 0.82 / 3.5)
        around = np.arange(n) * 2 * np.pi / n + rng.normal(0, 0.05, n)
        at = (_outline_at(outline, around) - 2.7 + rng.normal(0, 0.35, n))[:, None]
        points = centre + at * np.stack([np.cos(around), np.sin(around)], axis=-1)
        canvas.nuclei(points, 2.0, stretch=1.5, angles=around)


def cribriform(canvas: Canvas) -> None:
    """One large sheet of cells with many round, punched-out lumens."""
    rng = canvas.rng
    lay_stroma(canvas, float(rng.uniform(0, np.pi)))
    distance, phi = polar(rng.uniform(22, 42, 2))
    edge = _outline_at(_outline(rng, float(rng.uniform(30, 40))), phi).astype(np.float32)
    sheet = soft(distance - edge)
    canvas.fill(sheet, 0.25, 0.40)
    lumens = separated(rng, 14, float(rng.uniform(12.5, 15)), low=2, high=62)
    gap = nearest_two(lumens)[0] - np.float32(rng.uniform(3.6, 4.6)) + 0.6 * canvas.field(7)
    gap = np.where(distance > edge - 4, np.float32(SIZE), gap)  # lumens stay inside the sheet
    canvas.fill(soft(gap), 0.0, 0.03)
    canvas.nuclei(canvas.scatter(sheet * (gap > 1.6), 4.5), 1.9, stretch=1.2)


def _frond(canvas: Canvas, base: Points, direction: float) -> None:
    """One frond: a bent axis that starts 36 px before `base`, [2], and ends within the tile."""
    rng = canvas.rng
    length = int(rng.integers(24, 40))
    bend = np.cumsum(rng.normal(0, 0.02, length)) + rng.normal(0, 0.015) * np.arange(length)
    heading = direction + rng.normal(0, 0.15) + bend
    along = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=-1)
    axis = base - 36 * along[0] + np.cumsum(2.0 * along, axis=0)
    distance, _ = nearest_two(axis)
    canvas.fill(soft(distance - 6.8), 0.20, 0.40)
    canvas.fill(soft(distance - 1.6), 0.04, 0.62)
    tip = heading[-1] + np.linspace(-1.1, 1.1, 3)
    cap = axis[-1] + 4.3 * np.stack([np.cos(tip), np.sin(tip)], axis=-1)
    left, right = axis[::2] + 4.3 * normal[::2], axis[::2] - 4.3 * normal[::2]
    spots = np.concatenate([left, right, cap])
    spots += rng.normal(0, 0.35, spots.shape)
    outward = np.concatenate([heading[::2], heading[::2], tip - np.pi / 2]) + np.pi / 2
    canvas.nuclei(spots, 1.9, stretch=1.4, angles=outward)


def papillary(canvas: Canvas) -> None:
    """Finger-like fronds in empty space: a thin pink core with a row of nuclei on each side."""
    rng = canvas.rng
    canvas.fill(1.0, 0.0, 0.03)
    direction = float(rng.uniform(0, 2 * np.pi))
    across = np.array([-np.sin(direction), np.cos(direction)])
    for offset in np.arange(-1, 2) * rng.uniform(20, 25) + rng.uniform(-8, 8):
        turned = direction + (np.pi if rng.random() < 0.4 else 0.0)
        _frond(canvas, SIZE / 2 + offset * across, turned)


def solid_nests(canvas: Canvas) -> None:
    """Packed nests of large round cells, separated by thin bands of stroma."""
    rng = canvas.rng
    lay_stroma(canvas, float(rng.uniform(0, np.pi)), 0.6)
    centres = separated(rng, 7, float(rng.uniform(24, 30)), low=-8, high=72)
    first, second = nearest_two(centres)
    wall = (first - second) / 2 + np.float32(rng.uniform(2.0, 3.2)) + 0.5 * canvas.field(5)
    nest = soft(wall)
    canvas.fill(nest, 0.16, 0.36 + 0.05 * canvas.field(8))
    points = canvas.scatter(nest * (wall < -1.2), float(rng.uniform(6.0, 6.8)), 0.13)
    canvas.nuclei(points, 2.35, stretch=1.08, stain=0.85)


def single_files(canvas: Canvas) -> None:
    """Dark round cells one behind another in rows through dense stroma."""
    rng = canvas.rng
    angle = float(rng.uniform(0, np.pi))
    lay_stroma(canvas, angle, 0.52)
    along, across = (
        np.array([np.cos(angle), np.sin(angle)]),
        np.array([-np.sin(angle), np.cos(angle)]),
    )
    rows = np.arange(-3, 4) * rng.uniform(11, 14) + rng.uniform(-5, 5)
    for row in rows:
        at = np.arange(-46, 46, rng.uniform(4.6, 5.2))
        gone = (at > (start := rng.uniform(-40, 40))) & (at < start + rng.uniform(6, 20))
        at = at[~gone] + rng.normal(0, 0.3, int((~gone).sum()))
        wave = row + 2.0 * np.sin(at / 14 + rng.uniform(0, 6)) + rng.normal(0, 0.3, len(at))
        points = SIZE / 2 + at[:, None] * along + wave[:, None] * across
        canvas.nuclei(keep(points, EVERYWHERE), 2.0, stretch=1.1, stain=1.15)


def keratin(canvas: Canvas) -> None:
    """Pearls: whorls of dense pink lamellae, in pavement of polygonal pink cells."""
    rng = canvas.rng
    canvas.fill(1.0, 0.10, 0.5 + 0.05 * canvas.field(6))
    cells = canvas.scatter(EVERYWHERE, float(rng.uniform(8.5, 10)), 0.12)
    first, second = nearest_two(cells)
    canvas.fill(soft(second - first - 1.0) * 0.6, 0.05, 0.22)
    canvas.nuclei(cells, 1.7, stretch=1.3)
    count = int(rng.integers(1, 3))
    for centre in separated(rng, count, 34, low=14, high=50):
        radius = float(rng.uniform(17, 22) if count == 1 else rng.uniform(12, 16))
        distance, phi = polar(centre)
        distance = distance * (1 + 0.12 * np.cos(2 * phi + np.float32(rng.uniform(0, 6))))
        lamella = np.sin(2 * np.pi * distance / np.float32(rng.uniform(3.6, 4.4)) + canvas.field(4))
        canvas.fill(soft(distance - radius), 0.03, 1.05 + 0.38 * lamella)
        canvas.mask[distance < radius] = 0  # keratin has no nuclei; those below are gone
        n = int(rng.integers(7, 12))
        around = rng.uniform(0, 2 * np.pi, n)
        ring = centre + (radius + 1.2) * np.stack([np.cos(around), np.sin(around)], axis=-1)
        canvas.nuclei(ring, 1.6, stretch=2.4, angles=around + np.pi / 2)
