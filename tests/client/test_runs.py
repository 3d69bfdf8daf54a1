"""Whose run a message belongs to: numbers only grow, and two runs never disturb each other.

The coordinator of these tests may name any number, and send anything in any order.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from client.agent.gate import AgentGate
from client.agent.progress import LOADING, ProgressEvent
from client.agent.runs import KnownRuns
from client.agent.site_agent import SiteAgent
from privacy.budget import cost_of_attempts
from privacy.ledger import AttemptKey, Ledger, SqliteLedger, State
from privacy.secagg import transcript
from privacy.secagg.client import Effects
from privacy.secagg.server import Stage
from privacy.wire.bodies import LARGEST_RUN, Body, Hello, Refusal, RunOver, SignedFacts
from privacy.wire.checks import Check
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, MaskedInput, SecAggRefusal, Unmask
from tests.privacy.ledger.ledgers import open_test_ledger, spent_by

from .fakes import LAYOUT, FakeTrainer, hello, snapshot
from .masked import MaskedAttempt, make_masked_agent, masked_rules
from .studies import make_study

STUDY = make_study()
ONE = cost_of_attempts(masked_rules(STUDY).charges.charge, 1)
JUMP = 1000  # the policy's, unless it says otherwise


def key(run: int, round: int = 1, attempt: int = 1) -> AttemptKey:
    return AttemptKey(STUDY.digest(), run, round, attempt)


def older(newest: int) -> Refusal:
    return Refusal(Reason.OLDER_RUN, newest_run=newest)


def too_far(newest: int) -> Refusal:
    return Refusal(Reason.RUN_TOO_FAR, newest_run=newest)


def run_open(newest: int) -> Refusal:
    return Refusal(Reason.RUN_OPEN, newest_run=newest)


def keys_of(ledger: Ledger) -> list[tuple[int, int, int]]:
    return [(entry.key.run, entry.key.round, entry.key.attempt) for entry in ledger.entries()]


@pytest.mark.parametrize(
    ("known", "run", "objection"),
    [
        ((), 0, older(0)),
        ((), 1, None),
        ((), JUMP, None),
        ((), JUMP + 1, too_far(0)),
        ((), LARGEST_RUN, too_far(0)),
        ((3,), 2, older(3)),
        ((3,), 3, None),
        ((3,), 4, None),
        ((3, 5, 4), 4, older(5)),
        ((5,), 5 + JUMP, None),
        ((5,), 6 + JUMP, too_far(5)),
        ((LARGEST_RUN,), LARGEST_RUN, None),
        ((LARGEST_RUN,), LARGEST_RUN - 1, older(LARGEST_RUN)),
        ((2**63 + 11,), 1, None),  # Flower's id, from before there were numbers
        ((LARGEST_RUN + 1, 2), 2, None),
        ((2**64 - 1, 2), 1, older(2)),
    ],
)
def test_which_numbers_are_taken(
    known: tuple[int, ...], run: int, objection: Refusal | None
) -> None:
    assert KnownRuns(map(key, known), JUMP).objection(run) == objection


def test_within_a_run_attempts_only_grow() -> None:
    runs = KnownRuns([key(2, 3, 1), key(2, 1, 2), key(1, 9, 9)], JUMP)
    assert (runs.newest, runs.newest_attempt) == (2, (2, 3, 1))
    assert runs.has(key(2, 3, 1)) and runs.has(key(2, 2, 9)) and runs.has(key(1, 9, 9))
    assert not runs.has(key(2, 3, 2)) and not runs.has(key(3, 1, 1))


@pytest.mark.parametrize("old", [LARGEST_RUN + 1, 2**63 + 11, 2**64 - 1])
def test_a_run_of_an_old_ledger_is_compared_with_nothing_and_never_begun(old: int) -> None:
    runs = KnownRuns([key(old, 2, 1)], JUMP)
    assert (runs.newest, runs.newest_attempt) == (0, None)
    assert not runs.has(key(1, 1, 1))
    assert runs.objection(old) == too_far(0)
    assert KnownRuns([key(LARGEST_RUN)], JUMP).objection(old) == too_far(LARGEST_RUN)


def test_an_older_run_is_refused_and_told_the_newest(
    agent: SiteAgent, ledger: SqliteLedger
) -> None:
    MaskedAttempt(STUDY, run=4).to(Stage.DONE, agent)
    before = snapshot(agent, ledger)
    for run in (0, 1, 3):
        attempt = MaskedAttempt(STUDY, run=run, round=2)
        assert attempt.ask(agent) == older(4)
        assert attempt.ask(agent, hello(STUDY)) == older(4)
    assert snapshot(agent, ledger) == before
    MaskedAttempt(STUDY, run=4, round=2).to(Stage.DONE, agent)  # the run itself goes on


def test_what_a_site_knows_of_runs_outlives_its_agent(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """Also of a run that only began: its attempt is charged at the next start."""
    assert isinstance(MaskedAttempt(STUDY, run=4).ask(agent), Advertise)
    again = make_masked_agent(ledger, trainer)
    assert MaskedAttempt(STUDY, run=3).ask(again) == older(4)
    facts = MaskedAttempt(STUDY, run=5).ask(again, hello(STUDY))
    assert isinstance(facts, SignedFacts)
    assert facts.facts.newest_run == 4


def test_greetings_burn_no_numbers(agent: SiteAgent, ledger: SqliteLedger) -> None:
    """Anybody can greet: whatever number is named, the next run is run 1."""
    before = snapshot(agent, ledger)
    for run in (JUMP, JUMP + 1, LARGEST_RUN, 1):
        said = MaskedAttempt(STUDY, run=run).ask(agent, hello(STUDY))
        assert said == too_far(0) if run > JUMP else isinstance(said, SignedFacts)
    assert snapshot(agent, ledger) == before
    assert isinstance(MaskedAttempt(STUDY, run=1).ask(agent), Advertise)


def test_a_refused_attempt_burns_no_number(agent: SiteAgent, ledger: SqliteLedger) -> None:
    before = snapshot(agent, ledger)
    attempt = MaskedAttempt(STUDY, run=900)
    bad = TrainMasked(replace(attempt.offer, roster_digest=bytes(32)), attempt.start)
    assert attempt.ask(agent, bad) == SecAggRefusal(Check.ROSTER, 0)
    late = TrainMasked(replace(attempt.offer, expiry=1), attempt.start)
    assert attempt.ask(agent, late) == SecAggRefusal(Check.EXPIRED, 0)
    assert MaskedAttempt(STUDY, run=900, round=99).ask(agent) == Refusal(Reason.POLICY)
    assert snapshot(agent, ledger) == before
    assert isinstance(MaskedAttempt(STUDY, run=1).ask(agent), Advertise)


def test_one_attempt_moves_the_numbers_by_the_policys_jump_at_most(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """The worst coordinator: it loses every attempt, and the study is over far below 2^32."""
    agent = make_masked_agent(ledger, trainer, masked_rules(STUDY, max_run_jump=7))
    run, moved = 0, []
    while True:
        assert MaskedAttempt(STUDY, run=run + 8).ask(agent) == too_far(run)
        attempt = MaskedAttempt(STUDY, run=run + 7)
        answer = attempt.ask(agent)
        if isinstance(answer, Refusal):
            break
        attempt.to(Stage.DONE, agent)
        moved.append(run := run + 7)
    assert answer == Refusal(Reason.POLICY)  # rounds x attempts, over all runs
    assert moved == [7 * number for number in range(1, 3 * 2 + 1)]


def test_two_studies_of_a_site_may_have_the_same_numbers(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    other = make_study(name="other")
    for study in (STUDY, other):
        agent = make_masked_agent(ledger, trainer, masked_rules(study, epsilon=100.0))
        MaskedAttempt(study, run=1).to(Stage.DONE, agent)
        again = make_masked_agent(ledger, trainer, masked_rules(study, epsilon=100.0))
        assert MaskedAttempt(study, run=1).ask(again) == Refusal(Reason.NOT_NEWER)
    assert [entry.key.study for entry in ledger.entries()] == [STUDY.digest(), other.digest()]
    assert [entry.state for entry in ledger.entries()] == [State.COMMITTED] * 2
    assert spent_by(ledger) == pytest.approx(2 * ONE)


def test_another_studys_runs_are_none_of_this_studys(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    other = make_study(name="other")
    agent = make_masked_agent(ledger, trainer, masked_rules(other))
    MaskedAttempt(other, run=900).to(Stage.DONE, agent)
    again = make_masked_agent(ledger, trainer, masked_rules(STUDY, epsilon=100.0))
    facts = MaskedAttempt(STUDY, run=1).ask(again, hello(STUDY))
    assert isinstance(facts, SignedFacts)
    assert facts.facts.newest_run == 0
    assert isinstance(MaskedAttempt(STUDY, run=1).ask(again), Advertise)


def test_what_is_signed_for_one_study_says_nothing_about_another() -> None:
    """Runs have the same number; the digests that everything else is bound to differ."""
    one, other = MaskedAttempt(STUDY, run=1), MaskedAttempt(make_study(name="other"), run=1)
    assert one.key == other.key
    assert transcript.offer_digest(one.offer) != transcript.offer_digest(other.offer)


def step(attempt: MaskedAttempt, agent: SiteAgent) -> Body:
    """One whole exchange of `attempt`; where the site refuses, nothing moves."""
    answer = attempt.patiently(agent)
    if not isinstance(answer, Refusal | SecAggRefusal):
        attempt.advance(agent)
    return answer


STEPS = 5  # exchanges of an attempt, as in docs/secure-aggregation.md
ORDERS = sorted(set(itertools.permutations("A" * STEPS + "b" * 2)))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[[int], tuple[SiteAgent, SqliteLedger]]]:
    """Agents on ledgers of their own, so that one test can try many orders."""
    opened = []

    def make(number: int) -> tuple[SiteAgent, SqliteLedger]:
        opened.append(open_test_ledger(tmp_path / f"{number}.sqlite"))
        return make_masked_agent(opened[-1], FakeTrainer()), opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


def test_two_runs_in_any_order_destroy_no_attempt_and_cost_one(
    fresh: Callable[[int], tuple[SiteAgent, SqliteLedger]],
) -> None:
    """Run 1 has begun; run 2 comes in between, greeting and beginning, at any two moments."""
    for number, order in enumerate(ORDERS):
        agent, ledger = fresh(number)
        one, two = MaskedAttempt(STUDY, run=1), MaskedAttempt(STUDY, run=2)
        begun = ended = False
        for who in order:
            if who == "A":
                answer = step(one, agent)
                begun, ended = True, isinstance(answer, Unmask)
                assert not isinstance(answer, Refusal), (order, answer)
            elif begun and not ended:
                before = snapshot(agent, ledger)
                assert two.ask(agent, hello(STUDY)) == run_open(1)
                assert step(two, agent) == run_open(1)
                assert snapshot(agent, ledger) == before
            elif not begun:
                assert isinstance(two.ask(agent, hello(STUDY)), SignedFacts)
        assert one.stage is Stage.DONE
        assert [entry.state for entry in ledger.entries()] == [State.COMMITTED], order
        assert spent_by(ledger) == ONE
        assert isinstance(two.ask(agent), Advertise)  # run 1 has ended here


@pytest.mark.parametrize("begins", [1, 2])
def test_whoever_begins_first_is_let_finish(
    agent: SiteAgent, ledger: SqliteLedger, begins: int
) -> None:
    """Two coordinators' processes, step by step in turn: one run ends, the other never begins."""
    runs = {run: MaskedAttempt(STUDY, run=run) for run in (1, 2)}
    first, second = runs[begins], runs[3 - begins]
    for _ in range(STEPS):
        step(first, agent)
        wanted = run_open(1) if begins == 1 else older(2)
        if first.stage is not Stage.DONE:
            assert second.ask(agent) == wanted
            assert second.ask(agent, hello(STUDY)) == wanted
    assert first.stage is Stage.DONE
    assert spent_by(ledger) == ONE
    assert keys_of(ledger) == [(begins, 1, 1)]


