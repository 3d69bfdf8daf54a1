"""What a learner is shown: real and synthetic pictures of each class, each of equal weight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arrays import Doubles, Groups
from privacy.errors import ModelError

Inputs = NDArray[Any]  # uint8 images [n, s, s, 3], or float32 features [n, E]


@dataclass(frozen=True)
class Labelled:
    """Inputs [n, ...] and the class of each, int64 [n]."""

    inputs: Inputs = field(repr=False)
    classes: Groups = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.classes):
            raise ModelError(
                f"{len(self.inputs)} pictures, {len(self.classes)} labels.", "Give each one label."
            )

    def __len__(self) -> int:
        """n."""
        return len(self.classes)

    def chosen(self, rows: Groups | NDArray[np.bool_]) -> Labelled:
        """The same for these rows only."""
        return Labelled(self.inputs[rows], self.classes[rows])

    def first(self, each: int) -> Labelled:
        """The first `each` of every class."""
        return self.chosen(_turns(self.classes) < each)


@dataclass(frozen=True)
class Lessons:
    """What one arm trains on. Raises `ModelError` for nothing at all."""

    real: Labelled | None = None
    synthetic: Labelled | None = None

    def __post_init__(self) -> None:
        if not self._parts():
            raise ModelError("There is nothing to train on.", "Give real or synthetic pictures.")

    @property
    def all(self) -> Labelled:
        """Real ones first, then synthetic ones."""
        parts = self._parts()
        return Labelled(
            np.concatenate([part.inputs for part in parts]),
            np.concatenate([part.classes for part in parts]),
        )

    def weights(self) -> Doubles:
        """Of each of `all`, with a mean of 1.

        Every class weighs the same, and within it real and synthetic pictures do, however many
        there are of each: a thousand synthetic ones cannot drown the only real one.
        """
        parts = self._parts()
        source = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        classes = np.concatenate([part.classes for part in parts])
        cells, cell_of, counts = np.unique(
            np.stack([classes, source]), axis=1, return_inverse=True, return_counts=True
        )
        sources_of = np.bincount(cells[0])
        found = 1.0 / (counts * sources_of[cells[0]])[cell_of.reshape(-1)]
        return np.asarray(found * len(found) / found.sum())

    def _parts(self) -> list[Labelled]:
        return [part for part in (self.real, self.synthetic) if part is not None and len(part)]


def _turns(classes: Groups) -> Groups:
    """How many of the same class come before each."""
    turn = np.zeros(len(classes), np.int64)
    for label in np.unique(classes):
        mine = classes == label
        turn[mine] = np.arange(mine.sum())
    return turn
