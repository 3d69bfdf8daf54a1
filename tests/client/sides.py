"""A site agent, and a coordinator that asks whatever it likes at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from client.agent.site_agent import SiteAgent
from privacy.ledger import SqliteLedger, State
from privacy.secagg.server import Stage
from privacy.wire.bodies import Body, Hello, Refusal, StartTraining
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import MaskedInput, Survivors, UnmaskRequest

from .fakes import LAYOUT, RUN, FakeTrainer, hello, make_agent, message, opened
from .masked import MaskedAttempt, masked_rules
from .studies import make_study

SLOT = 5.0
BEGAN = 100.0
Outcome = Literal["in time", "raises", "not finite", "wrong shape", "late", "never done"]
DROPS_OUT: tuple[Outcome, ...] = ("raises", "not finite", "wrong shape", "late", "never done")


@dataclass
class Now:
    """Seconds that pass only when the test says so."""

    at: float = BEGAN

    def __call__(self) -> float:
        return self.at


@dataclass
class Side:
    """One agent, and a coordinator that may ask whatever it likes at any time."""

    ledger: SqliteLedger
    changes: dict[str, Any] = field(default_factory=dict)  # of the study
    policy: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.study = make_study(cohort={"reply_slot": SLOT}, **self.changes)
        self.now, self.trainer = Now(), FakeTrainer()
        self.attempts: dict[tuple[int, int, int], MaskedAttempt] = {}
        self.agent = self._agent()

    def _agent(self) -> SiteAgent:
        rules = masked_rules(self.study, **self.policy)
        return make_agent(self.ledger, self.trainer, rules, self.now)

    def begin(self, *, run: int = RUN, round: int = 1, attempt: int = 1) -> Body:
        """The agent's answer to the first message of an attempt; keys and shares follow it."""
        key = (run, round, attempt)
        made = self.attempts[key] = MaskedAttempt(self.study, run=run, round=round, attempt=attempt)
        answer = made.ask(self.agent)
        if not isinstance(answer, Refusal):
            made.to(Stage.INPUT, self.agent)
        return answer

    def look(self, *, run: int = RUN, round: int = 1, attempt: int = 1) -> bytes:
        """The bytes of the answer to "is it done?"."""
        made = self.attempts[run, round, attempt]
        return self.agent.handle(made.envelope(made.request()))

    def body(self, answer: bytes) -> Body:
        """The body of an answer."""
        for made in self.attempts.values():
            return made.opened(answer)
        return opened(answer).body

    def greeting(self) -> Hello:
        """From a coordinator with the same study and roster."""
        return hello(self.study)

    def others(self) -> list[bytes]:
        """The answers to all other messages that a coordinator could send instead."""
        key = {"run": RUN, "round": 1, "attempt": 1}
        start = StartTraining(self.study.digest(), LAYOUT.fingerprint(), np.zeros(4, np.float32))
        bodies: list[Body] = [self.greeting(), start, Survivors((1, 2, 3))]
        bodies.append(UnmaskRequest(((1, bytes(64)),)))
        made = self.attempts[RUN, 1, 1]
        bodies += [made.beginning(), TrainMasked(made.offer, start)]
        return [self.agent.handle(message(body, **key)) for body in bodies]

    def trains(self, outcome: Outcome) -> None:
        """How the attempts that begin from now on will end."""
        self.trainer.result = {
            "not finite": lambda adapter: np.full_like(adapter, np.nan),
            "wrong shape": lambda adapter: adapter[1:],
        }.get(outcome, np.ones_like)

        def on_start() -> None:
            if outcome == "raises":
                raise MemoryError
            if outcome == "late":
                self.now.at = BEGAN + SLOT + 0.01

        self.trainer.on_start = on_start
        if outcome == "never done":
            self.trainer.gate.clear()

    def settled(self) -> None:
        """Wait until training has got as far as it will get."""
        attempt = self.agent._attempt
        assert attempt is not None
        if self.trainer.gate.is_set():
            assert attempt.work.wait(10)
        else:
            assert self.trainer.entered.wait(10)

    @property
    def states(self) -> list[State]:
        return [entry.state for entry in self.ledger.entries()]


def is_update(side: Side, answer: bytes) -> bool:
    return isinstance(side.body(answer), MaskedInput)


def no_update(side: Side, answer: bytes) -> bool:
    return side.body(answer) == Refusal(Reason.NO_UPDATE)
