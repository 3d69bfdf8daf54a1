"""What the agent admits: budgets, rounds and attempts, over all runs and studies."""

from __future__ import annotations

import logging
import math
import re

import pytest

from client.agent.site_agent import SiteAgent
from privacy.ledger import AttemptKey, Charge, SqliteLedger
from privacy.study.terms import event_of
from privacy.wire.bodies import Hello, Refusal, SiteFacts, Started, Update
from privacy.wire.reasons import Reason
from tests.privacy.ledger.ledgers import book_of, spent_by

from .fakes import FakeTrainer, ask, collect, make_agent, make_rules, refused, snapshot, start
from .studies import make_study

STUDY = make_study()
CHARGE = Charge(STUDY.digest(), event_of(STUDY), 1e-5)


def test_the_epsilon_after_the_round_is_held_against_the_budget(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    first = spent_by(ledger, CHARGE)
    budget = first * 1.01
    agent = make_agent(ledger, trainer, make_rules(policy={"study_epsilon": budget}))
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
    rules = make_rules(policy={"study_epsilon": budget})
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
    rules = make_rules(policy={"epsilon": 2.2 * own, "study_epsilon": 2.0 * own})
    agent = make_agent(ledger, trainer, rules)
    facts = ask(agent, Hello(STUDY.digest()))
    assert isinstance(facts, SiteFacts)
    assert (facts.epsilon_spent, facts.epsilon_budget) == (0.0, 2.0 * own)
    assert start(agent) == Started()
    update = collect(agent)
    assert isinstance(update, Update)
    assert update.epsilon_spent == own
    assert spent_by(ledger) == pytest.approx(2 * own)
    assert start(agent, round=2) == Refusal(Reason.POLICY)
    assert "all studies together: used" in caplog.text


def test_a_study_has_its_rounds_and_attempts_once_whatever_the_run(
    ledger: SqliteLedger, trainer: FakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """3 rounds x 2 attempts, charged or lost: a seventh is refused, also under a new run."""
    agent = make_agent(ledger, trainer)
    for run in (1, 2, 3):
        assert start(agent, run=run) == Started()  # superseded by the next: lost
    for number in (1, 2, 3):
        assert start(agent, run=4, round=number) == Started()
        assert isinstance(collect(agent, run=4, round=number), Update)
    before = snapshot(agent, ledger)
    assert refused(start(agent, run=5)) == Reason.POLICY
    assert refused(start(agent, run=4, round=3, attempt=2)) == Reason.POLICY
    assert snapshot(agent, ledger) == before
    assert "all of its 3 rounds x 2 attempts" in caplog.text
    other = make_study(name="other")
    beside = make_agent(ledger, trainer, make_rules(study=other))
    assert start(beside, other, run=6) == Started()


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
        assert start(beside, other, run=run) == Started()
    assert refused(start(beside, other, run=7)) == Reason.POLICY
    assert start(make_agent(ledger, trainer), run=8) == Started()


def test_lost_attempts_are_bounded_for_all_runs_together(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """Endless new runs neither fill the ledger nor keep the model busy for nothing."""
    agent = make_agent(ledger, trainer, make_rules(policy={"max_lost_attempts": 3}))
    start(agent, run=1)
    assert isinstance(collect(agent, run=1), Update)  # charged, not lost
    for run in (2, 3, 4):
        assert start(agent, run=run) == Started()
    before = snapshot(agent, ledger)
    assert [refused(start(agent, run=run)) for run in range(5, 9)] == [Reason.POLICY] * 4
    assert snapshot(agent, ledger) == before
    assert isinstance(collect(agent, run=4), Update)
    assert start(agent, run=5) == Started()


def test_no_noise_is_recorded_and_told_as_infinite(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    study = make_study(training={"noise_multiplier": 0.0})
    refusing = make_agent(ledger, trainer, make_rules(study=study))
    assert refused(start(refusing, study)) == Reason.POLICY
    allowed = make_rules(study=study, policy={"allow_no_privacy": True})
    agent = make_agent(ledger, trainer, allowed)
    assert start(agent, study) == Started()
    update = collect(agent)
    assert isinstance(update, Update)
    assert update.epsilon_spent == math.inf
    assert math.isinf(spent_by(ledger))
    for number in (1, 2):  # another study, though its run has the same number
        assert refused(start(make_agent(ledger, trainer), round=number)) == Reason.POLICY
