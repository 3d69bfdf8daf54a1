"""What limits leave: per study and permanently, summed or by a Renyi filter, in figures."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from privacy.accounting import epsilon
from privacy.accounting.across import RenyiFilter
from privacy.budget import Allowance, Book, Limits
from privacy.budget import allowance as allowance_module
from privacy.ledger import Charge, State
from privacy.mechanisms.local import PoissonGaussian

from .charges import BARE, CHARGE, ELSEWHERE, EVENT, FILTERED, LIMITS, entries

replace = dataclasses.replace


def left(limits: Limits, *charges: Charge, state: State = State.COMMITTED) -> Allowance:
    return Book.of(entries(*charges, state=state)).allowance(limits, CHARGE)


def test_a_study_composes_by_pld_and_studies_add_up() -> None:
    found = left(LIMITS, CHARGE, ELSEWHERE, CHARGE).next()
    assert found.study.spent == epsilon([EVENT] * 2, 1e-5)
    assert found.study.after == epsilon([EVENT] * 3, 1e-5)
    other = epsilon([ELSEWHERE.event], 1e-5)
    assert found.lifetime.spent == pytest.approx(found.study.spent + other)
    assert found.lifetime.after == pytest.approx(found.study.after + other)


def test_what_was_never_charged_costs_nothing() -> None:
    found = left(LIMITS, CHARGE, ELSEWHERE, state=State.INTENT).next()
    assert (found.study.spent, found.lifetime.spent) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("study_share", "share", "fits"), [(1.001, 2.0, True), (0.999, 2.0, False), (1.1, 1.001, True)]
)
def test_both_budgets_bind(study_share: float, share: float, fits: bool) -> None:
    one = epsilon([EVENT], 1e-5)
    limits = Limits(one * max(share, study_share), 1e-4, one * study_share)
    assert left(limits).next().fit is fits


def test_the_lifetime_budget_binds_where_other_studies_spent() -> None:
    one, other = epsilon([EVENT], 1e-5), epsilon([ELSEWHERE.event], 1e-5)
    limits = Limits(one + 0.99 * other, 1e-4, one * 1.01)
    assert left(limits).next().fit
    found = left(limits, ELSEWHERE).next()
    assert found.study.fits
    assert not found.fit


def test_a_renyi_filter_composes_all_studies_at_its_order() -> None:
    charges = [CHARGE, ELSEWHERE, CHARGE]
    wanted = RenyiFilter(6, 20.0, 1e-5).epsilon(charge.event for charge in charges)
    assert Book(tuple(charges)).lifetime_epsilon(FILTERED) == wanted > 0
    assert left(FILTERED, CHARGE, ELSEWHERE).next().lifetime.after == pytest.approx(wanted)
    alone = Book((ELSEWHERE,)).lifetime_epsilon(FILTERED)
    assert left(FILTERED, ELSEWHERE).next().lifetime.spent == alone
    assert left(FILTERED).next().lifetime.spent == 0.0


@pytest.mark.parametrize("limits", [LIMITS, FILTERED])
def test_a_study_without_noise_costs_everything_permanently(limits: Limits) -> None:
    allowance = left(limits, BARE)
    found = allowance.next()
    assert found.study.fits
    assert math.isinf(found.lifetime.after)
    assert allowance.rounds_left() == 0
    assert "used inf" in refusal(allowance)
    assert "nothing fits any more" in refusal(allowance)


def refusal(allowance: Allowance) -> str:
    """Both lines of the site's log."""
    return f"{allowance.next().figures()}; {allowance.what_would_fit()}"


def test_a_refusal_states_the_figures_and_what_would_fit() -> None:
    spent, after = (epsilon([EVENT] * count, 1e-5) for count in (3, 4))
    budget = (spent + after) / 2
    why = refusal(left(replace(LIMITS, study_epsilon=budget), CHARGE, CHARGE, CHARGE))
    start = f"used {spent:.2f}, this round would make {after:.2f}, budget {budget:.2f}; "
    assert why.startswith(start)
    match = re.fullmatch(r"(\d+) rounds? at q = (0\.\d+) would fit", why.removeprefix(start))
    assert match
    rounds, rate = int(match[1]), float(match[2])
    assert rate < 0.5
    smaller = replace(EVENT, sampling_rate=rate)
    assert epsilon([EVENT] * 3 + [smaller] * rounds, 1e-5) <= budget
    assert epsilon([EVENT] * 3 + [smaller] * (rounds + 1), 1e-5) > budget


@pytest.mark.parametrize("wide", [LIMITS, FILTERED])
def test_a_refusal_of_the_lifetime_budget_says_so(wide: Limits) -> None:
    found = left(wide, ELSEWHERE, CHARGE).next()
    budget = (found.lifetime.spent + found.lifetime.after) / 2
    limits = replace(wide, epsilon=budget, study_epsilon=budget)
    why = refusal(left(limits, ELSEWHERE, CHARGE))
    assert why.startswith(f"all studies together: used {found.lifetime.spent:.2f}, ")
    match = re.search(r"; (\d+) rounds? at q = (0\.\d+) would fit$", why)
    assert match
    like = replace(CHARGE, event=replace(EVENT, sampling_rate=float(match[2])))
    paid, more = (ELSEWHERE, CHARGE), (like,) * int(match[1])
    assert Book((*paid, *more)).lifetime_epsilon(limits) <= budget
    assert Book((*paid, *more, like)).lifetime_epsilon(limits) > budget


@pytest.mark.parametrize("limits", [LIMITS, FILTERED])
def test_the_rounds_left_are_those_that_both_budgets_admit(limits: Limits) -> None:
    rounds = left(limits, ELSEWHERE, CHARGE).rounds_left()
    assert left(limits, ELSEWHERE, *[CHARGE] * rounds).next().fit
    assert not left(limits, ELSEWHERE, *[CHARGE] * (rounds + 1)).next().fit


def test_a_study_with_much_room_of_its_own_is_counted_after_others_spent_it_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten thousand attempts at it have more steps than any single event may state."""
    monkeypatch.setattr(allowance_module, "rounds_that_fit", lambda *_: 10_000)
    long = replace(CHARGE, event=replace(EVENT, steps=300))
    paid = replace(ELSEWHERE, event=replace(EVENT, noise_multiplier=0.5))
    spent = Book((paid,)).allowance(FILTERED, long)
    assert (spent.rounds_left(), left(FILTERED).rounds_left() > 0) == (0, True)


def test_where_nothing_fits_the_smallest_rate_is_named() -> None:
    budget = epsilon([EVENT] * 2, 1e-5) * 1.0001
    allowance = left(replace(LIMITS, study_epsilon=budget), CHARGE, CHARGE)
    assert refusal(allowance).endswith("not one round at q = 0.0312 would fit")


def test_a_refusal_names_no_rate_that_cannot_be_accounted_for() -> None:
    rare = replace(CHARGE, event=PoissonGaussian(3e-6, 0.3, 1.0, 1000), delta=1e-9)
    allowance = Book().allowance(replace(LIMITS, study_epsilon=1e-3), rare)
    assert allowance.what_would_fit().endswith("not one round at q = 1.5e-06 would fit")