def test_an_attempt_that_its_coordinator_has_left_is_open_until_its_offer_expires(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    now = [time.time()]
    effects = Effects(clock=lambda: now[0])
    agent = make_masked_agent(ledger, trainer, effects=effects)
    left = MaskedAttempt(STUDY, run=1)
    left.to(Stage.INPUT, agent)
    now[0] = left.offer.expiry - 0.001
    assert MaskedAttempt(STUDY, run=2).ask(agent) == run_open(1)
    now[0] = left.offer.expiry
    with_time = MaskedAttempt(STUDY, run=2)
    with_time.offer = replace(with_time.offer, expiry=left.offer.expiry + 60)
    assert isinstance(with_time.ask(agent), Advertise)
    assert [entry.state for entry in ledger.entries()] == [State.INTENT] * 2  # nobody had looked
    assert left.ask(agent) == Refusal(Reason.NOT_STARTED)


def test_an_attempt_that_ended_without_an_update_is_not_open(
    agent: SiteAgent, trainer: FakeTrainer
) -> None:
    def fails() -> None:
        raise MemoryError

    trainer.on_start = fails
    attempt = MaskedAttempt(STUDY, run=1)
    attempt.to(Stage.INPUT, agent)
    assert attempt.patiently(agent) == Refusal(Reason.NO_UPDATE)
    assert isinstance(MaskedAttempt(STUDY, run=2).ask(agent), Advertise)


def test_the_same_run_goes_on_under_another_server_process(
    agent: SiteAgent, ledger: SqliteLedger
) -> None:
    """The attempt under way is lost to it, nothing else: it takes the next one of the round."""
    first = MaskedAttempt(STUDY, run=1)
    first.to(Stage.INPUT, agent)
    resumed = MaskedAttempt(STUDY, run=1, attempt=2)
    assert isinstance(resumed.ask(agent, hello(STUDY)), SignedFacts)
    resumed.to(Stage.DONE, agent)
    assert first.ask(agent) == Refusal(Reason.NOT_STARTED)
    states = [entry.state for entry in ledger.entries()]
    assert states == [State.INTENT, State.COMMITTED]
    assert spent_by(ledger) == ONE


def test_two_processes_of_one_run_get_nothing_twice(agent: SiteAgent, ledger: SqliteLedger) -> None:
    """The same attempt, offered by both: the second offer is another one, and is refused."""
    first = MaskedAttempt(STUDY, run=1)
    first.to(Stage.INPUT, agent)
    second = MaskedAttempt(STUDY, run=1)
    second.offer = replace(second.offer, expiry=second.offer.expiry + 1)
    assert second.ask(agent) == SecAggRefusal(Check.SECOND_OFFER, 0)
    assert isinstance(first.patiently(agent), MaskedInput)
    first.to(Stage.DONE, agent)
    assert second.ask(agent) == SecAggRefusal(Check.SECOND_OFFER, 0)
    assert spent_by(ledger) == ONE


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"study_digest": bytes(32)}, Reason.WRONG_STUDY),
        ({"roster_digest": bytes(32)}, Reason.WRONG_ROSTER),
        ({"roster_digest": b"\1" * 32}, Reason.WRONG_ROSTER),
    ],
)
def test_another_study_or_roster_is_named_before_the_first_attempt(
    agent: SiteAgent,
    changed: dict[str, bytes],
    reason: Reason,
    caplog: pytest.LogCaptureFixture,
) -> None:
    greeting: Hello = replace(hello(STUDY), **changed)  # type: ignore[arg-type]
    for _ in range(3):
        assert MaskedAttempt(STUDY).ask(agent, greeting) == Refusal(reason)
    (said,) = [record.message for record in caplog.records if "greeting" in record.message]
    assert ("another roster" if reason is Reason.WRONG_ROSTER else "another study") in said


