"""Which offers a masked agent takes: its own study and policy decide, whatever the offer says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from client.agent.site_agent import SiteAgent
from privacy.ledger import AttemptKey, SqliteLedger
from privacy.secagg.server import Stage
from privacy.wire.bodies import Body, StartTraining
from privacy.wire.checks import Check
from privacy.wire.offer import MechanismNumber, TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, SecAggRefusal, Survivors

from .fakes import ADAPTER, LAYOUT, RUN, FakeTrainer, P, refused, snapshot
from .masked import MaskedAttempt, make_masked_agent, masked_rules
from .studies import make_study


def other(attempt: MaskedAttempt, **offer: object) -> Body:
    """What is due at first, with another offer."""
    return TrainMasked(replace(attempt.offer, **offer), attempt.start)  # type: ignore[arg-type]


OFFERS: dict[str, tuple[Callable[[MaskedAttempt], Body], Check]] = {
    "roster": (lambda a: other(a, roster_digest=bytes(32)), Check.ROSTER),
    "model": (lambda a: other(a, model_digest=bytes(32)), Check.MODEL),
    "another round": (lambda a: other(a, round=2), Check.RUN),
    "version": (lambda a: other(a, version=9), Check.VERSION),
    "tiny cohort": (lambda a: other(a, cohort=(1, 2), threshold=2), Check.COHORT_SIZE),
    "Sybil": (lambda a: other(a, cohort=(1, 2, 77), threshold=3), Check.COHORT),
    "not of the study": (lambda a: other(a, cohort=(1, 2, 3, 4), threshold=3), Check.COHORT),
    "without me": (lambda a: other(a, cohort=(2, 3, 4), threshold=3), Check.COHORT),
    "low threshold": (lambda a: other(a, threshold=1), Check.THRESHOLD),
    "expired": (lambda a: other(a, expiry=1), Check.EXPIRED),
    "for years": (lambda a: other(a, expiry=a.offer.expiry + 10**6), Check.EXPIRED),
    "wider bound": (
        lambda a: other(a, terms=replace(a.offer.terms, bound=99.0)),
        Check.ENCODING,
    ),
    "less noise": (
        lambda a: other(a, terms=replace(a.offer.terms, noise_multiplier=0.5)),
        Check.PRIVACY,
    ),
    "no noise": (
        lambda a: other(
            a, terms=replace(a.offer.terms, noise_multiplier=0.0, mechanism=MechanismNumber.PLAIN)
        ),
        Check.PRIVACY,
    ),
    "recipe": (
        lambda a: other(a, terms=replace(a.offer.terms, recipe_digest=bytes(32))),
        Check.RECIPE,
    ),
}


@pytest.mark.parametrize("name", OFFERS)
def test_a_refused_offer_is_not_journalled(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer, name: str
) -> None:
    make, check = OFFERS[name]
    attempt = MaskedAttempt()
    before = snapshot(agent, ledger)
    answer = attempt.ask(agent, make(attempt))
    assert isinstance(answer, SecAggRefusal)
    assert answer.check is check
    assert snapshot(agent, ledger) == before
    assert trainer.calls == 0
    assert isinstance(attempt.ask(agent), Advertise)  # the true one is still welcome


def test_the_smallest_cohort_is_the_studys(ledger: SqliteLedger, trainer: FakeTrainer) -> None:
    """Of four sites that have to be in every sum the coordinator would leave out one."""
    study = make_study(4, cohort={"min_sites": 4})
    agent = make_masked_agent(ledger, trainer, masked_rules(study))
    attempt = MaskedAttempt(study)
    smaller = other(attempt, cohort=(1, 2, 3), threshold=3)
    assert attempt.ask(agent, smaller) == SecAggRefusal(Check.COHORT_SIZE, 0)
    attempt.to(Stage.CONSISTENCY, agent)
    assert attempt.ask(agent, Survivors((1, 2, 3))) == SecAggRefusal(Check.TOO_FEW, 0)


def test_the_number_of_colluders_is_the_sites_own(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    study = make_study(4)
    agent = make_masked_agent(ledger, trainer, masked_rules(study, max_colluders=2))
    assert MaskedAttempt(study).ask(agent) == SecAggRefusal(Check.COLLUDERS, 0)
    assert ledger.entries() == ()


# The study's own budget is too small for anything; its end is asked for only where that matters.
BUDGETS = pytest.mark.parametrize(
    ("partial", "budget"), [(False, Reason.CANNOT_FINISH), (True, Reason.BUDGET)]
)


@BUDGETS
def test_what_the_plain_checks_refuse_is_refused_before_any_key_is_made(
    ledger: SqliteLedger, trainer: FakeTrainer, partial: bool, budget: Reason
) -> None:
    study = make_study()
    rules = masked_rules(study, study_epsilon=0.001, allow_partial=partial)
    agent = make_masked_agent(ledger, trainer, rules)
    attempt = MaskedAttempt(study)
    wrong_study = StartTraining(bytes(32), LAYOUT.fingerprint(), ADAPTER)
    wrong_layout = StartTraining(study.digest(), bytes(32), ADAPTER)
    too_large = StartTraining(study.digest(), LAYOUT.fingerprint(), np.full(P, 1e9, np.float32))
    cases = [
        (TrainMasked(attempt.offer, wrong_study), Reason.WRONG_STUDY),
        (TrainMasked(attempt.offer, wrong_layout), Reason.WRONG_LAYOUT),
        (TrainMasked(attempt.offer, too_large), Reason.POLICY),
        (TrainMasked(attempt.offer, attempt.start), budget),
    ]
    for body, expected in cases:
        assert refused(attempt.ask(agent, body)) == expected
    assert refused(MaskedAttempt(study, round=4).ask(agent)) == Reason.POLICY
    assert ledger.entries() == ()


@BUDGETS
def test_of_several_faults_the_first_in_order_is_named(
    ledger: SqliteLedger, trainer: FakeTrainer, partial: bool, budget: Reason
) -> None:
    """Study, layout, adapter, repetition, schedule, budget, offer: each case has all later faults.

    The order is public: an answer must not depend on the budget where the request is at fault.
    """
    study = make_study()
    rules = masked_rules(study, study_epsilon=0.001, allow_partial=partial)
    ledger.intent(AttemptKey(study.digest(), RUN, 2, 1), rules.charges.charge)
    agent = make_masked_agent(ledger, trainer, rules)  # charges it, so the budget is used up
    huge = np.full(P, 1e9, np.float32)
    cases = [
        (1, StartTraining(bytes(32), bytes(32), huge), Reason.WRONG_STUDY),
        (1, StartTraining(study.digest(), bytes(32), huge), Reason.WRONG_LAYOUT),
        (1, StartTraining(study.digest(), LAYOUT.fingerprint(), huge), Reason.POLICY),
        (1, StartTraining(study.digest(), LAYOUT.fingerprint(), ADAPTER), Reason.NOT_NEWER),
        (4, StartTraining(study.digest(), LAYOUT.fingerprint(), ADAPTER), Reason.POLICY),
        (3, StartTraining(study.digest(), LAYOUT.fingerprint(), ADAPTER), budget),
    ]
    before = snapshot(agent, ledger)
    for number, start, expected in cases:
        attempt = MaskedAttempt(study, round=number)
        terms = replace(attempt.offer.terms, recipe_digest=bytes(32))
        bad = TrainMasked(replace(attempt.offer, terms=terms), start)
        assert refused(attempt.ask(agent, bad)) == expected
    assert snapshot(agent, ledger) == before
    assert trainer.calls == 0


def test_a_second_offer_for_one_attempt_is_refused(agent: SiteAgent, ledger: SqliteLedger) -> None:
    attempt = MaskedAttempt()
    attempt.ask(agent)
    before = snapshot(agent, ledger)
    answer = attempt.ask(agent, other(attempt, expiry=attempt.offer.expiry + 1))
    assert answer == SecAggRefusal(Check.SECOND_OFFER, 0)
    model = StartTraining(attempt.start.study_digest, LAYOUT.fingerprint(), ADAPTER + 1)
    assert refused(attempt.ask(agent, TrainMasked(attempt.offer, model))) == Reason.CONFLICT
    assert snapshot(agent, ledger) == before
    attempt.to(Stage.DONE, agent)
