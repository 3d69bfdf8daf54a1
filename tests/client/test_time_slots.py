"""When anything is told of an attempt: what a coordinator's questions, and when it asks, can tell.

Each test runs masked and plain, on a clock of its own: `side` begins attempts and looks at them.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from client.agent.site_agent import SiteAgent
from client.agent.work import Work
from client.policy import SiteRules
from privacy.errors import PolicyError
from privacy.events import event_of
from privacy.ledger import AttemptKey, Charge, SqliteLedger, State
from privacy.manifest import Study
from privacy.secagg.server import Stage
from privacy.wire.bodies import Body, Collect, Hello, Refusal, Running, StartTraining, Update
from privacy.wire.envelope import refuse
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import MaskedInput, Survivors, UnmaskRequest
from tests.privacy.ledger.ledgers import open_test_ledger

from .fakes import LAYOUT, RUN, FakeTrainer, full_disk, make_agent, make_rules, message, opened
from .fakes import start_message as plain_start
from .masked import MaskedAttempt, make_masked_agent, masked_rules, masked_study
from .studies import make_study

SLOT = 5.0
BEGAN = 100.0
Mode = Literal["plain", "masked"]
Outcome = Literal["in time", "raises", "not finite", "wrong shape", "late", "never done"]
DROPS_OUT: tuple[Outcome, ...] = ("raises", "not finite", "wrong shape", "late", "never done")
ACROSS: dict[str, dict[str, Any]] = {
    "sum": {},
    "filter": {"across_studies": "rdp-filter", "rdp_order": 6},
}


@dataclass
class Now:
    """Seconds that pass when the test says so."""

    at: float = BEGAN

    def __call__(self) -> float:
        return self.at


@dataclass
class Side:
    """One agent, and a coordinator that may ask what it likes whenever it likes."""

    mode: Mode
    ledger: SqliteLedger
    changes: dict[str, Any] = field(default_factory=dict)  # of the study
    policy: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cohort = {"min_sites": 3 if self.mode == "masked" else 1, "reply_slot": SLOT}
        make: Callable[..., Study] = masked_study if self.mode == "masked" else make_study
        self.study = make(cohort=cohort, **self.changes)
        self.now, self.trainer = Now(), FakeTrainer()
        self.attempts: dict[tuple[int, int, int], MaskedAttempt] = {}
        self.agent = self._agent()

    def _agent(self) -> SiteAgent:
        if self.mode == "masked":
            rules = masked_rules(self.study, **self.policy)
            return make_masked_agent(self.ledger, self.trainer, rules, clock=self.now)
        rules = make_rules(study=self.study, policy=self.policy)
        return make_agent(self.ledger, self.trainer, rules, self.now)

    def begin(self, *, run: int = RUN, round: int = 1, attempt: int = 1) -> Body:
        """The agent's answer to the first message of an attempt; keys and shares follow it."""
        key = (run, round, attempt)
        if self.mode == "plain":
            return opened(
                self.agent.handle(plain_start(self.study, run=run, round=round, attempt=attempt))
            ).body
        made = self.attempts[key] = MaskedAttempt(self.study, run=run, round=round, attempt=attempt)
        answer = made.ask(self.agent)
        if not isinstance(answer, Refusal):
            made.to(Stage.INPUT, self.agent)
        return answer

    def look(self, *, run: int = RUN, round: int = 1, attempt: int = 1) -> bytes:
        """The bytes of the answer to "is it done?"."""
        if self.mode == "plain":
            return self.agent.handle(message(Collect(), run=run, round=round, attempt=attempt))
        made = self.attempts[run, round, attempt]
        return self.agent.handle(made.envelope(made.request()))

    def body(self, answer: bytes) -> Body:
        """What those bytes say."""
        for made in self.attempts.values():
            return made.opened(answer)
        return opened(answer).body

    def others(self) -> list[bytes]:
        """The answers to all other messages that a coordinator could send in its place."""
        key = {"run": RUN, "round": 1, "attempt": 1}
        start = StartTraining(self.study.digest(), LAYOUT.fingerprint(), np.zeros(4, np.float32))
        bodies: list[Body] = [Hello(self.study.digest()), start, Survivors((1, 2, 3))]
        bodies += [UnmaskRequest(((1, bytes(64)),)), Collect()]
        if self.mode == "masked":
            made = self.attempts[RUN, 1, 1]
            bodies += [TrainMasked(made.offer, made.start), TrainMasked(made.offer, start)]
            bodies.remove(Collect())
        return [self.agent.handle(message(body, **key)) for body in bodies]

    def trains(self, outcome: Outcome) -> None:
        """What becomes of the attempts that begin from now on."""
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
        """Wait until training has come as far as it will."""
        attempt = self.agent._attempt
        assert attempt is not None
        if self.trainer.gate.is_set():
            assert attempt.work.wait(10)
        else:
            assert self.trainer.entered.wait(10)

    @property
    def states(self) -> list[State]:
        return [entry.state for entry in self.ledger.entries()]