def test_a_ledger_of_the_version_before_keeps_its_meaning(
    tmp_path: Path, trainer: FakeTrainer
) -> None:
    """Its runs are Flower's ids: their charges count, and run 1 follows."""
    path = tmp_path / "ledger.sqlite"
    old, charge = 2**63 + 11, masked_rules(STUDY).charges.charge
    with open_test_ledger(path) as ledger:
        for attempt in (1, 2):
            ledger.intent(key(old, 1, attempt), charge)
            ledger.commit(key(old, 1, attempt))
        ledger.intent(key(old, 2, 1), charge)  # under way when its agent ended
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 3")
    shutil.copy(path, tmp_path / "copy.sqlite")
    with open_test_ledger(path) as ledger:
        agent = make_masked_agent(ledger, trainer)
        facts = MaskedAttempt(STUDY, run=1).ask(agent, hello(STUDY))
        assert isinstance(facts, SignedFacts)
        spent = cost_of_attempts(charge, 3)
        assert (facts.facts.newest_run, facts.facts.epsilon_spent) == (0, spent)
        MaskedAttempt(STUDY, run=1, round=2).to(Stage.DONE, agent)
        assert keys_of(ledger)[-1] == (1, 2, 1)
        assert spent_by(ledger) == cost_of_attempts(charge, 4)


