"""How well an arm did on patients whom it never saw, and how two arms differ.

A score is the mean over classes of the share of a class's pictures that came out right (balanced
accuracy), so a rare class counts as much as a common one. Intervals resample patients, and runs
where there are several: pictures of a patient are alike, and so are answers of one run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.arrays import Doubles, Groups
from model.lab.evaluation.patients import percentiles
from privacy.errors import ModelError

OUTCOME_RESAMPLES = 2000


@dataclass(frozen=True)
class Outcome:
    """One run of one arm: of each test picture its class, its patient, and how right it came out.

    right float64 [n] in 0..1; classes, patients int64 [n].
    """

    right: Doubles = field(repr=False)
    classes: Groups = field(repr=False)
    patients: Groups = field(repr=False)

    def score(self, of: Collection[int] | None = None) -> float:
        """Balanced accuracy over all classes, or over some; NaN without a picture of them."""
        return float(_balanced(self, np.ones((1, len(self.right))), of)[0])


def difference(
    first: Sequence[Outcome],
    second: Sequence[Outcome],
    *,
    of: Collection[int] | None = None,
    resamples: int = OUTCOME_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(difference, low, high) of two arms' mean scores, 95 %; their runs and patients pair up.

    Each resample draws runs, and within each run patients, the same for both arms (percentile
    bootstrap of clusters, Efron 1979). Raises `ModelError` where runs do not pair up.
    """
    _check_pairs(first, second)
    rng = np.random.default_rng([seed, 11])
    gains = np.stack([_gains(a, b, of, resamples, rng) for a, b in zip(first, second, strict=True)])
    found = np.mean([a.score(of) - b.score(of) for a, b in zip(first, second, strict=True)])
    drawn = rng.integers(len(gains), size=(resamples, len(gains)))
    spread = gains[drawn, np.arange(resamples)[:, None]].mean(axis=1)
    return float(found), *percentiles(spread)


def score_interval(
    outcome: Outcome,
    *,
    of: Collection[int] | None = None,
    resamples: int = OUTCOME_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % interval of a run's score, over patients."""
    draws = _drawn_patients(outcome.patients, resamples, np.random.default_rng([seed, 12]))
    return percentiles(_balanced(outcome, draws, of))


def _gains(
    first: Outcome,
    second: Outcome,
    of: Collection[int] | None,
    resamples: int,
    rng: np.random.Generator,
) -> Doubles:
    draws = _drawn_patients(first.patients, resamples, rng)
    return _balanced(first, draws, of) - _balanced(second, draws, of)


def _drawn_patients(patients: Groups, resamples: int, rng: np.random.Generator) -> Doubles:
    """How often each picture occurs in each resample of the patients, [R, n]."""
    names, index = np.unique(patients, return_inverse=True)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return draws[:, index].astype(np.float64)


def _balanced(outcome: Outcome, draws: Doubles, of: Collection[int] | None) -> Doubles:
    """The score under each row of multiplicities [R, n]; a class nobody has is left out."""
    shares = []
    for label in np.unique(outcome.classes):
        if of is None or int(label) in of:
            mine = outcome.classes == label
            total = draws[:, mine].sum(axis=1)
            right = draws[:, mine] @ outcome.right[mine]
            shares.append(np.divide(right, total, out=np.full(len(draws), np.nan), where=total > 0))
    if not shares:
        return np.full(len(draws), np.nan)
    stacked = np.stack(shares)
    count = np.isfinite(stacked).sum(axis=0)
    whole = np.nansum(stacked, axis=0)
    return np.asarray(np.divide(whole, count, out=np.full(len(draws), np.nan), where=count > 0))


def _check_pairs(first: Sequence[Outcome], second: Sequence[Outcome]) -> None:
    alike = len(first) == len(second) > 0 and all(
        np.array_equal(a.patients, b.patients) and np.array_equal(a.classes, b.classes)
        for a, b in zip(first, second, strict=True)
    )
    if not alike:
        raise ModelError(
            "The two arms were not tested on the same pictures.", "Test both on the same patients."
        )
