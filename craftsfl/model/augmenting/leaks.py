"""What would let a test patient's tiles into training all the same, in a note for people.

Folds split by patient id. That does not help where one picture stands under two ids, or one patient
in two classes: neither is refused, because a person has to say what it means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from PIL import Image

from client.data.likeness import MOST_COMPARED, alike, likeness_hash
from craftsfl.model.augmenting.classes import LabelledTiles
from model.arrays import Images

_FLAT: Final = 2.0  # standard deviation of the greys of a picture that shows nothing
_LISTED: Final = 5


def leak_notes(own: LabelledTiles, images: Images) -> Iterator[str]:
    """A sentence for each; `images` uint8 [n, s, s, 3] of `own.tiles`, in order. Names rows."""
    yield from _twins(own, images)
    if own.mixed:
        yield (
            f"{own.mixed} patients have tiles of several classes. They are in one fold with all "
            "their tiles; if a patient can have one class only, correct the table."
        )


def _twins(own: LabelledTiles, images: Images) -> Iterator[str]:
    greys = [Image.fromarray(image).convert("L") for image in images]
    shown = [n for n, grey in enumerate(greys) if np.asarray(grey).std() > _FLAT]
    if not shown or len(shown) > MOST_COMPARED:
        return
    hashes = [likeness_hash(greys[n]) for n in shown]
    pairs = [(shown[a], shown[b]) for a, b in alike(hashes, own.patients[shown].tolist())]
    if not pairs:
        return
    more = f"; and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
    yield (
        f"LEAK: {len(pairs)} pairs of tiles of different patients look alike ({_rows(own, pairs)}"
        f"{more}). If they are copies, patients are in training and in test at once, and every "
        "figure flatters: craftsfl site check finds them, too."
    )


def _rows(own: LabelledTiles, pairs: Sequence[tuple[int, int]]) -> str:
    listed = [f"rows {own.tiles[a].row} and {own.tiles[b].row}" for a, b in pairs[:_LISTED]]
    return "; ".join(listed)
