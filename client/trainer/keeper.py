"""Keeps one trainer running, and trains with it: the agent's side. Imports no torch.

Guarantees, each with a test:

- A trainer that ends for whatever reason fails the training that it was in, and no other. It is
  started again after a pause, which doubles as long as no training succeeds.
- There is one trainer at a time: the next is started when the last is gone.
- What the first trainer refuses, a person has to change: `check` raises it. What a later one
  refuses is told in the log, and tried again.
- Nothing is taken from a trainer but typed frames of bounded length; after any other byte it is
  ended.
"""

# Why: docs/adr/0033-trainer-process.md

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from client.agent.boundary import Failure, contained
from client.trainer.frames import (
    LOADING_MODEL,
    Failed,
    FromTrainer,
    GradientSum,
    Phase,
    Ready,
    RefusedStart,
    StepDone,
    Stop,
    SumGradients,
    Train,
    TrainedUpdate,
)
from client.trainer.orders import TrainerExit
from client.trainer.process import NurseryGoneError, TrainerProcess, how_it_ended
from model.layout import Layout
from privacy.errors import CraftsflError, ModelError, WireError
from privacy.wire.codec import Vector

if TYPE_CHECKING:
    from client.training.trainer import ShouldStop, StepProgress

FIRST_TRAINER_PAUSE: Final = 0.5
LONGEST_TRAINER_PAUSE: Final = 60.0
_LOOK_SECONDS: Final = 0.1  # between two looks at whether training should stop
_log = logging.getLogger("craftsfl.agent")


_Said: TypeAlias = StepDone | TrainedUpdate | GradientSum | Failed  # about a training


class TrainerEnded(ModelError):
    """The trainer's process ended while it trained; there is no update."""


@dataclass(slots=True, eq=False)
class _Ready:
    """A trainer that takes trainings, and what it says about the one that it is in."""

    process: TrainerProcess
    said: SimpleQueue[_Said | None] = field(default_factory=SimpleQueue)
    ended: str = ""  # how, in words


