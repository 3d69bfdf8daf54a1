"""A trainer that does what the test says, and messages for the agent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.agent.site_agent import AgentParts, SiteAgent
from client.agent.work import Clock, still_training
from client.policy import SiteRules
from model.layout import Layout, LayoutEntry
from privacy.errors import LedgerError
from privacy.ledger import Ledger
from privacy.study.manifest import Study
from privacy.wire.bodies import Body, Hello, Refusal, SignedFacts, SiteFacts
from privacy.wire.codec import Vector
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.reasons import Reason
from privacy.wire.secagg import masked_size_limit

from .studies import MEMBERS, ROSTER, make_policy, make_study

LAYOUT = Layout((LayoutEntry("unet.down.lora_A", (1, 6), "float32"),))
P = LAYOUT.parameters
ADAPTER = np.arange(P, dtype=np.float32)
RUN = 7


class FakeTrainer:
    """Adds one to the adapter, step by step; every step waits until `gate` is set."""

    def __init__(self, *, steps: int = 4) -> None:
        self.layout = LAYOUT
        self.steps = steps
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.calls = 0
        self.cancelled = 0
        self.withdrawn: set[int] = set()
        self.on_start: Callable[[], None] = lambda: None
        self.result: Callable[[Vector], Any] = np.ones_like
        self.total: Callable[[Vector, int], Any] = lambda adapter, step: np.full(
            adapter.shape, step + 1, np.int64
        )

    def train(
        self,
        adapter: Vector,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> Vector:
        self._work(progress, should_stop)
        result: Vector = self.result(adapter)
        return result

    def clipped_sum(
        self,
        adapter: Vector,
        step: int,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> NDArray[np.int64]:
        """All numbers are one more than the step, unless `total` says something else."""
        self._work(progress, should_stop)
        total: NDArray[np.int64] = self.total(adapter, step)
        return total

    def _work(self, progress: Callable[[int, int], None], should_stop: Callable[[], bool]) -> None:
        self.calls += 1
        self.on_start()
        progress(0, self.steps)
        self.entered.set()
        for step in range(self.steps):
            while not self.gate.wait(0.01):
                if should_stop():
                    self.cancelled += 1
                    raise RuntimeError("stopped: canary-patient-1")
            progress(step + 1, self.steps)

    def withdraw(self, patients: Collection[int]) -> None:
        self.withdrawn |= set(patients)


class PausingClock:
    """Seconds that stop while this process trains: nothing is late on a slow machine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._now = 0.0

    def __call__(self) -> float:
        with self._lock:
            now = time.monotonic()
            if not still_training():
                self._now += now - self._last
            self._last = now
            return self._now


def full_disk(*_: object) -> None:
    """Replaces a method of the ledger."""
    raise LedgerError("The disk is full.")


def snapshot(agent: SiteAgent, ledger: Ledger) -> tuple[object, ...]:
    """All state that a message could change."""
    attempt = agent._attempt
    machine = attempt and attempt.client and attempt.client._state
    return ledger.entries(), agent._runs.newest_attempt, attempt, attempt and attempt.reply, machine


def refused(body: Body) -> Reason:
    """The reason; `body` has to be a refusal."""
    assert isinstance(body, Refusal)
    return body.reason


def make_rules(
    *, policy: dict[str, Any] | None = None, study: Study | None = None, name: str = "north"
) -> SiteRules:
    return SiteRules(name, study or make_study(), make_policy(**(policy or {})))


def make_agent(
    ledger: Ledger,
    trainer: FakeTrainer,
    rules: SiteRules | None = None,
    clock: Clock | None = None,
) -> SiteAgent:
    parts = AgentParts(rules or make_rules(), ledger, trainer, clock=clock or PausingClock())
    return MEMBERS.agent(parts.rules.name, parts)


def message(body: Body, *, run: int = RUN, round: int = 1, attempt: int = 1) -> bytes:
    return seal(Envelope(run, round, attempt, body))


def opened(reply: bytes) -> Envelope:
    return open_envelope(reply, limit=masked_size_limit(4, 64, P))


def ask(agent: SiteAgent, body: Body, **key: int) -> Body:
    return opened(agent.handle(message(body, **key))).body


def hello(study: Study | None = None, node: int = 0) -> Hello:
    """A greeting from a coordinator with the same study and roster."""
    return Hello((study or make_study()).digest(), node, ROSTER.digest())


def greeted(agent: SiteAgent, study: Study | None = None, **key: int) -> SiteFacts | Refusal:
    """What the agent says of itself, without its signature."""
    answer = ask(agent, hello(study), **key)
    if isinstance(answer, SignedFacts):
        return answer.facts
    assert isinstance(answer, Refusal)
    return answer
