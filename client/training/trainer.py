"""What the agent asks of a trainer."""

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
    """Training ended because it was told to; there is no update."""

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

        `progress` hears of whole steps only: their number is public, that of the physical batches
        in a step would tell the draw. `should_stop` is asked before every physical batch; when it
        says yes, `TrainingStopped` is raised. Raises `ModelError` where `adapter` does not fit.
        """
        ...


class ResidentTrainer(RoundTrainer, Protocol):
    """A trainer that keeps the patients' tiles, and lets go of them."""

    def withdraw(self, patients: Collection[int]) -> None:
        """Take patients, by their number in `SiteData`, out of the next draw and out of memory.

        From any thread; a training goes on without them from its next step. The others' chance
        to be drawn and the noise stay as they are.
        """
        ...
