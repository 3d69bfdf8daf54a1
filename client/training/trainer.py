"""What the agent expects of a trainer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.layout import Layout
from privacy.errors import CraftsflError

StepProgress = Callable[[int, int], None]  # (steps done, steps in all)
ShouldStop = Callable[[], bool]


class TrainingStopped(CraftsflError):
    """Training ended on request; there is no update."""

    def __init__(self) -> None:
        super().__init__("Training was stopped.", "Nothing left the site.")


class RoundTrainer(Protocol):
    """One round's local training; one call at a time."""

    @property
    def layout(self) -> Layout:
        """What the numbers of an adapter's vector mean."""
        ...

    def train(
        self, adapter: NDArray[np.float32], *, progress: StepProgress, should_stop: ShouldStop
    ) -> NDArray[np.float32]:
        """The round's private update [P] from `adapter` [P]: the trained adapter less the old one.

        `progress` is called after whole steps only: their number is public, while the number of
        physical batches in a step would reveal the draw. `should_stop` is called before every
        physical batch; if it is true, `TrainingStopped` is raised. Raises `ModelError` where
        `adapter` does not fit.
        """
        ...


class ResidentTrainer(RoundTrainer, Protocol):
    """A trainer that holds the patients' tiles, and drops them on request."""

    def withdraw(self, patients: Collection[int]) -> None:
        """Remove patients, by their number in `SiteData`, from the next draw and from memory.

        From any thread; a running training goes on without them from its next step. The others'
        chance of being drawn and the noise stay as they are.
        """
        ...
