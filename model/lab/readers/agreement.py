"""Do readers agree beyond chance? Fleiss' kappa (1971), and Cohen's with weights (1968).

Tables are [items, readers] of categories 0..K-1, without gaps.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

Answers = npt.NDArray[np.int64]


def fleiss_kappa(answers: Answers, categories: int) -> float | None:
    """1: always, 0: as by chance. None where chance alone would always agree."""
    items, readers = answers.shape
    if items == 0 or readers < 2:
        return None
    counts = np.stack([(answers == k).sum(axis=1) for k in range(categories)], axis=1)
    same = ((counts * (counts - 1)).sum(axis=1) / (readers * (readers - 1))).mean()
    chance = ((counts.sum(axis=0) / counts.sum()) ** 2).sum()
    return None if np.isclose(chance, 1.0) else float((same - chance) / (1 - chance))


def weighted_kappa(answers: Answers, categories: int) -> float | None:
    """Of ordered categories, with quadratic weights: the mean over pairs of readers."""
    found = [_pair(answers[:, a], answers[:, b], categories) for a, b in _pairs(answers.shape[1])]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def _pairs(readers: int) -> list[tuple[int, int]]:
    return list(combinations(range(readers), 2))


def _pair(first: Answers, second: Answers, categories: int) -> float | None:
    if not len(first):
        return None
    seen = np.zeros((categories, categories))
    np.add.at(seen, (first, second), 1 / len(first))
    expected = np.outer(seen.sum(axis=1), seen.sum(axis=0))
    grid = np.arange(categories)
    weight = (grid[:, None] - grid[None, :]) ** 2
    chance = (weight * expected).sum()
    return None if np.isclose(chance, 0.0) else float(1 - (weight * seen).sum() / chance)