@pytest.fixture(params=["plain", "masked"])
def mode(request: pytest.FixtureRequest) -> Mode:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def make(ledger: SqliteLedger, mode: Mode) -> Iterator[Callable[..., Side]]:
    made: list[Side] = []

    def side(**given: Any) -> Side:
        made.append(Side(mode, given.pop("ledger", ledger), **given))
        return made[-1]

    yield side
    for each in made:
        each.trainer.gate.set()
        assert each.agent.stop(10)


@pytest.fixture
def side(make: Callable[..., Side]) -> Side:
    return make()


def is_update(side: Side, answer: bytes) -> bool:
    return isinstance(side.body(answer), Update | MaskedInput)


def no_update(side: Side, answer: bytes) -> bool:
    return side.body(answer) == Refusal(Reason.NO_UPDATE)


@pytest.mark.parametrize("took", [SLOT + 0.001, 2 * SLOT, 17.0])
def test_a_late_update_never_leaves(side: Side, took: float) -> None:
    """Neither in a later slot, nor to whoever waits with the first look until it is there."""
    side.trainer.on_start = lambda: setattr(side.now, "at", BEGAN + took)
    side.begin()
    side.settled()
    answers = []
    for seconds in (took, 2 * SLOT + took, 100 * SLOT):
        side.now.at = BEGAN + seconds
        answers.append(side.look())
    assert no_update(side, answers[0])
    assert len(set(answers)) == 1
    assert side.states == [State.COMMITTED]


def test_an_update_that_comes_after_the_first_look_never_leaves(side: Side) -> None:
    side.trains("never done")
    side.begin()
    side.settled()
    work = side.agent._attempt.work  # type: ignore[union-attr]
    side.now.at = BEGAN + SLOT
    first = side.look()
    assert no_update(side, first)
    side.trainer.gate.set()
    assert work.wait(10)
    side.now.at = BEGAN + 3 * SLOT
    assert side.look() == first
    assert side.states == [State.COMMITTED]


@pytest.mark.parametrize("took", [0.0, 4.9, SLOT])
@pytest.mark.parametrize("first_look", [SLOT, 1.5 * SLOT, 40.0])
def test_an_update_that_is_there_in_time_leaves_from_its_slot_on(
    side: Side, took: float, first_look: float
) -> None:
    side.trainer.on_start = lambda: setattr(side.now, "at", BEGAN + took)
    side.begin()
    side.settled()
    side.now.at = BEGAN + SLOT - 0.001
    assert side.body(side.look()) == Running()
    side.now.at = BEGAN + first_look
    answer = side.look()
    assert is_update(side, answer)
    side.now.at += 100.0
    assert side.look() == answer
    assert side.states == [State.COMMITTED]


