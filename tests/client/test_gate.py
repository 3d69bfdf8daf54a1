"""Messages that come while the agent or its trainer still loads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from client.agent import gate as gates
from client.agent.gate import AgentGate
from client.agent.progress import ANSWERED, LOADING, TRAINING, ProgressEvent, ProgressSource
from model.layout import Layout
from privacy.wire.bodies import Hello, Refusal
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.reasons import Reason
from privacy.wire.sealed import SealedStep, StepForm
from privacy.wire.secagg import Deliver

from .fakes import LAYOUT, message
from .masked import MaskedAttempt

HELLO = seal(Envelope(7, 0, 0, Hello(bytes(32))))
DELIVER = seal(Envelope(7, 1, 1, Deliver(())))
START = message(MaskedAttempt().beginning())

STEP = seal(
    Envelope(
        7,
        2,
        1,
        SealedStep(
            session_digest=bytes(32),
            step=2,
            attempt=1,
            form=StepForm.DIRECT,
            slot=0,
            adapter=bytes(32),
            state=bytes(32),
            sums=bytes(32),
            cohort=(1, 2, 3),
            label=bytes(32),
        ),
    )
)


class Echo:
    """Answers like an agent, which has begun the attempts `begun`."""

    begun: tuple[tuple[int, int, int], ...] = ()

    def has_begun(self, *attempt: int) -> bool:
        return attempt in self.begun

    def handle(self, data: bytes) -> bytes:
        return b"answer to " + data


class Trainer:
    """There or not."""

    ready = True
    layout = LAYOUT

    def ready_for(self, layout: Layout) -> bool:
        return self.ready and layout == self.layout


def opened(trainer: Trainer) -> tuple[AgentGate, ProgressSource]:
    progress = ProgressSource()
    gate = AgentGate(progress, trainer.ready_for)
    gate.open(Echo(), LAYOUT)  # type: ignore[arg-type]
    return gate, progress


def is_not_ready(answer: bytes) -> bool:
    return open_envelope(answer, limit=1000).body == Refusal(Reason.NOT_READY)


def test_a_message_waits_for_the_agent() -> None:
    gate = AgentGate(ProgressSource(), Trainer().ready_for)
    with ThreadPoolExecutor() as pool:
        early = pool.submit(gate.handle, HELLO)
        gate.open(Echo(), LAYOUT)  # type: ignore[arg-type]
        assert early.result(gates.PATIENCE_SECONDS / 2) == b"answer to " + HELLO
    assert gate.handle(HELLO) == b"answer to " + HELLO


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "PATIENCE_SECONDS", 0.01)
    assert is_not_ready(AgentGate(ProgressSource(), Trainer().ready_for).handle(HELLO))


def test_without_a_trainer_everything_is_answered_but_the_beginning_of_an_attempt() -> None:
    trainer = Trainer()
    gate, _ = opened(trainer)
    trainer.ready = False
    assert is_not_ready(gate.handle(START))
    for data in (HELLO, DELIVER, b"", b"no envelope"):
        assert gate.handle(data) == b"answer to " + data
    trainer.ready = True
    assert gate.handle(START) == b"answer to " + START


def test_a_trainer_for_another_adapter_is_none() -> None:
    trainer = Trainer()
    gate, _ = opened(trainer)
    trainer.layout = Layout(())
    assert is_not_ready(gate.handle(START))


def test_a_trainer_that_goes_in_an_attempt_is_missed_only_after_the_answer() -> None:
    """Why it went may depend on the data, and a coordinator may ask at any time."""
    trainer = Trainer()
    gate, progress = opened(trainer)
    for phase in (TRAINING, "failed", "trained"):
        progress.publish(ProgressEvent(7, 1, 1, phase, 0, 4))
        trainer.ready = False
        assert gate.takes_attempts
        gate.tell(ProgressEvent(0, 0, 0, LOADING, 0, 0))
        assert progress.in_attempt
        assert gate.handle(START) == b"answer to " + START
    progress.publish(ProgressEvent(7, 1, 1, ANSWERED, 0, 0))
    assert not gate.takes_attempts
    assert is_not_ready(gate.handle(START))
    gate.tell(ProgressEvent(0, 0, 0, LOADING, 0, 0))
    assert next(progress.subscribe()).phase == LOADING


def test_a_step_that_was_begun_is_asked_for_again_whatever_became_of_the_trainer() -> None:
    """Its vector may have been lost on the way; the same bytes come out of memory."""
    trainer, echo = Trainer(), Echo()
    gate = AgentGate(ProgressSource(), trainer.ready_for)
    gate.open(echo, LAYOUT)  # type: ignore[arg-type]
    trainer.ready = False
    assert is_not_ready(gate.handle(STEP))
    echo.begun = ((7, 2, 1),)
    assert gate.handle(STEP) == b"answer to " + STEP
    echo.begun = ((7, 2, 2),)
    assert is_not_ready(gate.handle(STEP))
