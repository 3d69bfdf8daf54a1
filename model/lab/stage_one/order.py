"""Which picture comes when: a function of seed and position, so a run can resume anywhere.

Position p is the p-th picture that training sees, over all processes. A run on another number of
devices sees the same pictures in the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from privacy.errors import ConfigError

_ORDER, _DRAWS = 1, 2  # streams of the seed


@dataclass(frozen=True, slots=True)
class PictureOrder:
    """Every picture once an epoch, reshuffled each time."""

    seed: int
    pictures: int

    def picture(self, position: int) -> int:
        """Number of the picture at `position`, counted from 0 over all epochs."""
        epoch, within = divmod(position, self.pictures)
        return int(_shuffled(self.seed, epoch, self.pictures)[within])

    def draws(self, position: int) -> np.random.Generator:
        """Noise, timestep, flips and dropout of `position`, whichever process computes it."""
        return np.random.default_rng([self.seed, _DRAWS, position])


@lru_cache(maxsize=2)  # at the border of two epochs both are read
def _shuffled(seed: int, epoch: int, pictures: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(pictures)


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """How a step's `batch` pictures are spread: processes, then accumulated micro-batches."""

    batch: int
    micro_batch: int
    process: int
    processes: int

    def __post_init__(self) -> None:
        if self.batch % (self.micro_batch * self.processes):
            raise ConfigError(
                f"A batch of {self.batch} cannot be split over {self.processes} processes with "
                f"micro-batches of {self.micro_batch}.",
                "Choose batch as a multiple of micro_batch x processes.",
            )

    @property
    def accumulation(self) -> int:
        """Micro-batches of one process in a step."""
        return self.batch // (self.micro_batch * self.processes)

    def positions(self, step: int) -> Iterator[list[int]]:
        """The positions of this process's micro-batches in `step`, counted from 0."""
        for micro in range(self.accumulation):
            part = micro * self.processes + self.process
            first = step * self.batch + part * self.micro_batch
            yield list(range(first, first + self.micro_batch))
