"""What a policy leaves: per study and for ever, summed or by a Renyi filter, in figures."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from client.agent.budget import (
    Budgets,
    budgets,
    charged,
    cost_of_others,
    lifetime_epsilon,
    lifetime_filter,
    study_epsilon,
    what_fits,
    why_refused,
)
from client.settings import Policy
from privacy.accounting import epsilon
from privacy.accounting.across import RenyiFilter
from privacy.errors import AccountingError
from privacy.ledger import AttemptKey, Charge, Entry, State
from privacy.study.manifest import Study
from privacy.study.terms import event_of

from .studies import make_policy, make_study

STUDY = make_study()
OTHER = make_study(name="other", training={"noise_multiplier": 2.0})


def charge_of(study: Study) -> Charge:
    return Charge(study.digest(), event_of(study), study.privacy.delta)


def entries(*studies: Study, state: State = State.COMMITTED) -> list[Entry]:
    return [
        Entry(AttemptKey(1, number, 1), charge_of(study), state, number, 1.0, 2.0)
        for number, study in enumerate(studies, start=1)
    ]


def look(policy: Policy, *studies: Study, state: State = State.COMMITTED) -> Budgets:
    charges = charged(entries(*studies, state=state))
    own = [charge for charge in charges if charge.study_digest == STUDY.digest()]
    others = cost_of_others(policy, charges, STUDY.digest())
    return budgets(policy, others, own, charge_of(STUDY))


def test_a_study_composes_by_pld_and_studies_add_up() -> None:
    found = look(make_policy(), STUDY, OTHER, STUDY)
    event = event_of(STUDY)
    assert found.study.spent == epsilon([event] * 2, 1e-5)
    assert found.study.after == epsilon([event] * 3, 1e-5)
    other = epsilon([event_of(OTHER)], 1e-5)
    assert found.for_ever.spent == pytest.approx(found.study.spent + other)
    assert found.for_ever.after == pytest.approx(found.study.after + other)


def test_what_was_never_charged_costs_nothing() -> None:
    found = look(make_policy(), STUDY, OTHER, state=State.INTENT)
    assert (found.study.spent, found.for_ever.spent) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("study_share", "share", "fits"), [(1.001, 2.0, True), (0.999, 2.0, False), (1.1, 1.001, True)]
)
def test_both_budgets_bind(study_share: float, share: float, fits: bool) -> None:
    one = epsilon([event_of(STUDY)], 1e-5)
    policy = make_policy(study_epsilon=one * study_share, epsilon=one * max(share, study_share))
    assert look(policy).fit is fits


def test_the_budget_for_ever_binds_where_other_studies_spent() -> None:
    one, other = (epsilon([event_of(study)], 1e-5) for study in (STUDY, OTHER))
    policy = make_policy(study_epsilon=one * 1.01, epsilon=one + 0.99 * other)
    assert look(policy).fit
    found = look(policy, OTHER)
    assert found.study.fits
    assert not found.fit


def test_with_all_noise_at_the_site_every_observer_learns_the_same() -> None:
    charges = [entry.charge for entry in entries(STUDY, STUDY)]
    found = study_epsilon(charges, STUDY.digest())
    assert found == epsilon([event_of(STUDY)] * 2, 1e-5)


def test_a_renyi_filter_composes_all_studies_at_its_order() -> None:
    policy = make_policy(across_studies="rdp-filter", rdp_order=6)
    charges = [entry.charge for entry in entries(STUDY, OTHER, STUDY)]
    wanted = RenyiFilter(6, 20.0, 1e-5).epsilon(charge.event for charge in charges)
    assert lifetime_epsilon(policy, charges) == wanted > 0
    assert look(policy, STUDY, OTHER).for_ever.after == pytest.approx(wanted, rel=1e-12)
    assert look(policy, OTHER).for_ever.spent == lifetime_epsilon(policy, charges[1:2])
    assert look(policy).for_ever.spent == 0.0


def test_an_order_at_which_nothing_fits_is_refused() -> None:
    policy = make_policy(epsilon=1.0, study_epsilon=1.0, across_studies="rdp-filter", rdp_order=3)
    with pytest.raises(AccountingError, match="nothing fits"):
        lifetime_filter(policy)


def test_a_study_without_noise_costs_everything_for_ever() -> None:
    silent = make_study(name="silent", training={"noise_multiplier": 0.0})
    for policy in (make_policy(), make_policy(across_studies="rdp-filter", rdp_order=8)):
        found = look(policy, silent)
        assert found.study.fits
        assert math.isinf(found.for_ever.after)
        why = refusal(policy, silent)
        assert "used inf" in why
        assert "nothing fits any more" in why


def refusal(policy: Policy, *studies: Study) -> str:
    """Both lines of the site's log."""
    found, charges = look(policy, *studies), charged(entries(*studies))
    return f"{why_refused(found)}; {what_fits(policy, found, charges, charge_of(STUDY))}"


