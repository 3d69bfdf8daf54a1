"""Maximum mean discrepancies (Gretton et al. 2012) between features: KID and CMMD."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from model.arrays import Doubles, Features
from model.lab.evaluation.figures import Better
from model.lab.evaluation.frechet import AlreadyEncoded
from model.quality.alignment import unit_rows

Kernel: TypeAlias = Callable[[Doubles, Doubles], Doubles]  # [n, E], [m, E] -> [n, m]

_SUBSET = 1000  # images; Binkowski et al. 2018, section 4.1, as torchmetrics
_SUBSETS = 20
_CHUNK = 2048  # rows of a kernel matrix at once
CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0  # Jayasumana et al. 2024, section 4


def polynomial(x: Doubles, y: Doubles) -> Doubles:
    """k(x, y) = (x.y / E + 1)^3 (Binkowski et al. 2018, eq. 3)."""
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def gaussian(x: Doubles, y: Doubles) -> Doubles:
    """k(x, y) = exp(-|x - y|^2 / (2 sigma^2)), sigma = 10 (Jayasumana et al. 2024, eq. 5)."""
    # |x - y|^2 as three products: the differences themselves would be n x m x E numbers.
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    # Which can round to a little below 0 for equal images.
    return np.asarray(np.exp(-np.maximum(squares, 0) / (2 * CMMD_SIGMA**2)))


@dataclass(frozen=True)
class KernelDistance:
    """KID: unbiased MMD^2 with the cubic kernel; may be a little below 0 for equal sets."""

    names: tuple[str, ...] = ("kid",)
    better: Better = "lower"
    least: float = -np.inf
    is_mean: bool = False
    source: str = "Binkowski et al. 2018, arXiv 1801.01401"

    def needed(self, width: int) -> int:
        """Images of each kind, whatever the features' width."""
        return 2

    def values(self, real: Features, generated: Features) -> Doubles:
        """[1]: by torchmetrics, over all images at once if both sets have the same size."""
        from torchmetrics.image.kid import KernelInceptionDistance

        size = min(len(real), len(generated), _SUBSET)
        # All images if there are equally many: subsets, the paper's way to bound the cost, would
        # only add chance.
        subsets = 1 if len(real) == len(generated) == size else _SUBSETS
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", UserWarning)  # that it keeps the features
            torch.manual_seed(0)  # of the subsets
            module = AlreadyEncoded(real.shape[1])
            metric = KernelInceptionDistance(feature=module, subsets=subsets, subset_size=size)
            metric.update(torch.from_numpy(real).double(), real=True)
            metric.update(torch.from_numpy(generated).double(), real=False)
            return np.array([float(metric.compute()[0])])

    def spread(
        self, real: Features, generated: Features, weights: tuple[Doubles, Doubles]
    ) -> Doubles:
        """[R, 1] under multiplicities; copies of one image are never a pair."""
        return discrepancies(polynomial, real, generated, weights, unbiased=True)[:, None]


@dataclass(frozen=True)
class ClipDiscrepancy:
    """CMMD: 1000 x MMD^2 with a Gaussian kernel on L2-normalised image-text embeddings.

    The V-statistic, as its authors compute it: 0 for equal sets, never negative.
    """

    names: tuple[str, ...] = ("cmmd",)
    better: Better = "lower"
    least: float = 0.0
    is_mean: bool = False
    source: str = "Jayasumana et al. 2024, arXiv 2401.09603"

    def needed(self, width: int) -> int:
        """Images of each kind, whatever the features' width."""
        return 2

    def values(self, real: Features, generated: Features) -> Doubles:
        """[1]: on features that are normalised once more, to be safe."""
        ones = (np.ones((1, len(real))), np.ones((1, len(generated))))
        value: Doubles = self.spread(real, generated, ones)[0]
        return value

    def spread(
        self, real: Features, generated: Features, weights: tuple[Doubles, Doubles]
    ) -> Doubles:
        """[R, 1] under bootstrap multiplicities [R, n] of each kind."""
        x, y = unit_rows(real), unit_rows(generated)
        return np.asarray(
            CMMD_SCALE * discrepancies(gaussian, x, y, weights, unbiased=False)[:, None]
        )


def discrepancies(
    kernel: Kernel,
    x: Features,
    y: Features,
    weights: tuple[Doubles, Doubles],
    *,
    unbiased: bool,
) -> Doubles:
    """MMD^2 [R] (Gretton et al. 2012, eq. 3 and, with diagonals, 5) under multiplicities.

    The kernel is summed chunk by chunk against all R weightings: memory is O(n R), not O(n^2).
    """
    first, second = weights
    within = _average(kernel, x, first, unbiased) + _average(kernel, y, second, unbiased)
    totals = first.sum(axis=1) * second.sum(axis=1)
    between = _bilinear(kernel, (x, first), (y, second)) / np.maximum(totals, 1)
    return np.asarray(within - 2 * between)


def _average(kernel: Kernel, x: Features, weights: Doubles, unbiased: bool) -> Doubles:
    """Mean kernel over pairs within one set, without pairs of an image with itself if unbiased."""
    total = _bilinear(kernel, (x, weights), (x, weights))
    pairs = weights.sum(axis=1) ** 2
    if unbiased:  # eq. 3: an image and itself, or a copy of it, are not a pair
        own = np.array([kernel(row[None], row[None])[0, 0] for row in x.astype(np.float64)])
        total, pairs = total - weights**2 @ own, pairs - (weights**2).sum(axis=1)
    return np.asarray(total / np.maximum(pairs, 1))


def _bilinear(
    kernel: Kernel, first: tuple[Features, Doubles], second: tuple[Features, Doubles]
) -> Doubles:
    """Sums [R] of u_i k(x_i, y_j) v_j over all i, j, for each pair of weightings u, v."""
    (x, u), (y, v) = first, second
    sums = np.zeros(len(u))
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        matrix = kernel(x[part].astype(np.float64), y.astype(np.float64))
        sums += np.einsum("ri,ri->r", u[:, part], v @ matrix.T)  # each entry serves all weightings
    return sums
