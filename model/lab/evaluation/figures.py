"""What an evaluation says: figures with intervals, what to compare them with, and gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.arrays import Groups
from privacy.errors import ModelError

Better: TypeAlias = Literal[
    "lower", "higher", "near"
]  # near: like the real tiles, or like no effect


@dataclass(frozen=True, slots=True)
class Reference:
    """A figure to read the main one against: a floor, a control, chance."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. The interval is the central 95 % of a bootstrap over patients.

    `n_real` and `n_generated` are numbers of images; 0 where the metric uses none of a kind.
    """

    metric: str
    encoder: str
    value: float
    low: float
    high: float
    n_real: int
    n_generated: int
    patients: int
    seed: int
    better: Better
    source: str
    beside: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A metric that these images do not allow, and what it would need."""

    metric: str
    encoder: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """Images of one size with captions and owners.

    images uint8 [n, s, s, 3]; captions [n]; patients int64 [n]: whose each image is. Generated
    images belong to the patient whose caption was the prompt, or each to itself.
    """

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    patients: Groups

    def __post_init__(self) -> None:
        n = len(self.captions)
        if self.images.shape[:1] != (n,) or self.patients.shape != (n,) or self.images.ndim != 4:
            raise ModelError(
                f"{len(self.images)} images, {n} captions and {len(self.patients)} owners.",
                "Give each image one of each.",
            )

    def __len__(self) -> int:
        """n, the number of images."""
        return len(self.captions)

    def chosen(self, rows: NDArray[np.int64]) -> ImageSet:
        """The same for these rows only."""
        captions = tuple(self.captions[row] for row in rows)
        return ImageSet(self.images[rows], captions, self.patients[rows])