@pytest.mark.parametrize("outcome", ["in time", *DROPS_OUT])
def test_the_first_look_after_the_slot_charges(side: Side, outcome: Outcome) -> None:
    side.trains(outcome)
    side.begin()
    side.settled()
    assert side.states == [State.INTENT]
    side.now.at = BEGAN + SLOT + 0.01
    assert is_update(side, side.look()) == (outcome == "in time")
    assert side.states == [State.COMMITTED]
    side.look()
    assert side.states == [State.COMMITTED]


@pytest.mark.parametrize("outcome", ["in time", *DROPS_OUT])
def test_a_look_that_cannot_be_charged_is_told_nothing(
    side: Side, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    side.trains(outcome)
    side.begin()
    side.settled()
    side.now.at = BEGAN + SLOT + 0.01
    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "commit", full_disk)
        assert side.look() == refuse(message(Collect()), Reason.INTERNAL)
    assert side.states == [State.INTENT]
    assert is_update(side, side.look()) == (outcome == "in time")


def conversation(side: Side, outcome: Outcome) -> list[bytes]:
    """All that is said from the begin of an attempt to long after its slot."""
    side.trains(outcome)
    side.begin()
    side.settled()
    said = []
    for seconds in (0.0, 0.5 * SLOT, SLOT - 0.001, SLOT + 0.01, 2 * SLOT, 10 * SLOT):
        side.now.at = BEGAN + seconds
        said += side.others()[:1] if seconds < SLOT else []
        said.append(side.look())
        said += side.others() if seconds > SLOT else []
    return said


def test_failure_and_lateness_look_the_same_byte_for_byte(
    make: Callable[..., Side], tmp_path: Path
) -> None:
    told = set()
    for number, outcome in enumerate(DROPS_OUT):
        with open_test_ledger(tmp_path / f"{number}.sqlite") as ledger:
            side = make(ledger=ledger)
            said = conversation(side, outcome)
            assert no_update(side, said[-len(side.others()) - 1])
            told.add(tuple(said))
            side.trainer.gate.set()
            assert side.agent.stop(10)
    assert len(told) == 1


@pytest.mark.parametrize("outcome", ["in time", *DROPS_OUT])
def test_looks_before_the_slot_do_not_depend_on_training(side: Side, outcome: Outcome) -> None:
    side.trains(outcome)
    side.begin()
    side.settled()
    looks = set()
    for seconds in (0.0, 1.0, 0.99 * SLOT):
        side.now.at = BEGAN + seconds
        looks.add(side.look())
    assert [side.body(look) for look in looks] == [Running()]
    assert side.states == [State.INTENT]