def over(run: int) -> bytes:
    """Sealed: the coordinator has ended `run`."""
    return seal(Envelope(run, 0, 0, RunOver()))


def said(agent: SiteAgent, data: bytes) -> Body:
    return open_envelope(agent.handle(data), limit=1 << 20).body


def test_a_run_that_was_ended_lets_the_next_one_in_and_costs_nothing(
    agent: SiteAgent, ledger: SqliteLedger
) -> None:
    attempt = MaskedAttempt(STUDY, run=2)
    assert isinstance(attempt.ask(agent), Advertise)
    following = MaskedAttempt(STUDY, run=3)
    assert following.ask(agent, hello(STUDY)) == run_open(2)
    for other in (0, 1, 3, LARGEST_RUN):  # of another run: nothing changes
        assert said(agent, over(other)) == RunOver()
        assert following.ask(agent, hello(STUDY)) == run_open(2)
    for _ in range(2):
        assert said(agent, over(2)) == RunOver()
    assert isinstance(following.ask(agent, hello(STUDY)), SignedFacts)
    assert [entry.state for entry in ledger.entries()] == [State.INTENT]
    assert isinstance(following.ask(agent), Advertise)


def test_nothing_of_an_ended_run_leaves_any_more(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """The worst choice: to end it where every share is there and the update is ready, and go on."""
    now = [0.0]
    agent = make_masked_agent(ledger, trainer, clock=lambda: now[0])
    attempt = MaskedAttempt(STUDY, run=2)
    attempt.to(Stage.INPUT, agent)
    now[0] = STUDY.cohort.reply_slot + 1
    assert said(agent, over(2)) == RunOver()
    answers = [attempt.ask(agent) for _ in range(2)]
    assert not any(isinstance(answer, MaskedInput) for answer in answers), answers
    assert [entry.state for entry in ledger.entries()] == [State.INTENT]


def test_the_end_of_a_run_does_not_show_what_became_of_its_trainer(agent: SiteAgent) -> None:
    """Else a coordinator could begin, end, and ask for the next attempt, free of charge."""
    gate = AgentGate(agent._progress, lambda _: False)  # the trainer is gone; why may be the data
    gate.open(agent, LAYOUT)
    attempt = MaskedAttempt(STUDY, run=2)
    assert isinstance(attempt.ask(agent), Advertise)
    assert said(agent, over(2)) == RunOver()
    gate.tell(ProgressEvent(0, 0, 0, LOADING, 0, 0))
    assert next(agent._progress.subscribe()).run == 2  # and not of a trainer that loads
    assert isinstance(MaskedAttempt(STUDY, run=3).ask(gate), Advertise)


def test_what_left_before_the_end_stays_charged(agent: SiteAgent, ledger: SqliteLedger) -> None:
    MaskedAttempt(STUDY, run=2).to(Stage.DONE, agent)
    before = snapshot(agent, ledger)
    assert said(agent, over(2)) == RunOver()
    assert snapshot(agent, ledger) == before
