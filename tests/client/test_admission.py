"""What the agent admits: budgets, rounds and attempts, over all runs and studies."""

from __future__ import annotations

import itertools
import logging
import math
import re

import pytest

from client.agent.site_agent import SiteAgent
from privacy.budget import cost_of_attempts
from privacy.ledger import AttemptKey, Charge, SqliteLedger
from privacy.secagg.server import Stage
from privacy.study.terms import event_of
from privacy.wire.bodies import Refusal, SiteFacts
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, MaskedInput
from tests.privacy.ledger.ledgers import book_of, spent_by

from .fakes import FakeTrainer, greeted, make_agent, make_rules, refused, snapshot
from .masked import attempt_of, collect, lapse, start
from .studies import make_study

STUDY = make_study()
CHARGE = Charge(STUDY.digest(), event_of(STUDY), 1e-5)


def test_the_epsilon_after_the_round_is_held_against_the_budget(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    first = spent_by(ledger, CHARGE)
    budget = first * 1.01
    agent = make_agent(
        ledger, trainer, make_rules(policy={"study_epsilon": budget, "allow_partial": True})
    )
    start(agent)
    collect(agent)
    before = snapshot(agent, ledger)
    refusal = start(agent, round=2)
    assert refusal == Refusal(Reason.BUDGET, first, spent_by(ledger, CHARGE), budget)
    assert snapshot(agent, ledger) == before
    assert trainer.calls == 1


def test_a_refusal_is_logged_with_the_figures_and_the_next_start_with_a_way_on(
    ledger: SqliteLedger, trainer: FakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    budget = spent_by(ledger, CHARGE) * 1.1
    rules = make_rules(policy={"study_epsilon": budget, "allow_partial": True})
    agent = make_agent(ledger, trainer, rules)
    start(agent)
    collect(agent)
    with caplog.at_level(logging.WARNING):
        assert refused(start(agent, round=2)) == Reason.BUDGET
    figures = f"used {spent_by(ledger):.2f}, this round would make {spent_by(ledger, CHARGE):.2f}"
    assert f"Round 2 refused: {figures}, budget {budget:.2f}." in caplog.text
    assert "would fit" not in caplog.text  # it takes as long as all studies' charges do
    make_agent(ledger, trainer, rules)
    assert f"No round of this study is left: {figures}" in caplog.text
    assert re.search(r"; \d+ rounds? at q = 0\.\d+ would fit\.", caplog.text)


def test_what_other_studies_spent_counts_and_is_not_told(
    ledger: SqliteLedger, trainer: FakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that leaves differs from a site without other studies, up to the refusal itself."""
    other = make_study(name="other")
    key = AttemptKey(other.digest(), 5, 1, 1)
    ledger.intent(key, Charge(other.digest(), event_of(other), 1e-5))
    ledger.commit(key)
    own = book_of(ledger, CHARGE).study_epsilon(STUDY.digest())
    budgets = {"epsilon": 2.2 * own, "study_epsilon": 2.0 * own}
    rules = make_rules(policy={**budgets, "allow_partial": True})
    agent = make_agent(ledger, trainer, rules)
    facts = greeted(agent)
    assert isinstance(facts, SiteFacts)
    assert (facts.epsilon_spent, facts.epsilon_budget) == (0.0, 2.0 * own)
    assert isinstance(start(agent), Advertise)
    assert isinstance(collect(agent), MaskedInput)
    facts = greeted(agent)
    assert isinstance(facts, SiteFacts)
    assert facts.epsilon_spent == own
    assert spent_by(ledger) == pytest.approx(2 * own)
    assert start(agent, round=2) == Refusal(Reason.POLICY)
    assert "all studies together: used" in caplog.text


def test_a_study_has_its_rounds_and_attempts_once_whatever_the_run(
    ledger: SqliteLedger, trainer: FakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """3 rounds x 2 attempts, charged or lost: a seventh is refused, also under a new run."""
    agent = make_agent(ledger, trainer)
    for run in (1, 2, 3):
        assert isinstance(start(agent, run=run), Advertise)
        lapse(agent)  # nobody has looked: lost
    for number in (1, 2, 3):
        assert isinstance(start(agent, run=4, round=number), Advertise)
        assert isinstance(collect(agent, run=4, round=number), MaskedInput)
        attempt_of(agent, run=4, round=number).to(Stage.DONE, agent)
    before = snapshot(agent, ledger)
    assert refused(start(agent, run=5)) == Reason.POLICY
    assert refused(start(agent, run=4, round=3, attempt=2)) == Reason.POLICY
    assert snapshot(agent, ledger) == before
    assert "all of its 3 rounds x 2 attempts" in caplog.text
    other = make_study(name="other")
    rules = make_rules(study=other, policy={"epsilon": 40.0})
    assert isinstance(start(make_agent(ledger, trainer, rules), other, run=1), Advertise)


@pytest.mark.parametrize("key", [{"round": 0}, {"round": 4}, {"attempt": 0}, {"attempt": 3}])
def test_rounds_and_attempts_are_the_studys(
    agent: SiteAgent, ledger: SqliteLedger, key: dict[str, int]
) -> None:
    assert refused(start(agent, **key)) == Reason.POLICY
    assert ledger.entries() == ()


def test_lost_attempts_of_other_studies_do_not_count(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """They would show: how often another study was interrupted is its own affair."""
    other = make_study(name="other")
    beside = make_agent(ledger, trainer, make_rules(study=other))
    for run in (1, 2, 3, 4, 5, 6):
        assert isinstance(start(beside, other, run=run), Advertise)
        lapse(beside)
    assert refused(start(beside, other, run=7)) == Reason.POLICY
    rules = make_rules(policy={"epsilon": 40.0})
    assert isinstance(start(make_agent(ledger, trainer, rules), run=8), Advertise)


def test_lost_attempts_are_bounded_for_all_runs_together(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """Endless new runs neither fill the ledger nor keep the model busy for nothing."""
    agent = make_agent(ledger, trainer, make_rules(policy={"max_lost_attempts": 3}))
    start(agent, run=1)
    assert isinstance(collect(agent, run=1), MaskedInput)  # charged, not lost
    attempt_of(agent, run=1).to(Stage.DONE, agent)
    for run in (2, 3):
        assert isinstance(start(agent, run=run), Advertise)
        lapse(agent)
    assert isinstance(start(agent, run=4), Advertise)
    before = snapshot(agent, ledger)
    others = [start(agent, run=4, round=number) for number in (2, 3)]
    assert [refused(answer) for answer in others] == [Reason.POLICY] * 2
    assert snapshot(agent, ledger) == before
    assert isinstance(collect(agent, run=4), MaskedInput)
    attempt_of(agent, run=4).to(Stage.DONE, agent)
    assert isinstance(start(agent, run=5), Advertise)
    lapse(agent)
    before = snapshot(agent, ledger)
    assert [refused(start(agent, run=run)) for run in range(6, 9)] == [Reason.POLICY] * 3
    assert snapshot(agent, ledger) == before


def test_no_noise_is_recorded_and_told_as_infinite(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    study = make_study(training={"noise_multiplier": 0.0})
    refusing = make_agent(ledger, trainer, make_rules(study=study))
    assert refused(start(refusing, study)) == Reason.POLICY
    allowed = make_rules(study=study, policy={"allow_no_privacy": True})
    agent = make_agent(ledger, trainer, allowed)
    assert isinstance(start(agent, study), Advertise)
    assert isinstance(collect(agent, study), MaskedInput)
    facts = greeted(agent, study)
    assert isinstance(facts, SiteFacts)
    assert facts.epsilon_spent == math.inf
    assert math.isinf(spent_by(ledger))
    for number in (1, 2):  # another study, though its run has the same number
        assert refused(start(make_agent(ledger, trainer), round=number)) == Reason.POLICY


WHOLE = cost_of_attempts(CHARGE, STUDY.rounds * STUDY.privacy.attempts)


def test_a_study_that_cannot_end_is_refused_at_the_first_greeting_with_both_figures(
    ledger: SqliteLedger, trainer: FakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """One round after the other would fit, until the budget is gone and the study is not done."""
    budget = WHOLE * 0.999
    agent = make_agent(ledger, trainer, make_rules(policy={"study_epsilon": budget}))
    before = snapshot(agent, ledger)
    refusal = Refusal(Reason.CANNOT_FINISH, 0.0, WHOLE, budget)
    assert greeted(agent) == refusal
    assert start(agent) == refusal  # also to a coordinator that does not greet
    assert snapshot(agent, ledger) == before
    assert trainer.calls == 0
    words = f"would make epsilon {WHOLE:.2f}, and study_epsilon, of this study, is {budget:.2f}"
    assert caplog.text.count(words) == 1  # at the start, before anybody asks
    assert "allow_partial = true" in caplog.text


@pytest.mark.parametrize("changed", [{"study_epsilon": WHOLE}, {"allow_partial": True}])
def test_a_study_that_just_fits_or_may_be_partial_begins(
    ledger: SqliteLedger, trainer: FakeTrainer, changed: dict[str, float | bool]
) -> None:
    rules = make_rules(policy={"study_epsilon": WHOLE / 2, **changed})
    agent = make_agent(ledger, trainer, rules)
    facts = greeted(agent)
    assert isinstance(facts, SiteFacts)
    assert facts.epsilon_schedule == WHOLE
    assert isinstance(start(agent), Advertise)


def test_a_study_that_fits_is_let_finish_to_its_last_attempt(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """What it has cost so far is part of its schedule, not added to it; restarts change nothing."""
    rules = make_rules(policy={"study_epsilon": WHOLE, "epsilon": WHOLE})
    for number, attempt in itertools.product((1, 2, 3), (1, 2)):
        agent = make_agent(ledger, trainer, rules)
        assert isinstance(greeted(agent), SiteFacts)
        assert isinstance(start(agent, round=number, attempt=attempt), Advertise)
        assert isinstance(collect(agent, round=number, attempt=attempt), MaskedInput)
    assert spent_by(ledger) == WHOLE


def test_a_budget_that_was_lowered_under_way_is_told_with_what_is_used(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    agent = make_agent(ledger, trainer)
    start(agent)
    collect(agent)
    used = spent_by(ledger)
    lower = make_agent(ledger, trainer, make_rules(policy={"study_epsilon": WHOLE / 2}))
    refusal = Refusal(Reason.CANNOT_FINISH, used, WHOLE, WHOLE / 2)
    assert greeted(lower) == refusal


def test_a_study_without_noise_is_not_asked_for_its_end(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    study = make_study(training={"noise_multiplier": 0.0})
    agent = make_agent(ledger, trainer, make_rules(study=study, policy={"allow_no_privacy": True}))
    facts = greeted(agent, study)
    assert isinstance(facts, SiteFacts)
    assert facts.epsilon_schedule == math.inf