@pytest.mark.parametrize("outcome", ["in time", *DROPS_OUT])
def test_what_training_gave_is_not_even_asked_before_the_charge(
    side: Side, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is written once, whatever it was: no answer comes sooner for a failure."""
    seen: list[str] = []
    commit, result_by = SqliteLedger.commit, Work.result_by

    def watched(self: SqliteLedger, key: AttemptKey) -> None:
        seen.append("charged")
        commit(self, key)

    def asked(self: Work, moment: float) -> Any:
        seen.append("asked")
        return result_by(self, moment)

    monkeypatch.setattr(SqliteLedger, "commit", watched)
    monkeypatch.setattr(Work, "result_by", asked)
    side.trains(outcome)
    side.begin()
    side.settled()
    side.now.at = BEGAN + SLOT + 0.01
    side.look()
    side.look()
    assert seen == ["charged", "asked"]


@pytest.mark.parametrize("slot", [1e-9, 5.0, 59.9])
def test_a_slot_of_a_nanosecond_is_refused(slot: float, mode: Mode) -> None:
    """By the policy as it is where it does not name min_reply_slot."""
    cohort = {"min_sites": 3, "round_deadline": 600.0, "reply_slot": slot}
    if mode == "masked":
        rules = masked_rules(masked_study(cohort=cohort))
    else:
        rules = make_rules(study=make_study(cohort={**cohort, "min_sites": 1}))
    given = {name: value for name, value in rules.policy if name != "min_reply_slot"}
    strict = SiteRules(rules.name, rules.study, type(rules.policy)(**given))
    with pytest.raises(PolicyError, match=rf"reply_slot {slot:g} is below min_reply_slot 60 "):
        strict.check()
    lower = rules.policy.model_copy(update={"min_reply_slot": slot})
    SiteRules(rules.name, rules.study, lower).check()


def test_superseded_attempts_are_bounded_and_were_told_nothing(make: Callable[..., Side]) -> None:
    """Polled to the last moment, done or not, they look alike, cost nothing, and come to an end."""
    side = make(changes={"rounds": 2, "privacy": {"attempts": 3}}, policy={"max_attempts": 3})
    answers = set()
    for run in (1, 2, 3, 4):
        side.now.at = BEGAN
        side.begin(run=run)
        if run % 2:
            side.settled()
        side.now.at = BEGAN + SLOT - 0.001
        answers.add(type(side.body(side.look(run=run))))
    assert answers == {Running}
    assert side.begin(run=5) == Refusal(Reason.POLICY)
    assert side.states == [State.INTENT] * 4
    assert side.ledger.spent() == 0.0


def test_an_attempt_that_waits_for_an_older_one_has_a_slot_of_its_own(side: Side) -> None:
    """The older one's physical batch ends in time or not: nothing shows before the slot."""
    release = threading.Event()
    side.trainer.on_start = lambda: release.wait(10) and None
    side.begin()
    older = side.agent._attempt.work  # type: ignore[union-attr]
    side.now.at = BEGAN + 4.0
    side.begin(attempt=2)
    side.now.at = BEGAN + 4.0 + SLOT - 0.001
    assert side.body(side.look(attempt=2)) == Running()
    side.now.at = BEGAN + 4.0 + SLOT
    first = side.look(attempt=2)
    assert no_update(side, first)
    release.set()
    assert older.wait(10)
    side.now.at += 10 * SLOT
    assert side.look(attempt=2) == first
    assert side.states == [State.INTENT, State.COMMITTED]


def test_an_attempt_that_got_its_turn_in_time_is_not_late(side: Side) -> None:
    release = threading.Event()
    side.trainer.on_start = lambda: release.wait(10) and None
    side.begin()
    side.now.at = BEGAN + 4.0
    side.begin(attempt=2)
    release.set()
    side.settled()
    side.now.at = BEGAN + 4.0 + SLOT - 0.001
    assert side.body(side.look(attempt=2)) == Running()
    side.now.at = BEGAN + 4.0 + SLOT
    assert is_update(side, side.look(attempt=2))


def test_the_end_of_an_agent_under_way_is_charged_at_the_next_start(
    make: Callable[..., Side], side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    """A draw that is too large for the machine may end the agent, and everybody sees that."""
    side.trains("never done")
    side.begin()
    side.begin(attempt=2)  # the one that it supersedes told nothing
    assert side.states == [State.INTENT, State.INTENT]
    again = make()
    assert again.states == [State.INTENT, State.COMMITTED]
    assert "Round 1 was under way when the agent ended" in caplog.text
    assert not isinstance(again.begin(round=2), Refusal)
    make()
    assert make().states == [State.INTENT, State.COMMITTED, State.COMMITTED]


def spend(ledger: SqliteLedger, rounds: int) -> None:
    """Charges of another study, of a mechanism of its own."""
    other = make_study(name="other", training={"noise_multiplier": 2.0})
    for number in range(1, rounds + 1):
        key = AttemptKey(5, number, 1)
        ledger.intent(key, Charge(other.digest(), event_of(other), 1e-5))
        ledger.commit(key)


def answers_of(side: Side) -> list[bytes]:
    """All that does not rest on keys that are drawn anew."""
    side.trains("raises")
    said = [side.agent.handle(message(Hello(side.study.digest())))]
    side.begin()
    side.settled()
    side.now.at = BEGAN + SLOT
    said += [side.look(), *side.others()]
    side.begin(round=2)  # is it admitted?
    said.append(str(side.states[-1]).encode())
    return said


@pytest.mark.parametrize("across", ACROSS)
def test_other_studies_spending_never_shows(
    make: Callable[..., Side], tmp_path: Path, across: str
) -> None:
    """As long as the budget of all studies lasts, not a byte differs."""
    told = []
    for rounds in (0, 1, 3):
        with open_test_ledger(tmp_path / f"{rounds}.sqlite") as ledger:
            spend(ledger, rounds)
            side = make(ledger=ledger, policy={"epsilon": 60.0, **ACROSS[across]})
            told.append(answers_of(side))
            assert side.agent.stop(10)
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("across", ACROSS)
def test_a_budget_that_other_studies_have_used_up_is_refused_without_figures(
    make: Callable[..., Side], ledger: SqliteLedger, across: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Like any other bound of the policy; the site's own log says which it was."""
    other = make_study(name="other", training={"noise_multiplier": 0.5, "steps": 100})
    key = AttemptKey(5, 1, 1)
    ledger.intent(key, Charge(other.digest(), event_of(other), 1e-5))
    ledger.commit(key)
    side = make(policy=ACROSS[across])
    assert side.begin() == Refusal(Reason.POLICY)
    assert "all studies together: spent" in caplog.text


@pytest.mark.parametrize("budget", [40.0, 4.0])
@pytest.mark.parametrize("across", ACROSS)
def test_no_answer_waits_for_the_accounting_of_other_studies(
    make: Callable[..., Side],
    ledger: SqliteLedger,
    monkeypatch: pytest.MonkeyPatch,
    across: str,
    budget: float,
) -> None:
    """From the start on nobody reads their charges: no answer can take longer for them."""
    from privacy.accounting import composition

    spend(ledger, 3)
    side = make(policy={"study_epsilon": budget, "epsilon": 40.0, **ACROSS[across]})
    own = event_of(side.study)
    read: list[float] = []
    merge = composition.merge

    def spied(events: Any) -> Any:
        known = list(events)
        read.extend(event.noise_multiplier for event in known)
        return merge(known)

    for name in ("composition", "across", "observers", "fitting"):
        monkeypatch.setattr(f"privacy.accounting.{name}.merge", spied)
    monkeypatch.setattr(SqliteLedger, "entries", full_disk)
    side.agent.handle(message(Hello(side.study.digest())))
    answer = side.begin()
    assert isinstance(answer, Refusal) == (budget == 4.0)
    if budget == 40.0:
        side.settled()
        side.now.at = BEGAN + SLOT
        assert is_update(side, side.look())
        side.others()
    assert own.noise_multiplier != 2.0
    assert set(read) == {own.noise_multiplier}


def test_figures_in_common_with_another_study_are_not_ready_sooner(
    make: Callable[..., Side], ledger: SqliteLedger
) -> None:
    """Another study with the same schedule was further: what is remembered of it would tell."""
    from privacy.accounting.composition import epsilon_of

    twin = make_study(name="twin")
    for number in (1, 2, 3):
        key = AttemptKey(5, number, 1)
        ledger.intent(key, Charge(twin.digest(), event_of(twin), 1e-5))
        ledger.commit(key)
    side = make(ledger=ledger)
    assert event_of(side.study) == event_of(twin)
    assert epsilon_of.cache_info().currsize == 1  # the own study's next round


def test_the_agents_clock_stops_where_the_machine_sleeps() -> None:
    """Time in which training could not go on is none; nor can anybody set the clock."""
    assert inspect.signature(SiteAgent).parameters["clock"].default is time.monotonic
