"""The terms of the losses, in the notation of docs/stage-two.md: pure functions, one number a row.

Each maps rows to rows; row i of a result depends on row i of the arguments alone. None has
trainable parameters: a head next to the adapter would multiply the number of noised ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

# Variance below which a channel says nothing, in units of the features; and one below which a text
# has no effect, in units of the prediction, which is about 1.
_SMALL: Final = 1e-6
_LEAST: Final = 1e-12  # keeps the root of an empty sum of squares differentiable


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """|target - predicted|^2, the mean over a row's elements [n] (Ho et al. 2020, eq. 14).

    Of eps against eps_theta: denoising; of eps_theta against eps_base: the drift suppressor.
    """
    return (predicted.float() - target).square().flatten(1).mean(dim=1)


def correlations(tokens: Tensor) -> Tensor:
    """R = X X^T, [n, N, N], of tokens [n, channels, h, w] (N = h w).

    X is z-scored: each channel over the row's own N tokens, and each token scaled to length 1
    afterwards. Without the centring, cosines of such features sit at 0.999 and teach nothing.
    A constant channel does not count; tokens that are all alike lead to zeros.
    """
    # In half precision the sums over tokens and channels would be too coarse to compare.
    with torch.autocast(tokens.device.type, enabled=False):
        x = tokens.float().flatten(2)
        # Over a channel's tokens, unlike the layer norms of networks, and without parameters.
        x = functional.layer_norm(x, x.shape[2:], eps=_SMALL)
        gram = x.transpose(1, 2) @ x
        # Scaled here and not in X, which has more numbers: half the time of the backward pass.
        scale = (gram.diagonal(dim1=1, dim2=2) + _LEAST).rsqrt()
        return gram * scale[:, :, None] * scale[:, None, :]


def above_diagonal(r: Tensor) -> Tensor:
    """The strict upper triangle of R [n, N, N], row by row: [n, N (N - 1) / 2]."""
    return r.flatten(1).index_select(1, _places(r.shape[1], str(r.device)))


def pearson(r: Tensor, reference: Tensor) -> Tensor:
    """rho [n], in -1..1: correlation of the strict upper triangles of two R of each row.

    `r` [n, N, N]; `reference` [n, N (N - 1) / 2] as by `above_diagonal`, which gets no gradient.
    0 where one of them does not vary.
    """
    places, pairs = _places(r.shape[1], str(r.device)), reference.shape[1]
    y = reference - reference.mean(dim=1, keepdim=True)
    y = y * (y.square().sum(dim=1, keepdim=True) + _LEAST).rsqrt()
    # Both laid out as R is: then its gradient is a product instead of a scatter.
    flat = r.flatten(1)
    # y is centred, so r need not be: sum (r - mean r) y = sum r y.
    shared = (flat * torch.zeros_like(flat).index_copy_(1, places, y)).sum(dim=1)
    counted = torch.zeros_like(flat[0]).index_fill_(0, places, 1.0)
    variation = flat.square() @ counted - (flat @ counted).square() / pairs
    # A difference of two sums can round to a little below 0.
    return shared * (variation.clamp(min=0) + _LEAST).rsqrt()


def effect_correlation(own: Tensor, known: Tensor) -> Tensor:
    """rho [n], in -1..1: how two effects [n, c, h, w] agree over places and channels.

    Pearson's, with each channel centred over the row's own places: what a text does to the colour
    of the whole picture does not count. About 0, with a gradient that is not large, where one of
    them does next to nothing. `known` gets no gradient.
    """
    with torch.autocast(own.device.type, enabled=False):
        d, wanted = _centred(own), _centred(known)
        lengths = (d.square().mean(dim=1) + _SMALL) * (wanted.square().mean(dim=1) + _SMALL)
        return (d * wanted).mean(dim=1) * lengths.rsqrt()


def hinge(rho: Tensor, margin: float) -> Tensor:
    """relu(m - rho) [n]: beyond the margin nothing more is asked."""
    return (margin - rho).relu()


def contrast(own: Tensor, others: Sequence[Tensor], alike: Tensor, temperature: float) -> Tensor:
    """-log softmax of a row's own caption by -error / tau, among its K public captions: [n].

    (SoftREPA: Lee et al. 2025, arXiv 2503.08250, with public negatives instead of the batch's.)
    `own` [n] and each of `others` [n] are denoising errors of one (z_t, t, eps) under the own and
    a public caption; `alike` bool [n, K] marks public captions that are the row's own: left out.
    """
    # The own caption is first, and never masked: a row has at least one logit, so no NaN.
    errors = torch.stack([own, *others], dim=1)
    logits = -errors / temperature
    logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(alike, -torch.inf)], dim=1)
    losses: Tensor = -logits.log_softmax(dim=1)[:, 0]
    return losses


def _centred(effect: Tensor) -> Tensor:
    """Each channel less its mean over the places: [n, c h w] of [n, c, h, w]."""
    x = effect.float().flatten(2)
    return (x - x.mean(dim=2, keepdim=True)).flatten(1)


@lru_cache(maxsize=8)
def _places(count: int, device: str) -> Tensor:
    """Places of the strict upper triangle in a flat matrix [count, count]."""
    row, column = torch.triu_indices(count, count, offset=1)
    places: Tensor = row * count + column
    return places.to(device)
