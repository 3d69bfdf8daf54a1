"""One attempt's training in a thread of its own, one thread at the model at a time."""

# Why: docs/adr/0016-one-slot.md

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from client.agent.boundary import Failure, contained
from client.agent.progress import TRAINING, ProgressEvent, ProgressSource
from privacy.errors import ModelError
from privacy.ledger import AttemptKey
from privacy.wire.codec import Vector
from privacy.wire.secagg import Lanes

if TYPE_CHECKING:
    from client.training.trainer import ShouldStop, StepProgress

Clock = Callable[[], float]  # seconds that never jump
THREAD_NAME = "training"
_NOTHING: Vector = np.empty(0, np.float32)
_log = logging.getLogger("craftsfl.agent")

DrawnShare: TypeAlias = NDArray[
    np.int64
]  # of a step: integers drawn around a sum, on the study's grid
# The adapter's change [P], as it is or weighted and encoded; or a share.
Trained: TypeAlias = Vector | Lanes | DrawnShare


class AttemptTraining(Protocol):
    """`RoundTrainer.train`, or the same and what is done with its result before it may leave."""

    def __call__(
        self, adapter: Vector, *, progress: StepProgress, should_stop: ShouldStop
    ) -> Trained:
        """See `RoundTrainer.train`."""
        ...


def checked(training: AttemptTraining) -> AttemptTraining:
    """`training`, which fails unless it returns a finite float32 vector of the adapter's shape.

    This is found out while the attempt trains, so that nothing depends on the numbers at its slot.
    """

    def train(adapter: Vector, *, progress: StepProgress, should_stop: ShouldStop) -> Trained:
        delta = training(adapter, progress=progress, should_stop=should_stop)
        if delta.shape != adapter.shape or delta.dtype != np.float32:
            raise ModelError("The trainer returned no update of the adapter's shape.")
        if not np.isfinite(delta).all():
            raise ModelError("The trainer returned an update that is not finite.")
        return delta

    return train


class Turn:
    """Whose turn it is to use the model: one attempt's at a time.

    An attempt that is cancelled while it waits leaves at once. So however many attempts a
    coordinator starts within one physical batch, one trains and one waits; the others hold nothing.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False

    def take(self, cancelled: threading.Event) -> bool:
        """Wait for the turn; False, without it, once `cancelled` is set."""
        with self._changed:
            self._changed.wait_for(lambda: cancelled.is_set() or not self._taken)
            if cancelled.is_set():
                return False
            self._taken = True
            return True

    def give(self) -> None:
        """Pass the turn to the next one."""
        with self._changed:
            self._taken = False
            self._changed.notify_all()

    def cancel(self, cancelled: threading.Event) -> None:
        """Set `cancelled`, and wake up whoever waits with it."""
        with self._changed:
            cancelled.set()
            self._changed.notify_all()

    def wait_free(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until nobody has the turn; True if nobody has."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._taken, timeout)


class AttemptWork:
    """Trains once, when the turn comes; can be cancelled; never raises.

    Training starts with `start` and stops at the next physical batch after `cancel`.
    """

    def __init__(
        self,
        training: AttemptTraining,
        adapter: Vector,
        key: AttemptKey,
        progress: ProgressSource,
        turn: Turn,
        clock: Clock,
    ) -> None:
        self._training = training
        self._adapter = adapter
        self._key = key
        self._progress = progress
        self._turn = turn
        self._clock = clock
        self._finished_at: float | None = None
        self._cancelled = threading.Event()
        self._done = 0
        self._total = 0
        self._result: Trained | Failure | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin as soon as the turn comes.

        Published at once: the moment the turn comes would reveal the timing of another attempt's
        batch.
        """
        self._publish(TRAINING)
        thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system allows no more threads
            self._conclude(Failure("no thread to train in"))
            _log.error("Round %d failed: the system allows no more threads.", self._key.round)
        else:
            self._thread = thread

    def cancel(self) -> None:
        """Stop at the next physical batch; the result is lost."""
        self._turn.cancel(self._cancelled)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds for the thread to end; True if it has."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def result(self) -> Trained | Failure | None:
        """What training returned, a failure, or None while it trains."""
        return self._result

    def result_by(self, moment: float) -> Trained | None:
        """What training returned by `moment`, by the clock; None if it was late or failed."""
        at, result = self._finished_at, self._result
        if at is None or at > moment or isinstance(result, Failure):
            return None
        return result

    def _run(self) -> None:
        if not self._turn.take(self._cancelled):
            self._adapter = _NOTHING
            self._conclude(Failure("cancelled"))
            return
        try:
            self._conclude(self._outcome())
        finally:
            self._turn.give()

    def _conclude(self, result: Trained | Failure) -> None:
        self._result = result
        self._finished_at = self._clock()  # last: the result is there once this is set

    def _outcome(self) -> Trained | Failure:
        result = contained(self._train)
        if self._cancelled.is_set():
            return Failure("cancelled")
        if isinstance(result, Failure):
            _log.error("Round %d failed: %s", self._key.round, result.text)
            self._publish("failed")
        else:
            self._publish("trained")
        return result

    def _train(self) -> Trained | Failure:
        adapter, self._adapter = self._adapter.copy(), _NOTHING  # the message's memory is free
        return self._training(adapter, progress=self._note, should_stop=self._cancelled.is_set)

    def _note(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._publish(TRAINING)

    def _publish(self, phase: str) -> None:
        if self._cancelled.is_set():  # the newer attempt's events are not mixed with this one's
            return
        key = self._key
        self._progress.publish(
            ProgressEvent(key.run, key.round, key.attempt, phase, self._done, self._total)
        )


def still_training() -> bool:
    """True if a training thread of this process is still running."""
    return any(thread.name == THREAD_NAME for thread in threading.enumerate())
