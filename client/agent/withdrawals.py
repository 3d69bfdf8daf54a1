"""Patients who withdraw while the agent runs: out of the next draw, and out of memory and cache.

Nothing of this is visible outside: the schedule, the declared N, the noise, the charges and the
replies stay the same (a draw without the patient is as likely as any other without the patient).
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client.agent.state import LOOKS
from client.data import SiteData
from client.patients import Patients
from model.layout import Layout
from privacy.errors import LedgerError

if TYPE_CHECKING:
    from client.training.trainer import ResidentTrainer, ShouldStop, StepProgress

# What `client.training.encoding` keeps in the cache folder, or was writing when it was killed.
_ENCODED = ("encoded-*", ".new-*/encoded-*")
_log = logging.getLogger("craftsfl.agent")


class ConsentingTrainer:
    """A `RoundTrainer` that consults the patients' register before every training.

    `apply` may be called from any thread at any time, and takes effect with the next step.
    """

    def __init__(
        self, trainer: ResidentTrainer, data: SiteData, patients: Patients, cache: Path
    ) -> None:
        """`data` is what `trainer` was made from, with the line of every patient."""
        self._trainer = trainer
        self._numbers = {line: number for number, line in enumerate(data.lines)}
        self._left = {tile.patient for tile in data.tiles}  # numbers of those who can be drawn
        self._patients = patients
        self._cache = cache
        self._due = False  # somebody may have withdrawn and not been taken out yet
        self._lock = threading.Lock()

    @property
    def layout(self) -> Layout:
        """See `RoundTrainer.layout`."""
        return self._trainer.layout

    def train(
        self, adapter: NDArray[np.float32], *, progress: StepProgress, should_stop: ShouldStop
    ) -> NDArray[np.float32]:
        """See `RoundTrainer.train`; without those who have withdrawn by now.

        Raises `LedgerError`, and touches no data, where the register cannot tell.
        """
        self.apply()
        return self._trainer.train(adapter, progress=progress, should_stop=should_stop)

    def clipped_sum(
        self,
        adapter: NDArray[np.float32],
        step: int,
        *,
        progress: StepProgress,
        should_stop: ShouldStop,
    ) -> NDArray[np.int64]:
        """See `RoundTrainer.clipped_sum`, and `train` about those who have withdrawn."""
        self.apply()
        return self._trainer.clipped_sum(adapter, step, progress=progress, should_stop=should_stop)

    def apply(self) -> None:
        """Take out all who have withdrawn since the last call; raises `LedgerError`."""
        with self._lock:
            # Remembered until done: the register reports it once, and what follows may fail.
            self._due |= self._patients.register.changed_elsewhere()
            if not self._due:
                return
            lines = self._numbers.keys() & self._patients.register.withdrawn()
            gone = {self._numbers[line] for line in lines} & self._left
            if gone:
                self._trainer.withdraw(gone)
                self._left -= gone
            self._due = False
            if not gone:
                return
        try:
            purge(self._cache)
        except LedgerError as error:
            _log.error("%s %s", error.message, error.hint)
        names = [self._patients.key.short(line) for line in lines if self._numbers[line] in gone]
        _log.warning("Withdrawn, and out of every draw from now on: %s.", ", ".join(sorted(names)))


def purge(cache: Path) -> int:
    """Delete all encoded tiles in the cache folder, and return how many files that were.

    With them goes what `craftsfl site check` remembers of the pictures.

    Also half-written ones that a killed agent left. The next start encodes those of the remaining
    patients again. Raises `LedgerError` if a file cannot be deleted.
    """
    files = sorted(file for pattern in _ENCODED for file in cache.glob(pattern))
    try:
        for file in (*files, cache.with_name(LOOKS)):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(
            f"Encoded tiles in {cache} cannot be deleted: {error.strerror}.",
            "Delete them by hand: they hold what the patient's tiles show.",
        ) from None
    return len(files)
