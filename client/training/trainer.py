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

    def clipped_sum(
        self,
        adapter: NDArray[np.float32],
        step: int,
        *,
        progress: StepProgress,
        should_stop: ShouldStop,
    ) -> NDArray[np.int64]:
        """The sum of all enrolled patients' clipped gradients at `adapter` [P]: int64 [P].

        In units of C 2^-30 (`privacy.dpsgd.release.CONTRIBUTION_BITS`), and **secret**: no noise
        has been added. Every patient adds a vector of L2 norm at most 2^30, exactly, and at most as
        many add one as the study declares for the site. Whoever has withdrawn, has no usable tile
        or has a gradient that is not finite adds zeros; nobody else's part changes by a bit, and
        neither do shapes and time.

        The same `adapter` and number of the `step` again: the same integers, less the parts of
        those who have withdrawn since; it takes no training as long as they were the last ones
        asked for and the trainer has been running all the time. Allowed where everybody is in every
        step, so only for a study of sampling rate 1 (`AccountingError` for others).

        `progress` counts physical batches, whose number is public here. `should_stop` and
        `ModelError` as for `train`.
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
