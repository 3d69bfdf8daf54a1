"""Who enters a step: Poisson draws of patients, and few tiles of each. The draw stays secret."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from privacy.dpsgd.noise import NoiseSource
from privacy.errors import AccountingError


def poisson_draw(patients: int, rate: float, random: NoiseSource) -> NDArray[np.int64]:
    """Indices, ascending, of the patients of one step; each is in with probability `rate`.

    Patients enter independently of each other and of other steps; the draw may be empty, which is
    a release of noise all the same. Raises `AccountingError` unless 0 < rate <= 1.
    """
    if patients < 0 or not 0 < rate <= 1:
        raise AccountingError(f"Cannot draw from {patients} patients at rate {rate!r}.")
    return np.flatnonzero(random.uniform(patients) < rate).astype(np.int64)


def choose_tiles(tiles: int, at_most: int, random: NoiseSource) -> NDArray[np.int64]:
    """Ascending indices of min(tiles, at_most) of a patient's tiles, uniform, no repetition."""
    if tiles < 0 or at_most < 1:
        raise AccountingError(f"Cannot choose {at_most} of {tiles} tiles.")
    if tiles <= at_most:
        return np.arange(tiles)
    return np.sort(np.argsort(random.uniform(tiles), kind="stable")[:at_most])


def pack_patients(rows: Sequence[int], limit: int) -> list[list[int]]:
    """Positions of patients for each physical batch: whole patients, at most `limit` rows.

    `rows[i]` is the number of rows of patient i. A patient with more rows than `limit` gets a
    batch of its own, because a clipped gradient needs all of a patient's rows together.
    """
    if limit < 1 or any(count < 1 for count in rows):
        raise AccountingError("Rows and the limit of a physical batch must be at least 1.")
    batches: list[list[int]] = []
    used = 0
    for position, count in enumerate(rows):
        if not batches or used + count > limit:
            batches.append([])
            used = 0
        batches[-1].append(position)
        used += count
    return batches
