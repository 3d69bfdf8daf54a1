"""Kills, stale messages, two coordinators' processes and two gateways, in seeded random orders.

Whatever comes in whatever order, after every single answer: what left of an attempt was charged on
disk before, and is the same whenever it is asked for again; nothing is charged without a cause; no
refusal changes the ledger; runs only grow, and an open attempt is superseded by its own run only.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from client.agent.site_agent import SiteAgent
from privacy.ledger import AttemptKey, SqliteLedger, State, read_ledger
from privacy.secagg.client import Effects
from privacy.secagg.refusals import Refused
from privacy.secagg.server import SecAggServer, Stage
from privacy.wire.bodies import Refusal, Running, SignedFacts
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, MaskedInput, SecAggRefusal, Unmask
from tests.privacy.ledger.ledgers import open_test_ledger

from .fakes import FakeTrainer, hello
from .masked import MaskedAttempt, make_masked_agent, masked_rules
from .studies import ROSTER, make_study

SEEDS = 8
SLOT = 5.0
STUDY = make_study(rounds=12, privacy={"attempts": 3}, cohort={"reply_slot": SLOT})
Key = tuple[int, int, int]


@dataclass
class Hostile:
    """A site whose agent may be killed, and whoever talks to it; checks every answer."""

    path: Path
    dice: random.Random
    now: float = 100.0
    attempts: list[MaskedAttempt] = field(default_factory=list)
    sent: list[tuple[MaskedAttempt, bytes]] = field(default_factory=list)
    left: dict[Key, set[bytes]] = field(default_factory=dict)  # updates, or that there is none
    looked: set[Key] = field(default_factory=set)
    under_way: set[Key] = field(default_factory=set)  # when an agent was killed
    open: MaskedAttempt | None = None  # as far as anybody outside can know
    answers: set[str] = field(default_factory=set)
    epoch: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """As after a kill: nothing of the last agent is left but the ledger."""
        self.ledger: SqliteLedger = open_test_ledger(self.path)
        effects = Effects(clock=self.unix)
        rules = masked_rules(STUDY, max_attempts=3, epsilon=500.0, study_epsilon=500.0)
        self.agent: SiteAgent = make_masked_agent(
            self.ledger, FakeTrainer(), rules, effects, clock=lambda: self.now
        )

    def unix(self) -> float:
        return self.epoch + self.now

    def kill(self) -> None:
        self.under_way |= {
            self.key(entry.key) for entry in self.ledger.entries() if entry.state is State.INTENT
        }
        self.ledger.close()
        self.open = None
        self.start()

    @staticmethod
    def key(key: AttemptKey) -> Key:
        return key.run, key.round, key.attempt

    def states(self) -> dict[Key, State]:
        """What is on disk, read by another reader."""
        return {self.key(entry.key): entry.state for entry in read_ledger(self.path).entries()}

    def offered(self) -> MaskedAttempt:
        """A new attempt of any run, also one that was there before or is far too large."""
        newest = self.agent._runs.newest_attempt or (1, 1, 0)
        run, number, attempt = newest
        likely = [(run, number, attempt + 1), (run, number + 1, 1)]
        unlikely = [(run - 1, number + 1, 1), (run + 1, number, 1), (2**32 - 1, 1, 1), newest]
        key = self.dice.choice([*likely * 4, *unlikely])
        made = MaskedAttempt(STUDY, run=max(key[0], 0), round=key[1], attempt=key[2])
        expiry = int(self.unix()) + self.dice.choice([30, 60])
        made.offer = replace(made.offer, expiry=expiry)
        made.server = SecAggServer(ROSTER, made.offer)
        self.attempts.append(made)
        return made

    def intrude(self) -> None:
        """Another run, at the worst moment."""
        if self.open is not None:
            run, number, _ = self.open.key
            made = MaskedAttempt(STUDY, run=run + 1, round=number)
            made.offer = replace(made.offer, expiry=int(self.unix()) + 60)
            self.deliver(made, made.envelope(made.request()))

    def repeat(self) -> None:
        """The newest attempt, which the site knows, with another offer."""
        run, number, attempt = self.agent._runs.newest_attempt or (1, 1, 1)
        made = MaskedAttempt(STUDY, run=run, round=number, attempt=attempt)
        made.offer = replace(made.offer, expiry=int(self.unix()) + 59)
        self.deliver(made, made.envelope(made.request()))

    def greet(self) -> None:
        run = self.dice.choice([0, 1, 2, 3, 2**32 - 1])
        made = MaskedAttempt(STUDY, run=run, round=0, attempt=0)
        self.deliver(made, made.envelope(hello(STUDY, 5)))

    def go_on(self) -> None:
        """The next message of an attempt, or its first; peers follow where the site did."""
        made = self.dice.choice(self.attempts) if self.attempts else self.offered()
        if self.open is not None and self.dice.random() < 0.9:
            made = self.open
        if made.stage in (Stage.DONE, Stage.ABORTED):
            return
        answer = self.deliver(made, made.envelope(made.request()))
        if not isinstance(answer, Refusal | SecAggRefusal | Running):
            with suppress(Refused):  # an answer that belongs to this attempt's twin
                made.advance(self.agent)

    def stale(self) -> None:
        """Something that was said before, through another gateway perhaps."""
        if self.sent:
            self.deliver(*self.dice.choice(self.sent))

    def wait(self) -> None:
        attempt = self.agent._attempt
        if attempt is not None and self.dice.random() < 0.9:
            attempt.work.wait(10)
        self.now += self.dice.choice([*[SLOT] * 7, 70.0])

    def deliver(self, made: MaskedAttempt, data: bytes) -> object:
        """Send it, and hold the answer and the ledger against every promise."""
        before, running = self.states(), self.open
        answer = made.opened(self.agent.handle(data))
        self.sent.append((made, data))
        self.answers.add(
            answer.reason.name if isinstance(answer, Refusal) else type(answer).__name__
        )
        after = self.states()
        begun = after.keys() - before.keys()
        if isinstance(answer, Advertise):
            assert begun <= {made.key}
            if begun:
                self.check_may_begin(made, running, before)
                self.open = made
        else:
            assert not begun
        charged = {key for key in after if after[key] is not before.get(key)} - begun
        dropped = answer == Refusal(Reason.NO_UPDATE)
        if isinstance(answer, MaskedInput) or dropped:
            assert after[made.key] is State.COMMITTED
            self.left.setdefault(made.key, set()).add(answer.encode())
            assert len(self.left[made.key]) == 1, "an attempt was released twice"
            self.looked.add(made.key)
            assert charged <= {made.key}
        else:
            assert not charged
        if self.open is not None and self.open.key == made.key:
            self.open = None if dropped or isinstance(answer, Unmask) else self.open
        return answer

    def check_may_begin(
        self, made: MaskedAttempt, running: MaskedAttempt | None, before: dict[Key, State]
    ) -> None:
        assert all(made.key > key for key in before)
        if running is not None and running.key[0] != made.key[0]:
            assert self.unix() >= running.offer.expiry, "another run's open attempt was ended"

    def judge(self) -> None:
        """Every charge has a cause: somebody looked, or an agent was killed during it."""
        charged = {key for key, state in self.states().items() if state is State.COMMITTED}
        assert self.left.keys() <= charged
        assert charged <= self.looked | self.under_way


@contextmanager
def hostile(path: Path, seed: int) -> Iterator[Hostile]:
    made = Hostile(path, random.Random(seed))
    try:
        yield made
    finally:
        made.agent.stop(10)
        made.ledger.close()


def test_nothing_is_charged_or_released_twice_in_any_order(tmp_path: Path) -> None:
    answers: set[str] = set()
    released = 0
    for seed in range(SEEDS):
        with hostile(tmp_path / f"{seed}.sqlite", seed) as world:
            moves: list[Callable[[], object]] = [world.go_on] * 10
            moves += [
                world.offered,
                world.greet,
                world.stale,
                world.intrude,
                world.repeat,
                *[world.wait] * 3,
            ]
            for _ in range(80):
                world.dice.choice([*moves, world.kill] if world.dice.random() < 0.3 else moves)()
            world.judge()
            answers |= world.answers
            released += len(world.left)
    # That the orders were worth trying: everything that can be answered was.
    assert released >= SEEDS
    wanted = {SignedFacts, Advertise, MaskedInput, Unmask}
    assert {cast(type, each).__name__ for each in wanted} <= answers
    assert {"OLDER_RUN", "RUN_OPEN", "RUN_TOO_FAR", "NOT_NEWER", "NOT_STARTED"} <= answers


@pytest.mark.parametrize("seed", range(4))
def test_after_any_order_the_newest_run_still_goes_on(tmp_path: Path, seed: int) -> None:
    """However bad it was, an honest coordinator's next attempt of the newest run is taken."""
    with hostile(tmp_path / "ledger.sqlite", seed) as world:
        for _ in range(25):
            world.dice.choice([world.go_on, world.offered, world.greet, world.stale])()
        newest = world.agent._runs.newest
        number = 1 + max((round_ for run, round_, _ in world.states() if run == newest), default=0)
        if number > STUDY.rounds:
            pytest.skip("this order used up the last round")
        honest = MaskedAttempt(STUDY, run=max(newest, 1), round=number)
        honest.offer = replace(honest.offer, expiry=int(world.unix()) + 60)
        assert isinstance(honest.ask(world.agent), Advertise)