def test_a_refusal_tells_the_figures_and_what_would_fit() -> None:
    spent, after = (epsilon([event_of(STUDY)] * count, 1e-5) for count in (3, 4))
    budget = (spent + after) / 2
    policy = make_policy(study_epsilon=budget)
    why = refusal(policy, STUDY, STUDY, STUDY)
    start = f"used {spent:.2f}, this round would make {after:.2f}, budget {budget:.2f}; "
    assert why.startswith(start)
    match = re.fullmatch(r"(\d+) rounds? at q = (0\.\d+) would fit", why.removeprefix(start))
    assert match
    rounds, rate = int(match[1]), float(match[2])
    assert rate < 0.5
    smaller = dataclasses.replace(event_of(STUDY), sampling_rate=rate)
    assert epsilon([event_of(STUDY)] * 3 + [smaller] * rounds, 1e-5) <= budget
    assert epsilon([event_of(STUDY)] * 3 + [smaller] * (rounds + 1), 1e-5) > budget


@pytest.mark.parametrize("across", [{}, {"across_studies": "rdp-filter", "rdp_order": 6}])
def test_a_refusal_of_the_budget_for_ever_says_so(across: dict[str, object]) -> None:
    wide = make_policy(**across)
    found = look(wide, OTHER, STUDY)
    budget = (found.for_ever.spent + found.for_ever.after) / 2
    policy = make_policy(epsilon=budget, study_epsilon=budget, **across)
    why = refusal(policy, OTHER, STUDY)
    assert why.startswith(f"all studies together: used {found.for_ever.spent:.2f}, ")
    assert re.search(r"; \d+ rounds? at q = 0\.\d+ would fit$", why)
    match = re.search(r"(\d+) rounds? at q = (0\.\d+)", why)
    assert match
    event = dataclasses.replace(event_of(STUDY), sampling_rate=float(match[2]))
    more = [dataclasses.replace(charge_of(STUDY), event=event)] * int(match[1])
    charges = [entry.charge for entry in entries(OTHER, STUDY)]
    assert lifetime_epsilon(policy, [*charges, *more]) <= budget
    assert lifetime_epsilon(policy, [*charges, *more, *more[:1]]) > budget


def test_where_nothing_fits_the_smallest_rate_is_named() -> None:
    spent = epsilon([event_of(STUDY)] * 2, 1e-5)
    policy = make_policy(study_epsilon=spent * 1.0001)
    assert refusal(policy, STUDY, STUDY).endswith("not one round at q = 0.0312 would fit")


def test_a_refusal_names_no_rate_that_cannot_be_accounted_for() -> None:
    training = {"sampling_rate": 3e-6, "noise_multiplier": 0.3, "steps": 1000}
    rare = make_study(training=training, privacy={"delta": 1e-9})
    policy = make_policy(study_epsilon=1e-3)
    charge = charge_of(rare)
    why = what_fits(policy, budgets(policy, 0.0, (), charge), (), charge)
    assert why.endswith("not one round at q = 1.5e-06 would fit")
