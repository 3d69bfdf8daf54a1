"""One trainer kept running, whatever becomes of it. The trainers are threads that play one."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from client.trainer import keeper as keepers
from client.trainer.channel import Channel
from client.trainer.frames import (
    FROM_AGENT,
    FROM_TRAINER,
    Failed,
    FromAgent,
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
from client.trainer.keeper import TrainerEnded, TrainerKeeper
from client.trainer.orders import TrainerExit
from client.trainer.process import FIRST_LIMIT, NurseryGoneError, TrainerProcess
from model.layout import Layout
from privacy.errors import CraftsflError, ModelError

from ..fakes import ADAPTER, LAYOUT

End = Channel[FromAgent]
Play = Callable[[End], int]


class Troupe:
    """Plays one after the other; the last one again and again. Each play returns an exit status."""

    def __init__(self, *plays: Play) -> None:
        self.plays = list(plays)
        self.started: list[float] = []
        self.on_stage = 0
        self._status = threading.Event()
        self._last = 0

    def start(self) -> TrainerProcess:
        self.started.append(time.monotonic())
        assert self.on_stage == 0, "two trainers at once"
        self.on_stage += 1
        ours, its = socket.socketpair()
        end: End = Channel(its, FROM_AGENT, FIRST_LIMIT)
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        self._status = threading.Event()

        def perform() -> None:
            self._last = play(end)
            end.close()
            self._status.set()

        threading.Thread(target=perform, daemon=True).start()
        return OnStage(Channel(ours, FROM_TRAINER, FIRST_LIMIT), self)  # type: ignore[return-value]

    def ended(self) -> int:
        """The exit status."""
        assert self._status.wait(20)
        self.on_stage -= 1
        return self._last


@dataclass(frozen=True)
class OnStage:
    """As a `TrainerProcess`."""

    channel: Channel[FromTrainer]
    troupe: Troupe

    def allow(self, parameters: int) -> None:
        """Nothing large is sent here."""

    def end(self) -> int:
        self.channel.close()
        return self.troupe.ended()


def sound(end: End) -> int:
    """Loads, then adds one in two steps."""
    end.send(Phase("encoding", 1, 2))
    end.send(Ready(LAYOUT))
    return goes_on(end)


def goes_on(end: End) -> int:
    """Trains whatever is asked for."""
    while (asked := end.receive()) is not None:
        if isinstance(asked, Train):
            for done in (1, 2):
                end.send(StepDone(asked.number, done, 2))
            end.send(TrainedUpdate(asked.number, np.ones_like(asked.adapter)))
        if isinstance(asked, SumGradients):
            for done in (1, 2, 3):
                end.send(StepDone(asked.number, done, 3))
            total = np.full(asked.adapter.shape, -asked.step << 40)
            end.send(GradientSum(asked.number, total))
    return TrainerExit.AGENT_GONE


def dies(status: int) -> Play:
    """Is ready, and ends when it is asked to train."""

    def play(end: End) -> int:
        end.send(Ready(LAYOUT))
        end.receive()
        return status

    return play


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TrainerKeeper]]:
    kept: list[TrainerKeeper] = []
    monkeypatch.setattr(keepers, "FIRST_TRAINER_PAUSE", 0.02)

    def keep(troupe: Troupe, layout: Layout | None = None) -> TrainerKeeper:
        keeper = TrainerKeeper(troupe.start, layout)
        kept.append(keeper)
        keeper.start()
        return keeper

    yield keep
    for keeper in kept:
        keeper.stop()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def train(keeper: TrainerKeeper, *, stop: Callable[[], bool] = lambda: False) -> list[object]:
    """The steps, then the update."""
    steps: list[object] = []
    delta = keeper.train(ADAPTER, progress=lambda *at: steps.append(at), should_stop=stop)
    return [*steps, delta.tolist()]


ONE = [(1, 2), (2, 2), np.ones_like(ADAPTER).tolist()]


def test_it_trains_as_if_it_were_here(keep: Callable[..., TrainerKeeper]) -> None:
    keeper = keep(Troupe(sound))
    assert train(keeper) == ONE
    assert train(keeper) == ONE
    assert keeper.layout == LAYOUT
    assert keeper.ready_for(LAYOUT)
    assert not keeper.ready_for(Layout(()))


def total_of(keeper: TrainerKeeper, step: int) -> list[object]:
    """The physical batches, then the sum."""
    batches: list[object] = []
    total = keeper.clipped_sum(
        ADAPTER,
        step,
        progress=lambda *at: batches.append(at),
        should_stop=lambda: False,
    )
    assert total.dtype == np.int64
    return [*batches, total.tolist()]


def test_it_adds_up_as_if_it_were_here(keep: Callable[..., TrainerKeeper]) -> None:
    keeper = keep(Troupe(sound))
    for step in (39, 0):
        wanted = [-step << 40] * len(ADAPTER)
        assert total_of(keeper, step) == [(1, 3), (2, 3), (3, 3), wanted]
    assert train(keeper) == ONE


def test_a_trainer_that_ends_fails_one_sum(keep: Callable[..., TrainerKeeper]) -> None:
    keeper = keep(Troupe(dies(-signal.SIGKILL), sound))
    with pytest.raises(TrainerEnded, match="out of memory"):
        total_of(keeper, 1)
    assert total_of(keeper, 1)[-1] == [-1 << 40] * len(ADAPTER)


@pytest.mark.parametrize(
    "answer",
    [
        lambda number: TrainedUpdate(number, np.ones_like(ADAPTER)),
        lambda number: GradientSum(number, np.ones(len(ADAPTER) + 1, np.int64)),
    ],
)
def test_an_answer_to_something_else_is_no_sum(
    keep: Callable[..., TrainerKeeper], answer: Callable[[int], TrainedUpdate | GradientSum]
) -> None:
    def play(end: End) -> int:
        end.send(Ready(LAYOUT))
        asked = end.receive()
        assert isinstance(asked, SumGradients)
        end.send(answer(asked.number))
        return goes_on(end)

    keeper = keep(Troupe(play))
    with pytest.raises(ModelError, match="something else"):
        total_of(keeper, 1)
    assert train(keeper) == ONE


def test_a_layout_may_be_known_before(keep: Callable[..., TrainerKeeper]) -> None:
    silent = Troupe(lambda end: int(end.receive() is None))
    with pytest.raises(ModelError, match="not known"):
        _ = keep(silent).layout
    keeper = keep(Troupe(silent.plays[0]), LAYOUT)
    assert keeper.layout == LAYOUT
    assert not keeper.ready_for(LAYOUT)
    assert not keeper.was_ready


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-signal.SIGKILL, "signal 9 .SIGKILL.: out of memory"),
        (-signal.SIGSEGV, "signal 11 .SIGSEGV"),
        (TrainerExit.MEMORY, "ran out of memory"),
        (TrainerExit.UNEXPECTED, "unexpected error"),
        (77, "status 77"),
    ],
)
def test_a_trainer_that_ends_fails_one_training(
    keep: Callable[..., TrainerKeeper],
    status: int,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = keep(Troupe(dies(status), sound))
    with pytest.raises(TrainerEnded, match=words):
        train(keeper)
    assert train(keeper) == ONE
    assert "Starting it again in 0.02 s" in caplog.text


def test_a_training_that_failed_leaves_the_trainer_there(
    keep: Callable[..., TrainerKeeper],
) -> None:
    def play(end: End) -> int:
        end.send(Ready(LAYOUT))
        asked = end.receive()
        assert isinstance(asked, Train)
        end.send(StepDone(asked.number - 1, 1, 2))  # of an earlier one: nobody listens
        end.send(Failed(asked.number, "ModelError at x.py:1"))
        return goes_on(end)

    troupe = Troupe(play)
    keeper = keep(troupe)
    with pytest.raises(ModelError, match=r"In the trainer: ModelError at x\.py:1"):
        train(keeper)
    assert train(keeper) == ONE
    assert len(troupe.started) == 1


def test_a_stop_reaches_the_trainer(keep: Callable[..., TrainerKeeper]) -> None:
    told: list[object] = []

    def play(end: End) -> int:
        end.send(Ready(LAYOUT))
        asked = end.receive()
        told.append(end.receive())
        assert isinstance(asked, Train)
        end.send(Failed(asked.number, "stopped"))
        return goes_on(end)

    keeper = keep(Troupe(play))
    wait_for(lambda: keeper.ready_for(LAYOUT))
    with pytest.raises(ModelError, match="In the trainer: stopped"):
        train(keeper, stop=lambda: True)
    assert told == [Stop(1)]
    assert train(keeper) == ONE


def test_the_pauses_grow_until_a_training_succeeds(
    keep: Callable[..., TrainerKeeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "LONGEST_TRAINER_PAUSE", 0.16)
    troupe = Troupe(*[lambda end: 3] * 6, sound)
    keeper = keep(troupe)
    assert train(keeper) == ONE
    pauses = np.diff(troupe.started)
    for pause, least in zip(pauses, [0.02, 0.04, 0.08, 0.16, 0.16, 0.16], strict=True):
        assert pause >= least
    assert keeper._pause == 0.02


def test_what_the_first_trainer_refuses_is_for_a_person(
    keep: Callable[..., TrainerKeeper],
) -> None:
    def refuses(end: End) -> int:
        end.send(RefusedStart("No base.", "Download it.", "base-missing"))
        return TrainerExit.REFUSED

    troupe = Troupe(refuses)
    keeper = keep(troupe)
    wait_for(lambda: keeper._lost is not None)
    with pytest.raises(CraftsflError, match=r"No base\. Download it\.") as caught:
        keeper.check()
    assert caught.value.id == "base-missing"
    assert len(troupe.started) == 1


def test_what_a_later_one_refuses_is_tried_again(
    keep: Callable[..., TrainerKeeper], caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(end: End) -> int:
        end.send(RefusedStart("The data folder is gone.", "Mount it.", "data"))
        return TrainerExit.REFUSED

    keeper = keep(Troupe(dies(3), refuses, sound))
    with pytest.raises(TrainerEnded):
        train(keeper)
    assert train(keeper) == ONE
    keeper.check()
    assert "The trainer refused: The data folder is gone. Mount it." in caplog.text


def test_a_trainer_with_another_adapter_is_not_taken(
    keep: Callable[..., TrainerKeeper], caplog: pytest.LogCaptureFixture
) -> None:
    """The agent has told everybody what its adapter's numbers mean."""

    def other(end: End) -> int:
        end.send(Ready(Layout(())))
        end.receive()
        return TrainerExit.AGENT_GONE

    keeper = keep(Troupe(dies(3), other, sound))
    with pytest.raises(TrainerEnded):
        train(keeper)
    assert train(keeper) == ONE
    assert "start the agent again" in caplog.text