class TrainerKeeper:
    """A `RoundTrainer` whose trainings run in a process of their own, which it keeps running.

    `start` starts one. `layout`: what is known from an earlier start. All methods may be called
    from any thread; `train` and `clipped_sum` from one at a time.
    """

    def __init__(self, start: Callable[[], TrainerProcess], layout: Layout | None = None) -> None:
        self._start = start
        self._layout = layout
        self._changed = threading.Condition()
        self._running: TrainerProcess | None = None
        self._ready: _Ready | None = None
        self._phase = Phase(LOADING_MODEL)
        self._was_ready = False
        self._lost: CraftsflError | NurseryGoneError | None = None  # why there will be no other
        self._pause = FIRST_TRAINER_PAUSE
        self._number = 0
        self._stopping = False
        # One thread for its whole life: the kernel ends a trainer with the thread that started it.
        self._thread = threading.Thread(target=self._keep, name="trainer keeper", daemon=True)

    def start(self) -> None:
        """Start the first trainer, and keep one running from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the trainer; none is started again. Whatever it was training is lost."""
        with self._changed:
            self._stopping = True
            running = self._running
            self._changed.notify_all()
        if running is not None:
            running.channel.close()  # the keeping thread learns it, and sees the trainer off
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Raise what the first trainer has refused, or `NurseryGoneError`, if anything."""
        if self._lost is not None:
            raise self._lost

    def ready_for(self, layout: Layout) -> bool:
        """Whether a trainer is there that trains adapters of `layout`."""
        return self._ready is not None and self._layout == layout

    @property
    def was_ready(self) -> bool:
        """Whether there has been one since the agent started."""
        return self._was_ready

    @property
    def phase(self) -> Phase:
        """What a trainer that is not ready does."""
        return self._phase

    @property
    def known_layout(self) -> Layout | None:
        """What an adapter's numbers mean: to the newest trainer, or as known from before."""
        return self._layout

    @property
    def layout(self) -> Layout:
        """See `RoundTrainer.layout`; raises `ModelError` where nobody has said it yet."""
        if self._layout is None:
            raise ModelError("The adapter's layout is not known before the trainer is ready.")
        return self._layout

    def train(self, adapter: Vector, *, progress: StepProgress, should_stop: ShouldStop) -> Vector:
        """See `RoundTrainer.train`; waits for a trainer. Raises `TrainerEnded` if it ends."""
        found = self._asked(lambda number: Train(number, adapter), progress, should_stop)
        if not isinstance(found, TrainedUpdate):
            raise ModelError("The trainer answered something else than it was asked for.")
        return found.delta

    def clipped_sum(
        self, adapter: Vector, step: int, *, progress: StepProgress, should_stop: ShouldStop
    ) -> NDArray[np.int64]:
        """See `RoundTrainer.clipped_sum`; waits and raises as `train`."""
        found = self._asked(
            lambda number: SumGradients(number, step, adapter), progress, should_stop
        )
        if not isinstance(found, GradientSum) or found.total.shape != adapter.shape:
            raise ModelError("The trainer answered something else than it was asked for.")
        return found.total

    def _asked(
        self,
        ask: Callable[[int], Train | SumGradients],
        progress: StepProgress,
        should_stop: ShouldStop,
    ) -> TrainedUpdate | GradientSum:
        """The answer to `ask` of the next number, from a trainer that it waits for."""
        trainer = self._await(should_stop)
        self._number = number = self._number + 1
        with suppress(OSError):  # it has just ended: the keeping thread says how
            trainer.process.channel.send(ask(number))
        stopped = False
        while True:
            try:
                said = trainer.said.get(timeout=_LOOK_SECONDS)
            except Empty:
                if should_stop() and not stopped:
                    stopped = True
                    _stop(trainer.process, number)
                continue
            match said:
                case None:
                    raise TrainerEnded(trainer.ended)
                case StepDone(at, done, total) if at == number:
                    progress(done, total)
                case TrainedUpdate(at) | GradientSum(at) if at == number:
                    self._pause = FIRST_TRAINER_PAUSE
                    return said
                case Failed(at, text) if at == number:
                    raise ModelError(f"In the trainer: {text}")

    def _await(self, should_stop: ShouldStop) -> _Ready:
        with self._changed:
            while self._ready is None:
                if should_stop() or self._stopping:
                    raise ModelError("Training was stopped before there was a trainer.")
                self._changed.wait(_LOOK_SECONDS)
            return self._ready

    def _keep(self) -> None:
        while not self._stopping:
            found = contained(self._one_trainer)
            words = found.text if isinstance(found, Failure) else found
            with self._changed:
                if self._stopping or self._lost is not None:
                    return
                pause, self._pause = self._pause, min(2 * self._pause, LONGEST_TRAINER_PAUSE)
                _log.error("%s Starting it again in %.3g s.", words, pause)
                self._changed.wait_for(lambda: self._stopping, pause)

    def _one_trainer(self) -> str:
        """Start a trainer and follow it to its end; returns how that came, in words."""
        try:
            process = self._start()
        except OSError as error:
            return f"The trainer cannot be started: {error.strerror}."
        except NurseryGoneError as error:
            self._lost = error
            return "The process that starts trainers was ended."
        with self._changed:
            self._running = process
            if self._stopping:
                process.channel.close()
        refused: RefusedStart | None = None
        broken = ""
        try:
            while (frame := process.channel.receive()) is not None:
                if isinstance(frame, RefusedStart):
                    refused = frame
                else:
                    self._heard(process, frame)
        except WireError as error:
            broken = f" {error.message}"
        finally:
            status = process.end()
        words = how_it_ended(status) + broken
        if status == TrainerExit.REFUSED and refused is not None:
            words = f"The trainer refused: {refused.message} {refused.hint}".rstrip()
        self._over(words, refused)
        return words

    def _heard(self, process: TrainerProcess, frame: FromTrainer) -> None:
        match frame:
            case Phase():
                self._phase = frame
            case Ready(layout):
                if self._ready is not None:
                    raise WireError("It was ready before.")
                if self._was_ready and layout != self._layout:
                    raise WireError("Its adapter is another one now: start the agent again.")
                process.allow(layout.parameters)
                with self._changed:
                    self._layout = layout
                    self._ready = _Ready(process)
                    self._was_ready = True
                    self._changed.notify_all()
            case StepDone() | TrainedUpdate() | GradientSum() | Failed() if self._ready is not None:
                self._ready.said.put(frame)

    def _over(self, words: str, refused: RefusedStart | None) -> None:
        with self._changed:
            ready, self._ready, self._running = self._ready, None, None
            self._phase = Phase(LOADING_MODEL)
            if refused is not None and not self._was_ready:
                self._lost = CraftsflError(refused.message, refused.hint, id=refused.id)
            self._changed.notify_all()
        if ready is not None:
            ready.ended = words
            ready.said.put(None)


def _stop(process: TrainerProcess, number: int) -> None:
    with suppress(OSError):  # it has ended
        process.channel.send(Stop(number))
