"""Frechet distance between Gaussians fitted to features of real and of generated images.

d^2 = |mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2)): Dowson and Landau 1982, eq. 16; of
Inception features: FID, Heusel et al. 2017, arXiv 1706.08500, eq. 6. Here of any encoder's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from model.arrays import Doubles, Features
from model.lab.evaluation.figures import Better


class AlreadyEncoded(nn.Module):
    """What torchmetrics takes as its network when the features [n, E] already exist."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """The features themselves."""
        return features


@dataclass(frozen=True)
class Frechet:
    """See the module. With fewer images than features the covariances are singular."""

    names: tuple[str, ...] = ("frechet",)
    better: Better = "lower"
    least: float = 0.0
    is_mean: bool = False
    source: str = "Heusel et al. 2017, arXiv 1706.08500"

    def needed(self, width: int) -> int:
        """Images of each kind for features of this width."""
        return width + 1

    def values(self, real: Features, generated: Features) -> Doubles:
        """[1]: the distance by torchmetrics, in float64."""
        from torchmetrics.image.fid import FrechetInceptionDistance

        metric = FrechetInceptionDistance(feature=AlreadyEncoded(real.shape[1]), normalize=True)
        metric.set_dtype(torch.float64)
        metric.update(torch.from_numpy(real).double(), real=True)
        metric.update(torch.from_numpy(generated).double(), real=False)
        return np.array([float(metric.compute())])

    def spread(
        self, real: Features, generated: Features, weights: tuple[Doubles, Doubles]
    ) -> Doubles:
        """[R, 1]: the distance under bootstrap multiplicities [R, n] of each kind."""
        pairs = zip(*weights, strict=True)
        return np.array([[weighted_frechet(real, generated, *pair)] for pair in pairs])


def weighted_frechet(
    real: Features, generated: Features, real_weights: Doubles, generated_weights: Doubles
) -> float:
    """The distance where row i stands weights[i] times; NaN below two images of a kind.

    tr (S_r S_g)^(1/2) is the sum of the singular values of F_r F_g^T for any factors with
    S = F^T F, so no square root of an unsymmetric product is needed.
    """
    if min(real_weights.sum(), generated_weights.sum()) < 2:
        return float("nan")
    mean_r, factor_r = _moments(real, real_weights)
    mean_g, factor_g = _moments(generated, generated_weights)
    # |F_r|^2 = tr S_r, without forming the E x E covariances.
    cross = np.linalg.svd(factor_r @ factor_g.T, compute_uv=False).sum()
    apart = np.square(mean_r - mean_g).sum()
    return float(apart + np.square(factor_r).sum() + np.square(factor_g).sum() - 2 * cross)


def _moments(features: Features, weights: Doubles) -> tuple[Doubles, Doubles]:
    """Mean [E] and a factor F [min(n, E), E] of the unbiased covariance F^T F."""
    rows = weights > 0
    x, w = features[rows].astype(np.float64), weights[rows, None]
    mean = (w * x).sum(axis=0) / w.sum()
    factor = np.sqrt(w / (w.sum() - 1)) * (x - mean)
    if len(factor) > x.shape[1]:  # R of Q R has R^T R = F^T F, in E rows instead of n
        factor = np.asarray(np.linalg.qr(factor, mode="r"))
    return mean, factor
