"""Budgets of pooled studies: who is charged, and how studies add up."""

from __future__ import annotations

import dataclasses
import math

import pytest

from privacy.accounting import GaussianFilter, Observer, epsilon, epsilon_for
from privacy.budget import Allowance, Book, Limits, attempts_behind, cost_of_attempts, study_cost
from privacy.ledger import Charge
from privacy.mechanisms.pooled import PooledTerms

from .charges import CHARGE, OTHER, STUDY

TERMS = PooledTerms(3, 3, 1, 4.65, 5e-4, 1536, 40, 2, 480)
STEP = Charge(STUDY, TERMS.event, 1e-5)
ELSEWHERE = Charge(OTHER, dataclasses.replace(TERMS, noise_multiplier=6.0).event, 1e-5)
LIMITS = Limits(epsilon=20.0, delta=1e-4, study_epsilon=12.0)
BROKEN = dataclasses.replace(LIMITS, masks_broken=True)
FILTERED = dataclasses.replace(LIMITS, delta=1e-5, gdp_filter=True)


def allowance(limits: Limits, *charges: Charge) -> Allowance:
    return Book(charges).allowance(limits, STEP)


def test_a_study_is_charged_what_the_coalition_learns() -> None:
    cost = study_cost([STEP] * 40)
    assert cost == epsilon_for(Observer.COALITION, [STEP.event] * 40, 1e-5)
    assert cost == epsilon([STEP.event] * 40, 1e-5)  # what is published
    assert attempts_behind(cost, STEP, 42) == 40


def test_masks_broken_are_charged_where_the_limits_name_them() -> None:
    usual, broken = allowance(LIMITS, *[STEP] * 9), allowance(BROKEN, *[STEP] * 9)
    shown = epsilon_for(Observer.MASKS_BROKEN, [STEP.event] * 10, 1e-5)
    assert usual.next().study.after == cost_of_attempts(STEP, 10)
    assert broken.next().study.after == broken.next().lifetime.after == shown
    assert shown > 1.3 * usual.next().study.after
    assert broken.spent == usual.spent  # what a site says of itself does not tell its policy
    assert broken.rounds_left() < usual.rounds_left()
    book = Book((STEP, ELSEWHERE))
    apart = (study_cost([charge], BROKEN.observers) for charge in (STEP, ELSEWHERE))
    assert book.lifetime_epsilon(BROKEN) == pytest.approx(math.fsum(apart))
    assert book.lifetime_epsilon(BROKEN) > book.lifetime_epsilon(LIMITS)


def test_local_noise_is_the_same_for_whoever_breaks_masks() -> None:
    assert study_cost([CHARGE], BROKEN.observers) == study_cost([CHARGE])


@pytest.mark.parametrize("limits", [FILTERED, dataclasses.replace(FILTERED, masks_broken=True)])
def test_the_squares_of_mu_add_up_over_studies(limits: Limits) -> None:
    charges = (*[STEP] * 20, *[ELSEWHERE] * 20)
    found = Book(charges)
    seen = [
        charge.event.seen_by(Observer.MASKS_BROKEN) if limits.masks_broken else charge.event
        for charge in charges
    ]
    wanted = GaussianFilter(20.0, 1e-5).epsilon(seen)
    assert found.lifetime_epsilon(limits) == pytest.approx(wanted)
    summed = dataclasses.replace(limits, gdp_filter=False)
    assert found.lifetime_epsilon(limits) < 0.8 * found.lifetime_epsilon(summed)
    assert found.lifetime_delta(limits) == limits.delta
    next_ = allowance(limits, *charges).next()
    more = GaussianFilter(20.0, 1e-5).epsilon([*seen, seen[0]])
    assert next_.lifetime.after == pytest.approx(more)


def test_rounds_left_are_those_that_the_filter_admits() -> None:
    tight = dataclasses.replace(FILTERED, epsilon=9.0, study_epsilon=9.0)
    left = allowance(tight, *[ELSEWHERE] * 30)
    rounds = left.rounds_left()
    assert left.after(rounds).fit
    assert not left.after(rounds + 1).fit
    assert "would fit" in left.what_would_fit()


def test_a_filter_cannot_compose_studies_that_drew_their_patients() -> None:
    drawn = dataclasses.replace(CHARGE, study_digest=OTHER)
    assert Book((drawn,)).lifetime_epsilon(FILTERED) == math.inf
    left = allowance(FILTERED, drawn)
    assert not left.next().fit
    assert left.rounds_left() == 0
