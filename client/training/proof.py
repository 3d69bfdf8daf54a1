"""The rows and the adapter with which `privacy.dpsgd.isolation` tests a device."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.layout import Layout
from model.losses import Rows, each
from privacy.dpsgd.isolation import Filler

_SEED: Final = 1
_ATTENDING: Final = (".to_q.", ".to_k.")
SHARPENINGS: Final = (24.0, 6.0, 1.0)
"""Of the factors of queries and keys, the largest first: where it leaves hardly any finite
gradient, the next one reveals more."""


def large_vector(
    layout: Layout, *, sharpened: float = SHARPENINGS[0], seed: int = _SEED
) -> NDArray[np.float32]:
    """An adapter [P] that amplifies rounding: normal factors, larger ones for queries and keys.

    Attention becomes a choice of one token, and a last bit decides which.
    """
    random = np.random.default_rng(seed)
    parts = []
    for entry in layout.entries:
        factor = sharpened if any(name in entry.name for name in _ATTENDING) else 1.0
        parts.append(factor * random.standard_normal(int(np.prod(entry.shape))))
    return np.concatenate(parts).astype(np.float32)


class Cards:
    """Made-up rows of cards and fillers, in the shapes of a site's own."""

    def __init__(self, like: Rows, places: int, rows_each: int, timesteps: int) -> None:
        """`like`: one row or more in the site's shapes; their contents are not used."""
        self._shape = (places, rows_each)
        random = np.random.default_rng(_SEED)
        self._cards, self._others = (
            each(partial(_made_up, places * rows_each, timesteps, random), like) for _ in range(2)
        )

    def dealt(self, standing: NDArray[np.int64]) -> Rows:
        """The rows of a batch in which place p holds card or filler `standing[p]`."""
        cards = torch.from_numpy(np.maximum(standing, 0))
        fillers = torch.from_numpy(standing).repeat_interleave(self._shape[1])

        def deal(own: Tensor, others: Tensor) -> Tensor:
            rows = own.view(*self._shape, *own.shape[1:])[cards].flatten(0, 1)
            for filler in Filler:
                there = (fillers == filler).view(-1, *[1] * (rows.dim() - 1))
                rows = torch.where(there, _filling(filler, others), rows)
            return rows

        return each(deal, self._cards, self._others)


def _made_up(count: int, timesteps: int, random: np.random.Generator, like: Tensor) -> Tensor:
    """`count` rows of the shapes and types of `like`: normal numbers, or timesteps."""
    shape = (count, *like.shape[1:])
    if like.is_floating_point():
        return torch.from_numpy(random.standard_normal(shape, dtype=np.float32)).to(like.dtype)
    return torch.from_numpy(random.integers(0, timesteps, shape))


def _filling(filler: Filler, noise: Tensor) -> Tensor:
    if filler is Filler.NOISE:
        return noise
    if not noise.is_floating_point():
        return torch.zeros_like(noise)
    return torch.full_like(noise, _VALUES[filler], dtype=torch.float32).to(noise.dtype)


_VALUES: Final = {
    Filler.BLANK: 0.0,
    Filler.NOT_FINITE: float("nan"),
    Filler.HUGE: 1e38,  # infinite in half precision
    Filler.DENORMAL: 1e-40,
}
