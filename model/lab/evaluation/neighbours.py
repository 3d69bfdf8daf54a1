"""Precision, recall, density and coverage by k nearest neighbours in a feature space.

Precision and recall: Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1-3; density and coverage,
which outliers disturb less: Naeem et al. 2020, arXiv 2002.09797, eq. 3 and 6. k = 5 as there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import pairwise_distances

from model.arrays import Doubles, Features
from model.lab.evaluation.figures import Better

K = 5


@dataclass(frozen=True)
class Manifolds:
    """Per image, whether it lies in the others' balls; means of these are the four figures.

    precision, density [n_generated]; recall, coverage [n_real]; all float64.
    """

    precision: Doubles
    recall: Doubles
    density: Doubles
    coverage: Doubles


def manifolds(real: Features, generated: Features, k: int = K) -> Manifolds:
    """A ball reaches to the k-th nearest other image of the same kind, border included."""
    between = distances(real, generated)
    in_real = between <= radii(real, k)[:, None]
    in_generated = between <= radii(generated, k)[None, :]
    return Manifolds(
        precision=np.asarray(in_real.any(axis=0), np.float64),
        recall=np.asarray(in_generated.any(axis=1), np.float64),
        density=in_real.sum(axis=0) / k,
        coverage=np.asarray(in_real.any(axis=1), np.float64),
    )


def radii(features: Features, k: int) -> Doubles:
    """[n]: the distance of each row to its k-th nearest other row."""
    own = distances(features, features)
    np.fill_diagonal(own, -1.0)  # itself always first
    return np.asarray(np.partition(own, k, axis=1)[:, k])


def distances(x: Features, y: Features) -> Doubles:
    """Euclidean distances [n, m] in float64."""
    matrix = pairwise_distances(x.astype(np.float64), y.astype(np.float64))
    return np.asarray(matrix, np.float64)


@dataclass(frozen=True)
class Neighbours:
    """The four figures as one metric of two sets."""

    names: tuple[str, ...] = ("precision", "recall", "density", "coverage")
    better: Better = "higher"
    least: float = 0.0
    is_mean: bool = True
    source: str = "Kynkäänniemi et al. 2019; Naeem et al. 2020, arXiv 2002.09797; k = 5"

    def needed(self, width: int) -> int:
        """Images of each kind, whatever the features' width."""
        return K + 1

    def values(self, real: Features, generated: Features) -> Doubles:
        """[4], in the order of `names`."""
        found = manifolds(real, generated)
        return np.array([getattr(found, name).mean() for name in self.names])

    def spread(
        self, real: Features, generated: Features, weights: tuple[Doubles, Doubles]
    ) -> Doubles:
        """[R, 4]: the counted images are resampled, the balls stay.

        A copy of an image would be at distance 0 from it and shrink the balls.
        """
        found = manifolds(real, generated)
        of = {"precision": 1, "density": 1, "recall": 0, "coverage": 0}
        columns = [_mean(getattr(found, name), weights[of[name]]) for name in self.names]
        return np.stack(columns, axis=1)


def _mean(values: Doubles, weights: Doubles) -> Doubles:
    return np.asarray(weights @ values / np.maximum(weights.sum(axis=1), 1))
