"""A distance between sets, next to the same distance between two halves of the real images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model.arrays import Doubles, Features, Groups
from model.lab.evaluation.figures import Better, Figure, Reference, Unavailable
from model.lab.evaluation.patients import HALVINGS, Resampling, halves, interval, percentiles
from model.quality.alignment import TooFewError


class SetMetric(Protocol):
    """Figures for how two sets of features [n, E] and [m, E] differ."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the figures."""

    @property
    def better(self) -> Better:
        """Which way is better."""

    @property
    def least(self) -> float:
        """The smallest possible value."""

    @property
    def is_mean(self) -> bool:
        """Whether its figures are means over images, which resampling does not shift."""

    @property
    def source(self) -> str:
        """The paper."""

    def needed(self, width: int) -> int:
        """The fewest images of each kind, for features of this width."""

    def values(self, real: Features, generated: Features) -> Doubles:
        """[len(names)]."""

    def spread(
        self, real: Features, generated: Features, weights: tuple[Doubles, Doubles]
    ) -> Doubles:
        """[R, len(names)] under bootstrap multiplicities [R, n] and [R, m]."""


@dataclass(frozen=True)
class Sets:
    """Real and generated features in one encoder's space, with owners."""

    encoder: str
    real: Features
    generated: Features
    patients: Groups  # of the real ones
    seed: int


def compare(
    metric: SetMetric, sets: Sets, resampling: Resampling
) -> tuple[list[Figure], list[Unavailable]]:
    """The metric's figures, each next to `floor` and `at the same size`.

    The floor is the mean over random halvings of the real patients, one half standing for the
    generated images. Such distances are biased by size, so the generated images are also compared
    with a half at the floor's own size: that is the figure to compare with the floor. Raises
    `TooFewError` if the metric is undefined for so few images.
    """
    _check_size(metric, sets)
    values = metric.values(sets.real, sets.generated)
    weights = (resampling.real, resampling.generated)
    spread = metric.spread(sets.real, sets.generated, weights)
    gaps: list[Unavailable] = []
    floors = np.empty((0, len(metric.names)))
    same_size = floors
    size = 0
    try:
        floors, same_size, size = _halved(metric, sets)
    except TooFewError as error:
        gaps = [Unavailable(f"{metric.names[0]}: floor", sets.encoder, str(error))]
    figures = []
    for column, name in enumerate(metric.names):
        beside = (
            reference("floor", floors[:, column], size),
            reference("at the same size", same_size[:, column], size),
        )
        value = float(values[column])
        ends = percentiles(spread[:, column])
        low, high = ends if metric.is_mean else interval(value, spread[:, column])
        figures.append(
            Figure(
                name,
                sets.encoder,
                value,
                max(metric.least, low),
                high,
                len(sets.real),
                len(sets.generated),
                len(np.unique(sets.patients)),
                sets.seed,
                metric.better,
                metric.source,
                beside if size else (),
            )
        )
    return figures, gaps


def reference(name: str, values: Doubles, n: int) -> Reference:
    """The mean over halvings, with the range in which 95 % of them lie."""
    if not len(values):
        return Reference(name, float("nan"))
    low, high = np.percentile(values, [2.5, 97.5])
    return Reference(name, float(values.mean()), float(low), float(high), n)


def _check_size(metric: SetMetric, sets: Sets) -> None:
    width = sets.real.shape[1]
    needed = metric.needed(width)
    for kind, features in (("real", sets.real), ("generated", sets.generated)):
        if len(features) < needed:
            raise TooFewError(
                f"{', '.join(metric.names)} needs {needed} {kind} images with this encoder "
                f"({width} features); there are {len(features)}.",
                "Give more images, or an encoder with fewer features; KID needs fewest.",
            )


def _halved(metric: SetMetric, sets: Sets) -> tuple[Doubles, Doubles, int]:
    """Figures [HALVINGS, names] of real halves, of generated at that size; and the size."""
    rng = np.random.default_rng([sets.seed, 2])
    needed = metric.needed(sets.real.shape[1])
    floors, same_size, smallest = [], [], len(sets.real)
    for _ in range(HALVINGS):
        first, second = halves(sets.patients, rng)
        size = min(len(first), len(sets.generated))
        if size < needed:
            raise TooFewError(
                f"A real-against-real floor of {', '.join(metric.names)} needs {needed} images in "
                f"each patient-disjoint half; there are {size}.",
                "Give more patients.",
            )
        drawn = rng.permutation(len(sets.generated))[:size]
        half = sets.real[first[:size]]
        floors.append(metric.values(half, sets.real[second[:size]]))
        same_size.append(metric.values(half, sets.generated[drawn]))
        smallest = min(smallest, size)
    return np.array(floors), np.array(same_size), smallest
