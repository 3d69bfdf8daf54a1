"""A trainer without a model: every patient pulls the adapter towards a point of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from model.layout import Layout
from privacy.errors import ModelError

if TYPE_CHECKING:
    from client.training.trainer import ShouldStop, StepProgress

_UNIT: Final = 1 << 30  # C in the units of a clipped sum


class PullTrainer:
    """A `RoundTrainer` whose patients want `target` [P], each with a deviation of their own.

    A patient's gradient is the way back from their point, clipped to length C: sums are exact, and
    the same on every machine. `spread` is how far the points lie apart, in the target's units.
    """

    def __init__(
        self,
        layout: Layout,
        target: NDArray[np.float32],
        patients: int,
        *,
        seed: int = 0,
        spread: float = 0.1,
    ) -> None:
        self._layout = layout
        random = np.random.Generator(np.random.PCG64(seed))
        self.points = target + spread * random.standard_normal((patients, layout.parameters))
        self.present = np.ones(patients, np.bool_)  # False: withdrawn, a blank in its place
        self.calls = 0
        # What goes wrong: called before a sum, and what becomes of it.
        self.before: Callable[[], object] = lambda: None
        self.change: Callable[[NDArray[np.int64]], NDArray[np.int64]] = lambda total: total

    @property
    def layout(self) -> Layout:
        """See `RoundTrainer.layout`."""
        return self._layout

    def train(
        self, adapter: NDArray[np.float32], *, progress: StepProgress, should_stop: ShouldStop
    ) -> NDArray[np.float32]:
        """There are no updates to be had here."""
        raise ModelError("This trainer adds up gradients; it has no optimiser.")

    def clipped_sum(
        self,
        adapter: NDArray[np.float32],
        step: int,
        *,
        progress: StepProgress,
        should_stop: ShouldStop,
    ) -> NDArray[np.int64]:
        """See `RoundTrainer.clipped_sum`."""
        self.calls += 1
        progress(0, 1)
        self.before()
        total = self.change(self.sum_at(adapter))
        progress(1, 1)
        return total

    def sum_at(self, adapter: NDArray[np.floating]) -> NDArray[np.int64]:
        """The clipped sum of those who are present at `adapter`, int64 [P], in units of 2^-30 C."""
        ways = adapter.astype(np.float64) - self.points
        lengths = np.sqrt((ways * ways).sum(axis=1, keepdims=True))
        clipped = ways / np.maximum(lengths, 1.0) * (1 - 2.0**-30)
        rows = np.where(self.present[:, None], np.trunc(clipped * _UNIT).astype(np.int64), 0)
        total: NDArray[np.int64] = rows.sum(axis=0)
        return total
