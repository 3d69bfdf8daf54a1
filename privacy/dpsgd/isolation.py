"""A test of whether a place's gradient depends on what other places hold, or on the place itself.

What `ClippingEngine.gradients` promises depends on the vendor's kernels for exactly these layers
and shapes. So it is tested before any patient's row is used: on the device itself, with made-up
rows, at an adapter as large as a hostile coordinator might send.
"""

# Why: docs/adr/0014-one-shape-for-all-batches.md

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch

_SEED: Final = 5  # of the permutations that are tested


class Filler(IntEnum):
    """What the places of the others are filled with. Negative, unlike a card's number."""

    BLANK = -1
    NOISE = -2
    NOT_FINITE = -3
    HUGE = -4  # 1e38: overflows in the first layer
    DENORMAL = -5


Deal: TypeAlias = Callable[[NDArray[np.int64]], PhysicalBatch]
"""From what each place holds, int64 [places], to the batch: a card c >= 0, which always has the
same rows, or a `Filler`. Every place counts as taken."""


@dataclass(frozen=True)
class Isolation:
    """What was found. The first is always required; both are where places depend on the draw."""

    in_place: bool  # not one bit of a place's gradient changes, whatever the others hold
    permuted: bool  # nor where the places are exchanged


def finite_share(engine: ClippingEngine, deal: Deal, places: int) -> float:
    """Share of the cards with finite gradients: a test says little about the others."""
    found = engine.gradients(deal(np.arange(places)))
    return float((found.usable & found.values.isfinite().all(dim=1)).double().mean())


def card_bits(engine: ClippingEngine, deal: Deal, places: int) -> str:
    """SHA-256, in hex, of the bits that every other card gives among fillers, the worst first.

    It tells one arithmetic from another, and changes where a filler reaches a card.
    """
    cards = np.arange(places)
    worst = (Filler.NOT_FINITE, Filler.HUGE, Filler.DENORMAL, Filler.NOISE, Filler.BLANK)
    fillers = np.resize([int(filler) for filler in worst], places)
    standing = np.where(cards % 2 == 0, cards, fillers[cards // 2])
    found = _bits(engine, deal(standing))[torch.from_numpy(standing >= 0)]
    return hashlib.sha256(found.numpy().tobytes()).hexdigest()


def isolation_of(engine: ClippingEngine, deal: Deal, places: int) -> Isolation:
    """Nine batches: all cards; half of them among all fillers, in two orders; one card alone among
    blanks, first and last; all cards in two other orders.
    """
    cards = np.arange(places)
    wanted = _bits(engine, deal(cards))

    def kept(standing: NDArray[np.int64]) -> bool:
        found, there = _bits(engine, deal(standing)), torch.from_numpy(standing >= 0)
        return torch.equal(found[there], wanted[torch.from_numpy(standing)[there]])

    in_place = all(map(kept, _among_fillers(cards)))
    others = (cards[::-1].copy(), np.random.default_rng(_SEED).permutation(places))
    return Isolation(in_place, permuted=in_place and all(map(kept, others)))


def _among_fillers(cards: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    fillers = np.resize([int(filler) for filler in Filler], len(cards) + 1)
    for half in (0, 1):
        for turned in (fillers[: len(cards)], fillers[::-1][: len(cards)]):
            yield np.where(cards % 2 == half, cards, turned)
    for alone in (0, len(cards) - 1):
        yield np.where(cards == alone, cards, int(Filler.BLANK))


def _bits(engine: ClippingEngine, batch: PhysicalBatch) -> torch.Tensor:
    """The gradients' bits and whether they are usable, int32 [places, P + 1]; on the CPU."""
    found = engine.gradients(batch)
    usable = found.usable[:, None].to(torch.int32)
    return torch.cat([found.values.view(torch.int32), usable], dim=1).cpu()
