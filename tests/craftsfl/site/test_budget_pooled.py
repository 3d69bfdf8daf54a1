"""The budget of a pooled study: steps, observers, masks broken, K."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from client.policy import SiteRules
from client.settings import OBSERVERS
from craftsfl.site.budget.command import as_values
from craftsfl.site.budget.explain import explanation, show_explanation
from craftsfl.site.budget.published import published, show_published
from craftsfl.site.budget.statement import Statement, statement_of
from craftsfl.site.budget.table import show_table
from privacy.accounting import Observer, epsilon_for
from privacy.ledger import Charge
from privacy.mechanisms.local import PoissonGaussian
from privacy.study.terms import event_of
from tests.client.studies import make_policy
from tests.craftsfl.site.budgets import STUDY, charge, entries, printed, rules_of
from tests.pooled_study import ROSTER, pooled_study

POOLED = pooled_study(parameters=1536, rounds=12)
STEP = Charge(POOLED.digest(), event_of(POOLED), POOLED.privacy.delta)


def statement(charged: int = 5, **policy: Any) -> Statement:
    known = {"secure_aggregation": "required", "roster": ROSTER, "mechanisms": ("pooled",)}
    rules = SiteRules("north", POOLED, make_policy(**{**known, **policy}))
    return statement_of(rules, entries(*[STEP] * charged))


def words(text: str) -> str:
    return " ".join(text.split())


def test_every_observer_is_shown_and_masks_broken_beside_them() -> None:
    shown = words(printed(lambda out: show_table(statement(), out), 160))
    whole = [STEP.event] * 14
    figures = {who: f"{epsilon_for(who, whole, 1e-5):.2f}" for who in Observer}
    assert f"ε {figures[Observer.COALITION]} against the coordinator with as many sites" in shown
    assert f"{figures[Observer.SERVER]} against the coordinator alone" in shown
    assert f"Masks broken: ε {figures[Observer.MASKS_BROKEN]} against whoever undoes" in shown
    assert "not charged by this site's policy" in shown
    assert "12 steps and 2 spare attempts" in shown
    assert "Steps" in shown
    assert "Rounds" not in shown
    factor = 14 * STEP.event.charged[0].factor
    assert f"K = {factor:.1e}" in shown


def test_masks_broken_are_what_is_used_where_the_policy_charges_them() -> None:
    usual, broken = statement(), statement(observers=(*OBSERVERS, Observer.MASKS_BROKEN))
    assert broken.present.epsilon == epsilon_for(Observer.MASKS_BROKEN, [STEP.event] * 5, 1e-5)
    assert broken.present.epsilon == broken.epsilon > 1.3 * usual.epsilon
    shown = words(printed(lambda out: show_table(broken, out), 160))
    assert "(charged by this site's policy)" in shown


def test_json_has_the_same_figures() -> None:
    made = statement()
    values = json.loads(json.dumps(as_values(made, None, None)))["noise"]
    assert values["pooled"] is True
    assert values["schedule"] == "12 steps and 2 spare attempts"
    assert values["against"] == {who.value: made.against[who] for who in Observer}
    assert values["charged_against"] == [who.value for who in OBSERVERS]
    assert 0 < values["log_factor"] < 1e-5


def test_a_published_figure_says_what_it_rests_on() -> None:
    pytest.importorskip("opacus")
    made = statement()
    (item,) = published(made)
    assert item.figure.epsilon == made.against[Observer.COALITION]
    assert item.masks_broken == made.against[Observer.MASKS_BROKEN]
    shown = words(printed(lambda out: show_published(made, (item,), out), 200))
    assert "14 attempts: 12 steps and 2 spare attempts" in shown
    assert f"against whoever undoes them, ε = {item.masks_broken:.2f}" in shown
    assert f"K = {item.log_factor:.1e}" in shown


def test_without_bound_is_said_in_words() -> None:
    made = statement()
    bare = {**made.against, Observer.MASKS_BROKEN: math.inf}
    object.__setattr__(made, "against", bare)
    shown = words(printed(lambda out: show_table(made, out), 160))
    assert "Masks broken: ε without bound" in shown


def test_a_patient_of_two_hospitals_is_in_one_sum() -> None:
    made = statement()
    explained = explanation(made)
    assert explained.known_to == explained.known_under
    shown = words(printed(lambda out: show_explanation(made, explained, out), 120))
    assert "all of them are in one sum, under one noise" in shown
    assert "costs as much as several hospitals do" in shown


def test_charges_of_an_older_agent_are_published_with_the_rest(tmp_path: Path) -> None:
    """Noise became exact in the middle of the study."""
    pytest.importorskip("opacus")
    training = STUDY.training
    before = PoissonGaussian(
        training.sampling_rate, training.noise_multiplier, training.clipping_norm, training.steps
    )
    old = Charge(STUDY.digest(), before, STUDY.privacy.delta)
    rules = rules_of(tmp_path)
    figures = [
        published(statement_of(rules, entries(*itertools.chain([old] * count, [charge()]))))
        for count in (0, 2)
    ]
    new, mixed = (item.figure.epsilon for (item,) in figures)
    assert mixed <= new <= 1.002 * mixed