def test_bytes_that_are_no_frame_end_the_trainer(keep: Callable[..., TrainerKeeper]) -> None:
    def raves(end: End) -> int:
        end.send(Ready(LAYOUT))
        end.receive()
        end._end.sendall(b"\xff" * 100)
        return int(end.receive() is None)

    keeper = keep(Troupe(raves, sound))
    with pytest.raises(TrainerEnded, match="kind 255"):
        train(keeper)
    assert train(keeper) == ONE


def test_a_trainer_that_cannot_be_started_is_told_and_tried_again(
    keep: Callable[..., TrainerKeeper], caplog: pytest.LogCaptureFixture
) -> None:
    troupe = Troupe(sound)
    failures = iter([OSError(12, "Cannot allocate memory")])

    class Refusing(Troupe):
        def start(self) -> TrainerProcess:
            for error in failures:
                raise error
            return troupe.start()

    assert train(keep(Refusing(sound))) == ONE
    assert "cannot be started: Cannot allocate memory. Starting it again" in caplog.text


def test_without_a_nursery_there_is_no_trainer(keep: Callable[..., TrainerKeeper]) -> None:
    class Gone(Troupe):
        def start(self) -> TrainerProcess:
            raise NurseryGoneError

    keeper = keep(Gone(sound))
    wait_for(lambda: keeper._lost is not None)
    with pytest.raises(NurseryGoneError):
        keeper.check()


def test_after_a_stop_nothing_is_started_and_nobody_waits(
    keep: Callable[..., TrainerKeeper],
) -> None:
    troupe = Troupe(lambda end: int(end.receive() is None))
    keeper = keep(troupe)
    wait_for(lambda: bool(troupe.started))

    def asks() -> None:
        with pytest.raises(ModelError):
            train(keeper)

    waiting = threading.Thread(target=asks)
    waiting.start()
    keeper.stop()
    waiting.join(10)
    assert not waiting.is_alive()
    assert len(troupe.started) == 1
