"""One attempt's training in a thread of its own."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from client.agent.boundary import Failure, contained
from client.agent.progress import ProgressEvent, ProgressSource
from privacy.ledger import AttemptKey
from privacy.wire.codec import Vector

if TYPE_CHECKING:
    from client.training import Trainer

QUARTERS = 4
THREAD_NAME = "training"
_log = logging.getLogger("craftsfl.agent")


class Work:
    """Trains once, after an older `Work` has ended; can be cancelled; never raises.

    Training starts with `start` and stops at the next physical batch after `cancel`.
    """

    def __init__(
        self, trainer: Trainer, adapter: Vector, key: AttemptKey, progress: ProgressSource
    ) -> None:
        self._trainer = trainer
        self._adapter = adapter
        self._key = key
        self._progress = progress
        self._cancelled = threading.Event()
        self._done = 0
        self._total = 0
        self._result: Vector | Failure | None = None
        self._thread = threading.Thread(target=lambda: None)

    def start(self, *, after: Work | None) -> None:
        """Begin as soon as `after` has ended; cancels it."""
        if after is not None:
            after.cancel()
        self._thread = threading.Thread(
            target=self._run, args=(after,), name=THREAD_NAME, daemon=True
        )
        self._thread.start()

    def cancel(self) -> None:
        """Stop at the next physical batch; the result is lost."""
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended, at most `timeout` seconds; True if it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def quarter(self) -> int:
        """How many quarters of the steps are done, 0..3."""
        done, total = self._done, self._total
        return min(QUARTERS - 1, QUARTERS * done // total) if total > 0 else 0

    @property
    def result(self) -> Vector | Failure | None:
        """The adapter's change float32 [P], a failure, or None while it trains."""
        return self._result

    def _run(self, after: Work | None) -> None:
        if after is not None:
            after.wait()
        self._publish("training")
        result = contained(self._train)
        if self._cancelled.is_set():
            result = Failure("cancelled")
            self._publish("cancelled")
        elif isinstance(result, Failure):
            _log.error("Round %d failed: %s", self._key.round, result.text)
            self._publish("failed")
        else:
            self._publish("trained")
        self._result = result

    def _train(self) -> Vector | Failure:
        if self._cancelled.is_set():
            return Failure("cancelled")
        return self._trainer.train(
            self._adapter.copy(), progress=self._note, should_stop=self._cancelled.is_set
        )

    def _note(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._publish("training")

    def _publish(self, phase: str) -> None:
        key = self._key
        self._progress.publish(
            ProgressEvent(key.run, key.round, key.attempt, phase, self._done, self._total)
        )


def still_training() -> bool:
    """True if this process has a training thread that has not ended."""
    return any(thread.name == THREAD_NAME for thread in threading.enumerate())
