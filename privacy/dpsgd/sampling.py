"""Who enters a step: Poisson draws of patients, and few tiles of each. The draw stays secret."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privacy.dpsgd.substreams import Purpose, Substreams
from privacy.errors import AccountingError


def poisson_draw(
    patients: NDArray[np.int64], rate: float, streams: Substreams
) -> NDArray[np.int64]:
    """Those of `patients` (their numbers) who are in one step, each with probability `rate`.

    Patients enter independently of each other and of other steps. The draw may be empty: the step
    then releases noise alone. Raises `AccountingError` unless 0 < rate <= 1.
    """
    if not 0 < rate <= 1:
        raise AccountingError(f"Cannot draw patients at rate {rate!r}.")
    # u < q for u uniform on the multiples of 2^-53: for a q between two of them, the chance is at
    # most 2^-53 above q.
    drawn: NDArray[np.int64] = patients[streams.uniform(Purpose.ENTER, patients) < rate]
    return drawn


def choose_tiles(patient: int, tiles: int, places: int, streams: Substreams) -> NDArray[np.int64]:
    """Which of a patient's `tiles` fill its `places`: int64 [places].

    Uniform and without repetition where there are enough; else all of them in turn, each as often
    as the others or once more. So every patient has the same number of rows, and one with few
    tiles gets more draws of (t, noise) for each instead of blanks.
    """
    if tiles < 1 or places < 1:
        raise AccountingError(f"Cannot fill {places} places with {tiles} tiles.")
    one = np.array([patient], dtype=np.int64)
    words = streams.words(Purpose.TILES, one, np.arange(tiles))[:, 0]
    # A secret order of the tiles, cut off where there are too many, repeated where too few.
    return np.argsort(words, kind="stable")[np.arange(places) % tiles]
