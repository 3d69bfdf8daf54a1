"""Morphologies not made by epithelium: spindle cells, lymphoid, necrosis, mucin, fat, stroma."""

from __future__ import annotations

import numpy as np

from model.lab.tissue.canvas import SIZE, Canvas, nearest_two, polar, separated, soft
from model.lab.tissue.epithelium import EVERYWHERE, lay_stroma


def spindle_cells(canvas: Canvas) -> None:
    """Fascicles of crowded, long, parallel nuclei in a sweeping direction."""
    rng = canvas.rng
    angle = float(rng.uniform(0, np.pi))
    canvas.fill(1.0, 0.14, 0.45 + 0.18 * canvas.fibres(angle, 2.0))
    turn = 0.28 * canvas.field(1)
    points = canvas.scatter(EVERYWHERE, 5.3, 0.22)
    x, y = np.clip(points, 0, SIZE - 1).astype(int).T
    canvas.nuclei(points, 2.05, stretch=4.2, angles=angle + turn[y, x].astype(np.float64))


def lymphoid(canvas: Canvas) -> None:
    """A sheet of small, round, dark nuclei with hardly any cytoplasm."""
    rng = canvas.rng
    canvas.fill(1.0, 0.22, 0.20 + 0.05 * canvas.field(5))
    points = canvas.scatter(EVERYWHERE, float(rng.uniform(4.0, 4.4)), 0.12)
    canvas.nuclei(points[rng.random(len(points)) > 0.04], 1.65, stretch=1.05, stain=1.3)


def necrosis(canvas: Canvas) -> None:
    """Granular pink debris with dust of broken nuclei and shadows of dead cells."""
    rng = canvas.rng
    grains = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    canvas.fill(1.0, 0.14 + 0.06 * canvas.field(10), 0.62 + 0.16 * grains + 0.16 * canvas.field(7))
    ghosts = canvas.scatter(EVERYWHERE, 9.0, 0.25)
    canvas.nuclei(ghosts, 2.2, stain=0.32)
    canvas.mask[:] = 0  # shadows are not nuclei
    dust = rng.uniform(0, SIZE, (int(rng.integers(60, 110)), 2))
    canvas.nuclei(dust, 0.75, stretch=1.4, stain=1.15)


def mucin(canvas: Canvas) -> None:
    """A pale bluish pool with drifting strands and small clusters of floating cells."""
    rng = canvas.rng
    strands = canvas.fibres(float(rng.uniform(0, np.pi)), 4.0, 7.0)
    canvas.fill(1.0, 0.15 + 0.05 * strands + 0.02 * canvas.field(3), 0.06)
    for centre in separated(rng, int(rng.integers(2, 4)), 24, low=6, high=58):
        distance, phi = polar(centre)
        edge = np.float32(rng.uniform(6, 9)) * (
            1 + 0.15 * np.cos(3 * phi + np.float32(rng.uniform(0, 6)))
        )
        cluster = soft(distance - edge)
        canvas.fill(cluster, 0.25, 0.45)
        canvas.nuclei(canvas.scatter(cluster * (distance < edge - 1.5), 4.4, 0.12), 2.0)


def fat(canvas: Canvas) -> None:
    """Large empty cells with thin walls; a few flat nuclei lie in the walls."""
    rng = canvas.rng
    centres = separated(rng, 24, float(rng.uniform(15, 18)), low=-12, high=76)
    first, second = nearest_two(centres)
    wall = soft(second - first - np.float32(rng.uniform(1.2, 2.0)))
    canvas.fill(1.0, 0.0, 0.02)
    canvas.fill(wall, 0.10, 0.55)
    y, x = np.nonzero(wall > 0.9)
    if len(x) == 0:
        return
    chosen = rng.choice(len(x), int(rng.integers(3, 7)))
    slope_y, slope_x = np.gradient(second - first)
    at = (y[chosen], x[chosen])
    angles = np.arctan2(slope_y[at], slope_x[at]).astype(np.float64) + np.pi / 2
    canvas.nuclei(
        np.stack([x[chosen], y[chosen]], -1).astype(np.float64), 1.5, stretch=2.4, angles=angles
    )


def stroma(canvas: Canvas) -> None:
    """Only collagen: wavy pink fibres and a few thin nuclei between them."""
    rng = canvas.rng
    angle = float(rng.uniform(0, np.pi))
    lay_stroma(canvas, angle, 0.58)
    points = separated(rng, int(rng.integers(4, 9)), 11)
    canvas.nuclei(points, 1.7, stretch=4.5, angles=np.full(len(points), angle))
