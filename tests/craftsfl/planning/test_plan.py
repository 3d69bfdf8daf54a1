"""The planner's arithmetic: noise against the accountant, the curve against its own data."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from craftsfl.planning.cost import slot_for_training
from craftsfl.planning.mending import cheapest_change
from craftsfl.planning.noise import PlanMode, planned_noise
from craftsfl.planning.plan import Known, StudyPlan, nearest_layout, planned
from craftsfl.planning.recovery import Recovery, fitted
from craftsfl.planning.rehearsed import shipped_rehearsals
from craftsfl.planning.request import PlanRequest, default_min_sites, default_spare
from craftsfl.planning.words import (
    late_words,
    mending_words,
    share_words,
    time_words,
    verdict_words,
)
from privacy.accounting import epsilon
from privacy.accounting.across import GaussianFilter
from privacy.errors import ConfigError, CraftsflError
from privacy.mechanisms.pooled.packing import lanes_for
from privacy.study.manifest import Adapter, Site
from tests.craftsfl.planning.tables import HALF, LARGE, RUNS, SMALL, TABLE, run

KNOWN = Known(TABLE, SMALL, rehearsed=True, clipping_norm=0.0002, gradient_seconds=0.01)


def asked(patients: int = 160, sites: int = 3, **others: object) -> PlanRequest:
    every = tuple(Site(name=f"s{n}", declared_patients=patients) for n in range(sites))
    adapter = Adapter(targets=SMALL.targets, rank=1, alpha=1.0, frozen_a=True)
    request = PlanRequest(
        sites=every,
        adapter=adapter,
        parameters=SMALL.parameters,
        min_sites=default_min_sites(sites),
    )
    return replace(request, **others)  # type: ignore[arg-type]


def plan(patients: int = 160, **others: object) -> StudyPlan:
    return planned(asked(patients, **others), KNOWN)


@pytest.mark.parametrize("mode", get_args(PlanMode))
def test_the_noise_is_the_least_that_keeps_the_promise(mode: str) -> None:
    request = asked()
    found = planned_noise(request, mode, 0.0005)  # type: ignore[arg-type]
    events = [found.terms.event] * (request.steps + request.spare_attempts)
    assert 0.99 * request.epsilon < epsilon(events, request.delta) <= request.epsilon
    filtered = GaussianFilter(request.epsilon, request.delta)
    assert 0.995 * request.epsilon < filtered.epsilon(events) <= request.epsilon
    assert found.mu == pytest.approx(1.666, rel=0.02)  # of (8, 1e-5), without what integers cost


def test_noise_over_signal_is_that_of_the_design() -> None:
    """kappa sqrt(P) / (mu N), times the root of what spare attempts add: no T in it."""
    found = planned_noise(asked(), "pooled", 0.0005)
    kappa = math.sqrt(3 / 2)
    expected = kappa * math.sqrt(192) / (found.mu * 480) * math.sqrt(42 / 40)
    assert found.rho == pytest.approx(expected)
    assert found.of_a_step == pytest.approx(expected * math.sqrt(40))


def test_each_its_own_noise_adds_up_and_alone_there_are_fewer_patients() -> None:
    local = planned_noise(asked(sites=5), "local", 0.0005)
    alone = planned_noise(asked(sites=5), "alone", 0.0005)
    assert local.sigma == alone.sigma
    assert alone.rho / local.rho == pytest.approx(math.sqrt(5))


def test_the_curve_finds_the_half_that_its_runs_were_made_with() -> None:
    curve = fitted(TABLE, SMALL)
    assert curve.half == pytest.approx(HALF, rel=0.1)
    assert curve.spread == pytest.approx(0.05 * math.sqrt(4 / 2), rel=0.1)  # 4 runs, 2 constants
    assert curve.share(curve.half).middle == pytest.approx(0.5)
    assert curve.power == pytest.approx(2.0, abs=0.3)
    assert curve.share(curve.snr_for(0.75)).middle == pytest.approx(0.75)
    least = curve.share(0.01)
    assert least.low == 0 and least.high < curve.least + 0.01


def test_a_run_that_is_known_better_weighs_more() -> None:
    sure = run(3.0, 0.3).model_copy(update={"low": 0.79, "high": 0.81})
    assert fitted(TABLE.model_copy(update={"runs": (*RUNS, sure)}), SMALL).half < HALF


def test_each_adapter_has_a_curve_of_its_own_once_it_has_runs_enough() -> None:
    weak = tuple(run(snr, -0.2, "large") for snr in (2.0, 4.0, 8.0, 16.0))
    small = tuple(run(snr) for snr in (2.0, 4.0, 8.0, 16.0))
    table = TABLE.model_copy(update={"runs": (*small, *weak)})
    assert fitted(table, SMALL).half == pytest.approx(HALF, rel=0.05)
    assert fitted(table, LARGE).half > 1.3 * HALF
    few = TABLE.model_copy(update={"runs": (*small, *weak[:3])})
    assert fitted(few, LARGE) == fitted(few.model_copy(update={"layouts": (LARGE, SMALL)}), LARGE)
    assert fitted(few, LARGE).half < fitted(table, LARGE).half  # of all runs together


def test_thresholds_are_what_rehearsals_can_tell_apart() -> None:
    curve = fitted(TABLE, SMALL)
    assert curve.lesson(curve.least - 0.01) == "nothing"
    assert curve.lesson(curve.least + 0.01) == "part"
    assert curve.lesson(0.5) == "most"


def test_the_rate_is_lower_where_the_best_adapter_was_shorter() -> None:
    shorter = TABLE.model_copy(update={"runs": tuple(run(s, scale=0.5) for s in (1.0, 4.0))})
    whole = shorter.model_copy(update={"runs": tuple(run(s) for s in (1.0, 4.0))})
    rates = [fitted(table, SMALL).rate(4.0, 0.2, 40, 192) for table in (shorter, whole)]
    assert rates[0] == pytest.approx(rates[1] / 2, rel=0.06)  # both have two digits


def test_rates_follow_what_was_best_at_every_noise() -> None:
    """Made with k = 0.2 and a pace of 50, which the fit finds again."""
    made = Recovery(HALF, 2.0, 0.05, 50.0, 0.2)
    runs = tuple(
        run(snr).model_copy(update={"rate": made.rate(snr, 0.2, 40, 192), "best_scale": 1.0})
        for snr in (1.0, 2.0, 4.0, 8.0, 16.0)
    )
    found = fitted(TABLE.model_copy(update={"runs": runs}), SMALL)
    assert found.left == pytest.approx(0.2, abs=0.05)
    for snr in (1.5, 6.0):
        assert found.rate(snr, 0.2, 40, 192) == pytest.approx(made.rate(snr, 0.2, 40, 192), rel=0.1)


def test_a_rate_by_hand() -> None:
    """a g T sqrt(P) = 50, share 4 / 13, root of 1 + 0.2 x 40 / 4, over 40 sqrt(192)."""
    assert Recovery(3.0, 2.0, 0.05, 50.0, 0.2).rate(2.0, 0.2, 40, 192) == 0.0096


def test_what_is_learnt_alone_is_said_to_be_the_most() -> None:
    plans = [plan(patients) for patients in (10, 160, 1000)]
    lessons = [found.alone.lesson for found in plans]
    assert "nothing" in lessons and set(lessons) != {"nothing"}
    for found, lesson in zip(plans, lessons, strict=True):
        assert ("would learn at most" in verdict_words(found)) is (lesson != "nothing")


def test_clips_at_the_small_end() -> None:
    assert SMALL.share_clipped(0.002) == pytest.approx(0.5)
    assert SMALL.small_clip() == 0.0002
    assert SMALL.share_clipped(SMALL.small_clip()) >= 0.94
    assert 0.05 < SMALL.coherence_at(0.002) < 0.2
    assert SMALL.coherence_at(1e-9) == 0.2


def test_the_nearest_layout_is_known_for_what_it_is() -> None:
    assert nearest_layout(TABLE, SMALL.targets, 1, 192) == (SMALL, True)
    assert nearest_layout(TABLE, SMALL.targets, 2, 384) == (SMALL, False)
    assert nearest_layout(TABLE, ("to_q",), 1, 100_000) == (LARGE, False)


def test_more_patients_or_epsilon_never_teach_less() -> None:
    shares = [plan(patients).pooled.share.middle for patients in (20, 40, 80, 160, 320)]
    assert shares == sorted(shares) and shares[0] < 0.5 < shares[-1]
    shares = [plan(epsilon=value).pooled.share.middle for value in (0.5, 1.0, 3.0, 8.0)]
    assert shares == sorted(shares)


def test_bytes_are_those_of_the_packed_lanes() -> None:
    found = plan()
    terms = found.pooled.noise.terms
    assert found.pooled.cost.up >= 8 * lanes_for(192, terms.bits)
    assert found.pooled.cost.kept > 40 * 3 * 8 * lanes_for(192, terms.bits)
    assert found.alone.cost.up == 0


def test_a_slot_is_longer_than_training_and_than_policies_ask() -> None:
    assert slot_for_training(10) == 60
    assert slot_for_training(61) == 125
    assert plan(slot=20.0).pooled.cost.whole == pytest.approx(40 * 21.3)


def test_a_slot_shorter_than_training_is_told_with_one_that_is_not() -> None:
    training = plan().pooled.cost.training
    assert training is not None
    words = late_words(plan(slot=training / 2))
    assert "is lost, and charged" in words
    assert words.endswith(f"or say {slot_for_training(training):.0f}.")
    assert late_words(plan(slot=2 * training)) == ""


def test_without_a_known_speed_there_is_no_training_time() -> None:
    found = planned(asked(), replace(KNOWN, gradient_seconds=None))
    assert found.pooled.cost.training is None and found.pooled.cost.slot == 60


def test_words_say_what_the_figures_say() -> None:
    good, bad = plan(320), plan(10)
    assert share_words(good.pooled) in ("two thirds", "three quarters", "nine tenths", "nearly all")
    assert share_words(bad.pooled) == share_words(bad.alone) == "nothing"
    assert f"together, {share_words(good.pooled)} of what" in verdict_words(good)
    assert "40 steps, 41 minutes" in verdict_words(good)
    assert mending_words(good) == ""
    assert (time_words(61), time_words(7300), time_words(3600 * 100)) == (
        "2 minutes",
        "3 hours",
        "5 days",
    )


def test_less_than_half_is_never_called_half() -> None:
    found = plan().pooled
    almost = replace(found, share=replace(found.share, middle=0.49), lesson="part")
    assert share_words(almost) == "two fifths"


@pytest.mark.parametrize("others", [{"patients": 40}, {"epsilon": 1.0}])
def test_the_change_that_is_proposed_mends_it(others: dict[str, object]) -> None:
    bad = plan(**{"patients": 60, **others})  # type: ignore[arg-type]
    assert bad.pooled.lesson != "most"
    change = cheapest_change(bad)
    assert change is not None and change.plan.pooled.lesson == "most"
    assert change.option.startswith("--")
    assert share_words(change.plan.pooled) in mending_words(bad)


def test_more_patients_are_proposed_where_nothing_else_helps() -> None:
    bad = plan(10)
    change = cheapest_change(bad)
    assert change is not None and "patients instead of 30" in change.words
    few = replace(change.plan.asked, sites=change.plan.asked.sites[:3])
    fewer = tuple(
        site.model_copy(update={"declared_patients": site.declared_patients - 20})
        for site in few.sites
    )
    assert planned(replace(few, sites=fewer), KNOWN).pooled.lesson != "most"


def test_nothing_is_proposed_where_nothing_helps() -> None:
    worse = replace(KNOWN, layout=SMALL.model_copy(update={"coherence": ((0.0002, 1e-7),)}))
    assert "Not a million" not in mending_words(planned(asked(), worse))
    assert "No single change would mend it" in mending_words(planned(asked(), worse))


@pytest.mark.parametrize(
    ("others", "message", "hint"),
    [
        ({"sites": 1}, "1 site: a sum", "at least 2 more"),
        ({"sites": 2}, "2 sites: a sum", "at least 1 more"),
        ({"epsilon": 0.0}, "nothing is learnt", "1 to 8"),
        ({"epsilon": -1.0}, "above 0", "1 to 8"),
        ({"epsilon": math.nan}, "--epsilon nan", "1 to 8"),
        ({"epsilon": 100.0}, "promises a patient nothing", "1 to 8"),
        ({"delta": 1e-3}, "--delta 0.001", "Leave it out"),
        ({"colluders": 2}, "--colluders 2", "--colluders 1 or less"),
        ({"colluders": -1}, "--colluders -1", "n_c may be"),
        ({"patients": 3}, "s0 has 3 patients", "Plan without it"),
        ({"min_sites": 9}, "--min-sites 9", "policies allow"),
        ({"steps": 0}, "--steps 0", "30 to 60"),
        ({"spare_attempts": -1}, "--spare-attempts -1", "2 are usual"),
        ({"draws": 99}, "--draws 99", "Use 1 and 1"),
        ({"slot": 0.0}, "--slot 0", "Leave it out"),
    ],
)
def test_what_no_study_can_be_is_refused_in_words(
    others: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(**others)  # type: ignore[arg-type]
    assert message in caught.value.message and hint in caught.value.hint


def test_a_promise_that_no_noise_keeps_is_refused() -> None:
    with pytest.raises(CraftsflError, match=r"--epsilon 1e-05: no noise is known") as caught:
        planned(asked(epsilon=1e-5), KNOWN)
    assert "--steps" in caught.value.hint and "sampling" not in caught.value.hint


def test_defaults() -> None:
    assert [default_spare(steps) for steps in (6, 40, 100)] == [1, 2, 5]
    assert [default_min_sites(sites) for sites in (3, 4, 12, 50)] == [3, 3, 11, 45]


def test_the_shipped_table_is_fitted_and_covers_what_plans_ask() -> None:
    table = shipped_rehearsals()
    for layout in table.layouts:
        curve = fitted(table, layout)
        ratios = [run.snr for run in table.runs if run.layout == layout.name]
        assert len({run.seed for run in table.runs if run.layout == layout.name}) >= 3
        assert 0 < curve.spread < 0.3 and min(ratios) < curve.half < max(ratios)
        assert 0 <= curve.left < 1
        assert np.all(np.diff(layout.norms) >= 0)
        assert layout.share_clipped(layout.small_clip()) >= 0.94
        assert 0.05 < layout.coherence_at(layout.small_clip()) < 1
    assert table.command.startswith("python -m bench.rehearsals")
