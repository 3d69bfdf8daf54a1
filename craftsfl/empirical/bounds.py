"""What counts of right and wrong guesses say about a mechanism: pure statistics.

Two judgements. Against a *trade-off curve*: an attacker who accuses, wrongly, a share alpha of
those who were absent recognises at most a share f(alpha) of those who were there (Dong, Roth and Su
2022, arXiv 1905.02383). And a lower bound on epsilon from *one run* with many canaries (Steinke,
Nasr and Jagielski 2023, arXiv 2305.08846, Theorem 5.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from privacy.accounting import tradeoff
from privacy.events import Event

ERROR: Final = 1e-3
"""The chance of any false alarm of one judgement of a curve, over all of its points."""

CONFIDENCE: Final = 0.95
"""Of the one-run bound, over all numbers of guesses that are tried."""

_EVERYWHERE: Final = 1e-9  # the least rate at which a curve is asked for
_MOST_EPSILON: Final = 64.0
_HALVINGS: Final = 30  # of 64
_GUESSED: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # shares of the canaries that are guessed about


def exact_interval(hits: int, tries: int, error: float) -> tuple[float, float]:
    """Where a probability lies, given `hits` of `tries`; each end is wrong once in 1 / `error`.

    Clopper and Pearson 1934: by the binomial itself, for any number of tries.
    """
    low = 0.0 if hits == 0 else float(beta.ppf(error, hits, tries - hits + 1))
    high = 1.0 if hits == tries else float(beta.isf(error, hits + 1, tries - hits))
    return low, high


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One way to accuse, what it achieved, and what the claim allows.

    `fpr`, `tpr`: shares wrongly and rightly accused. `fpr_most`, `tpr_least`: the ends of their
    intervals that favour the mechanism. `allowed`: the claim's largest true-positive rate at
    `fpr_most`.
    """

    threshold: float
    above: bool  # whether scores above the threshold accuse of having been there
    fpr: float
    tpr: float
    fpr_most: float
    tpr_least: float
    allowed: float

    @property
    def broken(self) -> bool:
        """Whether the claim cannot be true, but for the chance of error."""
        return self.tpr_least > self.allowed


@dataclass(frozen=True, slots=True)
class Judgement:
    """All points of one curve. The chance that any is broken under a true claim is `error`."""

    points: tuple[CurvePoint, ...]
    present: int  # canaries that were there, over all releases
    absent: int
    error: float

    @property
    def broken(self) -> int:
        """How many points break the curve."""
        return sum(point.broken for point in self.points)


def judged(
    there: NDArray[np.float64],
    away: NDArray[np.float64],
    claim: Sequence[Event],
    thresholds: Sequence[float],
    error: float = ERROR,
) -> Judgement:
    """Scores of canaries that were `there` and `away`, against the curve of `claim`.

    `thresholds` are chosen before the scores are seen. Each gives two points, one of which accuses
    of absence. Of each point two intervals are right at once, so an interval may be wrong with
    `error` / (4 times the thresholds): by the union bound, which needs no independence of points.
    Raises `AccountingError` for a claim that cannot be accounted for.
    """
    share = error / (4 * len(thresholds))
    counted = []
    for threshold in thresholds:
        above = int((there > threshold).sum()), int((away > threshold).sum())
        below = len(away) - above[1], len(there) - above[0]
        counted.append((threshold, True, (above[1], len(away)), (above[0], len(there))))
        counted.append((threshold, False, (below[1], len(there)), (below[0], len(away))))
    most = [exact_interval(*wrong, share)[1] for _, _, wrong, _ in counted]
    curve = tradeoff(claim, [max(rate, _EVERYWHERE) for rate in most])
    points = tuple(
        CurvePoint(
            threshold,
            above,
            fpr=wrong[0] / wrong[1],
            tpr=right[0] / right[1],
            fpr_most=rate,
            tpr_least=exact_interval(*right, share)[0],
            allowed=bound.tpr,
        )
        for (threshold, above, wrong, right), rate, bound in zip(counted, most, curve, strict=True)
    )
    return Judgement(points, len(there), len(away), error)


@dataclass(frozen=True, slots=True)
class OneRunBound:
    """What a single release shows of epsilon; no verdict.

    Of `canaries`, each there with probability 1/2, `guesses` were guessed about and `right` of them
    rightly: a share in `accuracy`, 95 %. `epsilon` is a lower bound at `delta`, 0 where nothing
    can be said; `ceiling` what it would be if every guess had been right: no run with so many
    canaries can show more.
    """

    canaries: int
    guesses: int
    right: int
    accuracy: tuple[float, float]
    epsilon: float
    ceiling: float
    delta: float
    confidence: float


def one_run_bound(
    scores: NDArray[np.float64],
    present: NDArray[np.bool_],
    delta: float,
    confidence: float = CONFIDENCE,
) -> OneRunBound:
    """From each canary's score (larger where it seems to have been there) in one release.

    The highest and the lowest scores are guessed about, for six numbers of guesses; the best bound
    counts, at (1 - `confidence`) / 6 each.
    """
    order, error = np.argsort(scores), (1 - confidence) / len(_GUESSED)
    found, ceilings = [], []
    for share in _GUESSED:
        half = max(1, round(share * len(scores) / 2))
        right = int(present[order[-half:]].sum() + (~present[order[:half]]).sum())
        epsilon = _least_epsilon(len(scores), (2 * half, right), delta, error)
        ceilings.append(_least_epsilon(len(scores), (2 * half, 2 * half), delta, error))
        found.append((epsilon, right, 2 * half))
    epsilon, right, guesses = max(found)
    accuracy = exact_interval(right, guesses, (1 - CONFIDENCE) / 2)
    counted = (len(scores), guesses, right, accuracy)
    return OneRunBound(*counted, epsilon, max(ceilings), delta, confidence)


def _least_epsilon(canaries: int, guesses: tuple[int, int], delta: float, error: float) -> float:
    """The largest epsilon that so many right guesses refute; 0 where they refute none."""
    return _largest(lambda epsilon: chance_of(canaries, guesses, epsilon, delta) <= error)


def chance_of(canaries: int, guesses: tuple[int, int], epsilon: float, delta: float) -> float:
    """At most how likely (made, right) `guesses` are under (`epsilon`, `delta`), upwards.

    Steinke et al. 2023, Theorem 5.2: with W binomial of r tries at e^epsilon / (1 + e^epsilon),
    P[right >= v] <= P[W >= v] + 2 m delta max_i P[v - i <= W < v] / i.
    """
    made, right = guesses
    rate = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, made, rate))
    if right < 1:
        return 1.0
    before = np.cumsum(binom.pmf(right - np.arange(1, right + 1), made, rate))
    steepest = float((before / np.arange(1, right + 1)).max())
    return min(1.0, tail + 2 * canaries * delta * steepest)


def _largest(refuted: Callable[[float], bool]) -> float:
    """The largest refuted epsilon, by halving; what is refuted at one is refuted below it."""
    low, high = 0.0, _MOST_EPSILON
    if not refuted(low):
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
