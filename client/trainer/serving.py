"""The trainer's side of the channel: load, say that it is ready, then train when asked.

Three threads: one listens, so that a stop and the agent's end are noticed during a physical batch
too; one trains; the main one looks at the patients' register, so that who withdraws is out of the
next step.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from client.agent.boundary import Failure, contained, describe, kind_and_place
from client.trainer.channel import Channel
from client.trainer.frames import (
    ENCODING_TILES,
    Failed,
    FromAgent,
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
from model.layout import Layout
from privacy.errors import CraftsflError
from privacy.wire.codec import Vector

if TYPE_CHECKING:
    from client.training.trainer import ShouldStop, StepProgress

LOOK_SECONDS: Final = 0.2  # between two looks at the patients' register
_OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "cannot allocate memory")
_log = logging.getLogger("craftsfl.agent")

OnEncoded = Callable[[int, int], None]  # tiles done, of all
_Asked: TypeAlias = Train | SumGradients


class ServedTrainer(Protocol):
    """A `RoundTrainer` that consults the patients' register."""

    @property
    def layout(self) -> Layout:
        """See `RoundTrainer.layout`."""
        ...

    def train(self, adapter: Vector, *, progress: StepProgress, should_stop: ShouldStop) -> Vector:
        """See `RoundTrainer.train`."""
        ...

    def clipped_sum(
        self, adapter: Vector, step: int, *, progress: StepProgress, should_stop: ShouldStop
    ) -> NDArray[np.int64]:
        """See `RoundTrainer.clipped_sum`."""
        ...

    def apply(self) -> None:
        """Take out all who have withdrawn since the last call; raises `LedgerError`."""
        ...


def serve_trainer(channel: Channel[FromAgent], load: Callable[[OnEncoded], ServedTrainer]) -> int:
    """Load and train until something ends it; returns the exit status (`TrainerExit`).

    Ends the whole process as soon as the agent is gone, whatever it is doing.
    """
    trainings: SimpleQueue[_Asked] = SimpleQueue()
    stopped = _Stopped()
    _thread(lambda: _listen(channel, trainings, stopped))
    over = _Over()

    def serve() -> int:
        trainer = load(lambda done, total: channel.send(Phase(ENCODING_TILES, done, total)))
        trainer.apply()  # who withdrew while the tiles were encoded is still in the cache
        channel.send(Ready(trainer.layout))
        _thread(lambda: over.end(_train_all(channel, trainer, trainings, stopped)))
        while not over.wait(LOOK_SECONDS):
            trainer.apply()
        return over.status

    return _told(channel, serve)


def _told(channel: Channel[FromAgent], serve: Callable[[], int]) -> int:
    """`serve()`; what it raises is told to the agent, or in the log."""

    def refusing() -> int:
        try:
            return serve()
        except CraftsflError as error:
            channel.send(RefusedStart(error.message, error.hint, error.id))
            return TrainerExit.REFUSED

    status = contained(refusing, _fault)
    if isinstance(status, Failure):
        _log.error("The trainer ended: %s", status.text)
        return _status(status)
    return status


def _listen(channel: Channel[FromAgent], trainings: SimpleQueue[_Asked], stopped: _Stopped) -> None:
    while (frame := channel.receive()) is not None:
        if isinstance(frame, Stop):
            stopped.until = frame.number
        else:
            trainings.put(frame)
    os._exit(TrainerExit.AGENT_GONE)


def _train_all(
    channel: Channel[FromAgent],
    trainer: ServedTrainer,
    trainings: SimpleQueue[_Asked],
    stopped: _Stopped,
) -> int:
    """Train whatever is asked for, until an error after which the process had better go."""
    while True:
        asked = trainings.get()
        found = contained(partial(_trained, channel, trainer, asked, stopped), _fault)
        if isinstance(found, Failure):
            channel.send(Failed(asked.number, found.text))
            # A device after an error of its own, or a heap that is full, is not trusted again.
            return _status(found)
        channel.send(found)


def _trained(
    channel: Channel[FromAgent], trainer: ServedTrainer, asked: _Asked, stopped: _Stopped
) -> TrainedUpdate | GradientSum | Failed:
    number = asked.number

    def progress(done: int, total: int) -> None:
        channel.send(StepDone(number, done, total))

    def should_stop() -> bool:
        return stopped.until >= number

    try:
        match asked:
            case Train(adapter=adapter):
                delta = trainer.train(adapter, progress=progress, should_stop=should_stop)
                return TrainedUpdate(number, delta)
            case SumGradients(step=step, adapter=adapter):
                total = trainer.clipped_sum(
                    adapter, step, progress=progress, should_stop=should_stop
                )
                return GradientSum(number, total)
    except CraftsflError as error:
        return Failed(number, describe(error).text)


def _fault(error: BaseException) -> Failure:
    """As `describe`, and whether it was the memory: libraries say that in many ways."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return _OutOfMemory(f"out of memory, {kind_and_place(error)}")
    return describe(error)


class _OutOfMemory(Failure):
    """The memory of the machine or of the device was not enough."""


def _status(failure: Failure) -> int:
    memory = isinstance(failure, _OutOfMemory)
    return TrainerExit.MEMORY if memory else TrainerExit.UNEXPECTED


class _Stopped:
    """Trainings up to this number are to stop."""

    until = 0


class _Over:
    """The exit status, once there is one."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.status = int(TrainerExit.UNEXPECTED)

    def end(self, status: int) -> None:
        self.status = status
        self._event.set()

    def wait(self, timeout: float) -> bool:
        return self._event.wait(timeout)


def _thread(target: Callable[[], None]) -> None:
    threading.Thread(target=target, daemon=True).start()
