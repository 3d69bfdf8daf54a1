"""Who is who: halves without a common patient, and resampling by patient.

Tiles of one patient resemble each other, so splitting or resampling tile by tile flatters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.arrays import Doubles, Groups
from model.quality.alignment import TooFewError

DEFAULT_RESAMPLES = 200
HALVINGS = 8
_LEVELS = (2.5, 97.5)  # percentiles of a 95 % interval


@dataclass(frozen=True)
class Resampling:
    """Bootstrap multiplicities: how often each image occurs in each of R resamples.

    real float64 [R, n_real], generated float64 [R, n_generated].
    """

    real: Doubles
    generated: Doubles


def resample(
    real: Groups, generated: Groups, *, paired: bool, resamples: int, seed: int
) -> Resampling:
    """Draw patients with replacement, all of a patient's images with them (cluster bootstrap).

    Paired: a generated image comes and goes with the patient whose caption it was drawn from.
    """
    rng = np.random.default_rng([seed, 1])
    if not paired:
        return Resampling(
            multiplicities(real, resamples, rng), multiplicities(generated, resamples, rng)
        )
    both = multiplicities(np.concatenate([real, generated]), resamples, rng)
    return Resampling(both[:, : len(real)], both[:, len(real) :])


def multiplicities(groups: Groups, resamples: int, rng: np.random.Generator) -> Doubles:
    """[R, n] float64: how often each row occurs in each resample of the groups."""
    names, index = np.unique(groups, return_inverse=True)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return draws[:, index].astype(np.float64)


def percentiles(spread: Doubles) -> tuple[float, float]:
    """The percentile interval of resampled means (Efron 1979). NaNs are left out."""
    finite = spread[np.isfinite(spread)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, _LEVELS)
    return float(low), float(high)


def interval(value: float, spread: Doubles) -> tuple[float, float]:
    """The percentile interval of resampled distances, moved so that its middle is `value`.

    Resamples repeat patients, and repeated images shift a distance between sets (never a mean):
    the resamples show how far the figure scatters, not where it is. NaNs are left out.
    """
    low, high = percentiles(spread)
    shift = value - float(np.nanmean(spread)) if np.isfinite(low) else 0.0
    return low + shift, high + shift


def mean_interval(values: Doubles, weights: Doubles) -> tuple[float, float, float]:
    """(mean, low, high) of values [n] under multiplicities [R, n]."""
    totals = weights.sum(axis=1)
    spread = np.divide(weights @ values, totals, out=np.full(len(totals), np.nan), where=totals > 0)
    return float(values.mean()), *percentiles(spread)


def halves(patients: Groups, rng: np.random.Generator) -> tuple[Groups, Groups]:
    """Rows of two halves with no patient in common, cut to the same number of images.

    Half of the images, not of the patients: a patient may have one tile or many.
    Raises `TooFewError` for fewer than two patients.
    """
    names, counts = np.unique(patients, return_counts=True)
    if len(names) < 2:
        raise TooFewError(
            "All real images are one patient's: nothing can be split by patient.",
            "Give tiles of at least two patients.",
        )
    order = rng.permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    in_first = before + counts[order] / 2 <= counts.sum() / 2
    in_first[0], in_first[-1] = True, False
    rows = np.isin(patients, names[order[in_first]])
    return _cut(np.flatnonzero(rows), np.flatnonzero(~rows), rng)


def _cut(first: Groups, second: Groups, rng: np.random.Generator) -> tuple[Groups, Groups]:
    size = min(len(first), len(second))
    return rng.permutation(first)[:size], rng.permutation(second)[:size]
