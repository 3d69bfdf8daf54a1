"""How well found nuclei agree with the given ones: pixel Dice, F1, panoptic quality, AJI."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Instances = NDArray[np.int32]
_MATCH = 0.5  # intersection over union above which two nuclei match; each then matches at most one
MEASURES = ("dice", "f1", "pq", "aji")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one image, each in 0..1.

    dice: of the pixels of nuclei. f1: detection at IoU > 0.5. pq: panoptic quality, f1 times the
    mean IoU of the matches (Kirillov et al. 2019, eq. 1). aji: aggregated Jaccard index (Kumar et
    al. 2017, algorithm 1).
    """

    dice: float
    f1: float
    pq: float
    aji: float


def instance_agreement(given: Instances, found: Instances) -> Agreement:
    """Compare instance maps [h, w]. Two empty maps agree fully; one empty map does not at all."""
    overlap = _overlaps(given, found)
    given_areas, found_areas = overlap.sum(axis=1)[1:], overlap.sum(axis=0)[1:]
    both = float(overlap[1:, 1:].sum())
    total = float(given_areas.sum() + found_areas.sum())
    if total == 0:
        return Agreement(1.0, 1.0, 1.0, 1.0)
    inner = overlap[1:, 1:].astype(np.float64)
    unions = given_areas[:, None] + found_areas[None] - inner
    iou = inner / unions  # no instance is empty, so no union is 0
    matches = iou[iou > _MATCH]
    mean_count = (len(given_areas) + len(found_areas)) / 2
    return Agreement(
        dice=2 * both / total,
        f1=len(matches) / mean_count,
        pq=float(matches.sum()) / mean_count,
        aji=_aji(inner, iou, found_areas, given_areas),
    )


def _overlaps(given: Instances, found: Instances) -> NDArray[np.int64]:
    """Pixels [1 + n, 1 + m] that carry each pair of labels, the background first."""
    rows, at = np.unique(np.append(given.ravel(), 0), return_inverse=True)
    columns, to = np.unique(np.append(found.ravel(), 0), return_inverse=True)
    table = np.bincount(at * len(columns) + to, minlength=len(rows) * len(columns))
    table[0] -= 1  # the appended pixel, which guaranteed a background
    return np.asarray(table.reshape(len(rows), len(columns)))


def _aji(
    inner: NDArray[np.float64],
    iou: NDArray[np.float64],
    found_areas: NDArray[np.int64],
    given_areas: NDArray[np.int64],
) -> float:
    """Summed intersections over unions: each given nucleus with its best match, then the rest."""
    if 0 in iou.shape:
        return 0.0
    best = iou.argmax(axis=1)
    hit = iou[np.arange(len(iou)), best] > 0
    shared = inner[np.arange(len(iou)), best]
    unions = given_areas + np.where(hit, found_areas[best] - shared, 0)
    unused = np.ones(len(found_areas), bool)
    unused[best[hit]] = False
    return float(shared.sum() / (unions.sum() + found_areas[unused].sum()))
