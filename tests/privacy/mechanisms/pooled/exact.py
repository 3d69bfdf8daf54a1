"""The privacy of a few numbers of a pooled sum, computed exactly: no lemma, no accountant.

Every site's share is tabulated as a discrete Gaussian at its real centre, the tables are convolved
over the sites, and the losses of all coordinates, steps and retries are convolved in turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.mechanisms.pooled import PooledTerms
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.share import centres_of

Floats = NDArray[np.float64]
CLIP = 2**30  # of a sum's integers
_REACH = 11  # deviations of a share that are tabulated
_CELL = 4e-4  # of the grid of losses; each is split between two cells, so that means stay


@dataclass(frozen=True)
class Table:
    """Probabilities of the integers from `first` on."""

    first: int
    chances: Floats

    def plus(self, other: Table) -> Table:
        """Of the sum of two independent integers."""
        return Table(self.first + other.first, np.convolve(self.chances, other.chances))


Pair = tuple[Floats, Floats]  # probabilities with the patient and without, of the same outputs


def share(centre: float, deviation: float) -> Table:
    """D(Z, deviation, centre)."""
    low, high = (math.floor(centre + side * _REACH * deviation) for side in (-1, 1))
    weights = np.exp(-((np.arange(low, high + 1) - centre) ** 2) / (2 * deviation**2))
    return Table(low, weights / weights.sum())


def summed(centres: Iterable[float], deviations: Sequence[float]) -> Table:
    """Of the sum of shares with these centres."""
    first, *others = (share(*one) for one in zip(centres, deviations, strict=True))
    for table in others:
        first = first.plus(table)
    return first


def aligned(one: Table, other: Table) -> Pair:
    """Both over the same integers."""
    low = min(one.first, other.first)
    high = max(table.first + len(table.chances) for table in (one, other))
    made = []
    for table in (one, other):
        padded = np.full(high - low, 1e-150)  # beyond the tables is e^-60 and less
        padded[table.first - low :][: len(table.chances)] = np.maximum(table.chances, 1e-150)
        made.append(padded)
    return made[0], made[1]


def step(
    terms: PooledTerms,
    cohort: int,
    others: NDArray[np.int64],
    patient: NDArray[np.int64],
    *,
    known: int,
    deviations: Sequence[float] | None = None,
) -> list[Pair]:
    """A pair for each coordinate of a step, as those see it who know `known` sites' shares.

    `others` int64 [sites, P] are the sums of the others' patients, `patient` int64 [P] belongs to
    the first site; those with the last numbers are known. `deviations`, in grid units, are the
    terms' own unless an error is planted.
    """
    grid = PooledGrid.of(terms, cohort, bytes(range(32)))
    own = terms.deviation(cohort) / 2**16
    widths = [own] * cohort if deviations is None else list(deviations)
    unit = 2.0**grid.centre_bits
    sites = cohort - known
    made = np.array([centres_of(total, grid) for total in others[:sites]]) / unit
    moved = made.copy()
    moved[0] = centres_of(others[0] + patient, grid) / unit
    return [
        aligned(summed(after, widths[:sites]), summed(before, widths[:sites]))
        for after, before in zip(moved.T, made.T, strict=True)
    ]


def exact_epsilon(pairs: Sequence[tuple[Pair, int]], delta: float) -> float:
    """Epsilon of all pairs together, each so many times, in the worse of the two directions."""
    swapped = [((after, before), times) for (before, after), times in pairs]
    return max(_epsilon(pairs, delta), _epsilon(swapped, delta))


def _epsilon(pairs: Sequence[tuple[Pair, int]], delta: float) -> float:
    spectra, mean, variance, low = [], 0.0, 0.0, 0
    for (p, r), times in pairs:
        loss = np.log(p) - np.log(r)
        average = float(p @ loss)
        mean += times * average
        variance += times * float(p @ (loss - average) ** 2)
        spectra.append((p, loss, times))
    size = 1 << math.ceil(math.log2(30 * math.sqrt(variance) / _CELL + 10))
    product = np.ones(size // 2 + 1, complex)
    for p, loss, times in spectra:
        index = np.floor(loss / _CELL).astype(int)
        part = loss / _CELL - index
        one = np.bincount(index % size, p * (1 - part), size)
        one += np.bincount((index + 1) % size, p * part, size)
        product *= np.fft.rfft(one) ** times
    whole = np.fft.irfft(product, size).clip(min=0)
    losses = low + np.arange(size)
    losses = (losses + size * np.round((mean / _CELL - losses) / size)) * _CELL

    def beyond(epsilon: float) -> float:
        above = losses > epsilon
        return float(whole[above] @ -np.expm1(epsilon - losses[above]))

    least, most = 0.0, float(losses.max())
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (middle, most) if beyond(middle) > delta else (least, middle)
    return most
