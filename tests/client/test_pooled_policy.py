"""What a site's policy says to a pooled study: weaker terms are refused, never made up for."""

from __future__ import annotations

from typing import Any

import pytest

from client.policy import SiteRules, limits_of
from client.settings import OBSERVERS, load_policy
from privacy.errors import ConfigError, PolicyError
from privacy.events import Event, Observer
from privacy.ledger import AttemptKey, Charge, Entry, State
from privacy.study.manifest import Study
from privacy.study.terms import event_of, whole_schedule

from ..pooled_study import ROSTER, pooled_study, pooled_values
from .studies import make_policy, make_study

POOLED: dict[str, Any] = {
    "mechanisms": ("pooled",),
    "secure_aggregation": "required",
    "roster": ROSTER,
    "min_reply_slot": 60.0,
}


def check(study: Study | None = None, **policy: Any) -> None:
    SiteRules("north", study or pooled_study(), make_policy(**{**POOLED, **policy})).check()


def test_an_allowed_study_passes() -> None:
    check()


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"mechanisms": ("local",)}, 'the mechanism "pooled" is not among'),
        ({"min_grid": 8.5}, "pooled.grid 8 is below min_grid 8.5"),
        ({"min_noise_colluders": 2}, "withstands 1 colluding sites .* min_noise_colluders 2"),
        ({"max_colluders": 2}, "3 sites do not withstand max_colluders 2"),
        ({"max_spare_attempts": 1}, "spare_attempts 2 is above 1"),
        ({"max_session_hours": 1.0}, "session_hours 2 is above 1"),
        ({"max_parameters": 3}, "pooled.parameters 4 is above 3"),
        ({"min_noise_multiplier": 5.1}, "noise_multiplier 5 is below"),
        ({"min_reply_slot": 61.0}, "reply_slot 60 is below"),
        ({"max_clipping_norm": 0.001}, "clipping_norm 0.002 is above"),
    ],
)
def test_terms_weaker_than_the_policy_are_refused(policy: dict[str, Any], words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        check(**policy)


def test_spare_attempts_are_no_attempts_of_a_round() -> None:
    check(max_attempts=1)


def test_of_five_sites_three_may_collude() -> None:
    values = pooled_values(sites=5)
    values["cohort"]["min_sites"] = 5
    study = Study.model_validate(values)
    check(study, max_colluders=3)
    with pytest.raises(PolicyError, match="do not withstand max_colluders 4"):
        check(study, max_colluders=4)


def test_a_gaussian_filter_is_for_pooled_studies_only() -> None:
    check(across_studies="gdp-filter")
    local = make_study()
    policy = make_policy(across_studies="gdp-filter")
    with pytest.raises(PolicyError, match='its mechanism is "local", and across_studies'):
        SiteRules("north", local, policy).check()


def test_composition_is_another_name_of_across_studies(tmp_path: Any) -> None:
    text = (
        'epsilon = 8.0\ndelta = 1e-5\nstudy_epsilon = 8.0\nstudies = ["any"]\nbases = ["any"]\n'
        f'mechanisms = ["pooled"]\nroster = "{ROSTER}"\n'
    )
    file = tmp_path / "policy.toml"
    file.write_text(text + 'composition = "gdp-filter"\n')
    assert load_policy(file).across_studies == "gdp-filter"
    file.write_text(text + 'composition = "gdp-filter"\nacross_studies = "sum"\n')
    with pytest.raises(ConfigError, match="composition"):
        load_policy(file)
    file.write_text(text + "min_grid = 3.0\n")
    with pytest.raises(ConfigError, match="min_grid"):
        load_policy(file)


@pytest.mark.parametrize("named", [OBSERVERS, (*OBSERVERS[::-1], Observer.MASKS_BROKEN)])
def test_masks_broken_may_be_charged_in_addition(named: tuple[Observer, ...]) -> None:
    limits = limits_of(make_policy(observers=named))
    assert limits.masks_broken is (Observer.MASKS_BROKEN in named)
    assert set(limits.observers) == set(named)


@pytest.mark.parametrize("named", [(), OBSERVERS[:3], (*OBSERVERS[:3], Observer.MASKS_BROKEN)])
def test_nobody_else_can_be_left_out(named: tuple[Observer, ...]) -> None:
    with pytest.raises(ValueError, match="the budget always holds against all of"):
        make_policy(observers=named)


def held(event: Event) -> list[Entry]:
    """A ledger with one attempt of another study."""
    charge = Charge(bytes(32), event, 1e-7)
    return [Entry(AttemptKey(charge.study_digest, 1, 1, 1), charge, State.INTENT, 1, 1.0)]


def test_a_gaussian_filter_starts_only_where_it_can_compose_everything() -> None:
    rules = SiteRules("north", pooled_study(), make_policy(**POOLED, across_studies="gdp-filter"))
    rules.check()
    rules.check_budget()
    rules.check_other_studies(held(event_of(pooled_study())))
    with pytest.raises(PolicyError, match="the ledger holds others, of the studies 000000000000"):
        rules.check_other_studies(held(event_of(make_study())))


def test_the_schedule_of_a_pooled_study_is_its_steps_and_spare_attempts() -> None:
    study = pooled_study()
    assert study.pooled is not None
    charges = SiteRules("north", study, make_policy(**POOLED)).charges
    assert charges.most == study.rounds + study.pooled.spare_attempts == len(whole_schedule(study))
    assert charges.spare == study.pooled.spare_attempts
