"""The terms of the losses, in the notation of docs/stage-two.md: pure functions, one number a row.

Each takes and gives rows; row i of a result depends on row i of the arguments alone. None has a
parameter that is trained: a head beside the adapter would multiply the noised parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

_SMALL: Final = 1e-6  # variance of a channel that says nothing, in units of the features
_LEAST: Final = 1e-12  # what keeps the root of an empty sum of squares differentiable


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """|target - predicted|^2, the mean over a row's elements [n] (Ho et al. 2020, eq. 14).

    Of eps against eps_theta: denoising; of eps_theta against eps_base: the drift suppressor.
    """
    return (predicted.float() - target).square().flatten(1).mean(dim=1)


def correlations(tokens: Tensor) -> Tensor:
    """R = X X^T above its diagonal, [n, N (N - 1) / 2], of tokens [n, channels, h, w] (N = h w).

    X is z-scored: each channel over the row's own N tokens, and each token scaled to length 1
    afterwards. Without the centring, cosines of such features sit at 0.999 and teach nothing.
    A channel that is constant counts for nothing; tokens that are all alike give zeros.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        x = tokens.float().flatten(2)
        x = x - x.mean(dim=2, keepdim=True)
        x = x * (x.square().mean(dim=2, keepdim=True) + _SMALL).rsqrt()
        x = functional.normalize(x, dim=1, eps=_SMALL)
        gram = x.transpose(1, 2) @ x
        count = gram.shape[1]
        return gram.flatten(1).index_select(1, _above_diagonal(count, str(gram.device)))


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """rho [n], in -1..1: the correlation of each row of `a` [n, m] with that row of `b`.

    0 where one of them does not vary.
    """
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    lengths = a.square().sum(dim=1) * b.square().sum(dim=1)
    return (a * b).sum(dim=1) * (lengths + _LEAST).rsqrt()


def hinge(rho: Tensor, margin: float) -> Tensor:
    """l_corr = relu(m - rho) [n]: beyond the margin nothing is asked any more."""
    return (margin - rho).relu()


def contrast(own: Tensor, others: Sequence[Tensor], alike: Tensor, temperature: float) -> Tensor:
    """-log softmax of a row's own caption by -error / tau, among its K public captions: [n].

    (SoftREPA: Lee et al. 2025, arXiv 2503.08250, with public negatives instead of the batch's.)
    `own` [n] and each of `others` [n] are denoising errors of one (z_t, t, eps) under the own and
    a public caption; `alike` bool [n, K] marks public captions that are the row's own: left out.
    """
    errors = torch.stack([own, *others], dim=1)
    logits = -errors / temperature
    logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(alike, -torch.inf)], dim=1)
    losses: Tensor = -logits.log_softmax(dim=1)[:, 0]
    return losses


@lru_cache(maxsize=8)
def _above_diagonal(count: int, device: str) -> Tensor:
    """Places of the strict upper triangle in a flat matrix [count, count]."""
    row, column = torch.triu_indices(count, count, offset=1)
    places: Tensor = row * count + column
    return places.to(device)
