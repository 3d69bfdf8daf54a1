"""The closed form, steps that are only near to Gaussian ones, and the filter that adds mu^2."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.accounting import (
    GaussianFilter,
    RenyiFilter,
    epsilon,
    epsilon_known_to,
    prv_epsilon,
    released_epsilon,
    rounds_that_fit,
    tradeoff,
)
from privacy.accounting import composition as composition_module
from privacy.accounting.across import GDP_FACTOR, SAMPLER_SHARE, renyi
from privacy.accounting.gaussian import gaussian_delta as our_delta
from privacy.accounting.gaussian import gaussian_epsilon, largest_mu
from privacy.accounting.nearness import Nearness, stretched, stretched_deltas
from privacy.errors import AccountingError
from privacy.events import GaussianSteps, Seen
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.accounting.oracles import gaussian_delta, gaussian_tpr


def near(
    steps: int, sigma: float, factor: float = 1e-9, distance: float = 0.0, q: float = 1.0
) -> Seen:
    return Seen((GaussianSteps(q, sigma, steps, factor, distance),))


@given(st.floats(1e-3, 30.0), st.sampled_from([1e-3, 1e-5, 1e-9, 1e-12]))
def test_the_closed_form_is_the_exact_gaussian(mu: float, delta: float) -> None:
    eps = gaussian_epsilon(mu, delta)
    assert our_delta(eps, mu) <= delta
    if eps > 1e-6:
        assert our_delta(eps * (1 - 1e-9), mu) > delta * (1 - 1e-4)
    if 0 < eps < 300:  # e^eps times an erfc of the standard library
        assert gaussian_delta(eps, mu) == pytest.approx(delta, rel=1e-3)
    assert largest_mu(max(eps, 1e-3), delta) >= mu * (1 - 1e-9)


def test_reference_figures_of_the_closed_form() -> None:
    # pooled.md: mu(3) = 0.719, mu(8) = 1.666 at delta = 1e-5
    assert largest_mu(3.0, 1e-5) == pytest.approx(0.719, abs=1e-3)
    assert largest_mu(8.0, 1e-5) == pytest.approx(1.666, abs=1e-3)
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
    assert gaussian_epsilon(300.0, 1e-5) == pytest.approx(300**2 / 2 + 300 * 4.26, rel=1e-3)


@pytest.mark.parametrize(("steps", "sigma"), [(1, 0.7), (40, 4.65), (60, 12.0), (3, 30.0)])
def test_the_closed_form_and_the_loss_distribution_agree(steps: int, sigma: float) -> None:
    exact = epsilon([near(steps, sigma)], 1e-5)
    charged = PoissonGaussian(1.0, sigma * (1 + 1e-6), 1.0, steps)
    assert exact <= epsilon([charged], 1e-5) <= exact + 2e-3


def test_figures_that_were_stated_are_not_computed_in_another_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`poisson-gaussian` at q = 1 is composed by PLD as before; so are the two kinds together."""
    asked: list[float] = []
    monkeypatch.setattr(
        composition_module, "gaussian_epsilon", lambda mu, delta: asked.append(mu) or 1.0
    )
    composition_module.epsilon_of.cache_clear()
    old = PoissonGaussian(1.0, 5.0, 1.0, 30)
    assert epsilon([old], 1e-5) == pytest.approx(5.009, abs=0.3)
    both = epsilon([old, near(1, 5.0)], 1e-5)
    assert not asked
    assert epsilon([near(30, 5.0)], 1e-5) > 0
    assert asked
    monkeypatch.undo()
    composition_module.epsilon_of.cache_clear()
    assert both == pytest.approx(epsilon([near(31, 5.0)], 1e-5), abs=2e-3)


def test_a_factor_costs_twice_on_epsilon_and_once_on_delta() -> None:
    near_by = Nearness(0.1, 0.0)
    asked: list[float] = []

    def gaussian(delta: float) -> float:
        asked.append(delta)
        return 1.0

    assert stretched(gaussian, 1e-5, near_by) == pytest.approx(1.2)
    assert asked == [pytest.approx(1e-5 * math.exp(-0.1), rel=1e-6)]


def test_a_distance_is_paid_on_both_sides() -> None:
    def gaussian(delta: float) -> float:
        return math.log(1 / delta)

    near_by = Nearness(0.0, 1e-13)
    found = stretched(gaussian, 1e-5, near_by)
    # Of 1e-5 a thousandth or so is needed: 1e-13 (1 + e^11.5) = 1e-8
    assert math.log(1e5) < found < math.log(1e5) + 0.02
    assert stretched(gaussian, 1e-5, Nearness(0.0, 1e-9)) == math.inf
    assert stretched(gaussian, 1e-5, Nearness(0.0, 0.0)) == gaussian(1e-5)


def test_what_lies_beyond_is_taken_off_delta_once() -> None:
    asked: list[float] = []

    def gaussian(delta: float) -> float:
        asked.append(delta)
        return 40.0

    assert stretched(gaussian, 1e-5, Nearness(0.0, 0.0, 4e-6)) == 40.0  # whatever e^40 is
    assert asked == [pytest.approx(6e-6, rel=1e-6)]
    assert stretched(gaussian, 1e-5, Nearness(0.0, 0.0, 1e-5)) == math.inf


def test_the_closed_form_is_for_full_batches_alone() -> None:
    """One step of another kind among them, and losses are composed as for any schedule."""
    full = GaussianSteps(1.0, 4.0, 3, 1e-9, 0.0)
    drawn, exact = full._replace(sampling_rate=0.5), full._replace(factor=0.0)
    assert composition_module.in_closed_form((full,))
    for other in (drawn, exact):
        assert not composition_module.in_closed_form((other,))
        assert not composition_module.in_closed_form((full, other))
        assert not composition_module.in_closed_form((other, full))


@pytest.mark.parametrize("huge", [701.0, 900.0, 1e6])
def test_an_epsilon_whose_power_is_no_number_is_infinite_where_a_distance_is_paid(
    huge: float,
) -> None:
    by_distance, by_factor = Nearness(0.0, 1e-300), Nearness(1e-3, 0.0)
    assert stretched(lambda delta: huge, 1e-5, by_distance) == math.inf
    deltas = stretched_deltas(np.array([huge]), np.array([1e-6]), by_factor)[1]
    assert deltas == pytest.approx([1e-6 * math.exp(1e-3)])
    share = SAMPLER_SHARE * 1e-5
    for filter_ in (GaussianFilter(8.0, 1e-5), RenyiFilter(8, 8.0, 1e-5)):
        part = GaussianSteps(1.0, 100.0, 1, 1e-12)
        assert filter_.admits([Seen((part._replace(beyond=0.5 * share),))])
        assert not filter_.admits([Seen((part._replace(beyond=1.1 * share),))])
    (attack,) = tradeoff([Seen((GaussianSteps(1.0, 1e3, 1, 1e-12, 0.0, 0.01),))], [0.01])
    assert 0.02 <= attack.tpr <= 0.021


def test_the_bound_holds_for_a_mechanism_that_uses_all_of_it() -> None:
    """Both neighbours' densities tilted apart by e^k: delta computed from the densities."""
    k, sigma, steps = 0.02, 2.0, 1
    x = np.linspace(-20, 21, 400_001)
    width = x[1] - x[0]

    def density(centre: float) -> np.ndarray:
        return np.exp(-((x - centre) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))

    up, down = np.exp(k * np.sign(x - 0.5)), np.exp(-k * np.sign(x - 0.5))
    p, r = density(1.0) * up, density(0.0) * down
    p, r = p / (p.sum() * width), r / (r.sum() * width)
    # What normalising changed counts as well.
    off = max(np.abs(np.log(p / density(1.0))).max(), np.abs(np.log(r / density(0.0))).max())
    bound = epsilon([near(steps, sigma, float(off))], 1e-5)
    truth = float(np.maximum(p - math.exp(bound) * r, 0).sum() * width)
    assert truth <= 1e-5
    plain = gaussian_epsilon(1 / sigma, 1e-5)
    without = float(np.maximum(p - math.exp(plain) * r, 0).sum() * width)
    assert without > 1e-5  # left out, it is refuted


@pytest.mark.parametrize("q", [1.0, 0.3])
def test_k_is_charged_wherever_epsilon_is_composed(q: float) -> None:
    """One place: running, released by both accountants, mixtures, attacks, budgets, filters."""
    k = 1e-3
    plain, shifted = near(30, 5.0, 1e-15, q=q), near(30, 5.0, k, q=q)
    more = 2 * 30 * k

    def costs_more(figure: float, than: float) -> None:
        assert than + more <= figure <= than + more + 0.05

    costs_more(epsilon([shifted], 1e-5), epsilon([plain], 1e-5))
    costs_more(prv_epsilon([shifted], 1e-5)[1], prv_epsilon([plain], 1e-5)[1])
    for attribute in ("epsilon", "first", "second"):
        costs_more(
            getattr(released_epsilon([shifted], 1e-5), attribute),
            getattr(released_epsilon([plain], 1e-5), attribute),
        )
    for sites in (1, 2):
        costs_more(
            epsilon_known_to(sites, shifted, 1e-5, "pooled", discretization=1e-2),
            epsilon_known_to(sites, plain, 1e-5, "pooled", discretization=1e-2),
        )
    local = [epsilon_known_to(2, one, 1e-5, "local") for one in (shifted, plain)]
    assert local[1] + 2 * more <= local[0] <= local[1] + 2 * more + 0.1
    attacks = [tradeoff([one], [0.001])[0].tpr for one in (shifted, plain)]
    assert attacks[1] < attacks[0] < 1.2 * attacks[1]
    once = shifted.times(1)
    fit = [rounds_that_fit([], one, 1e-5, 20.0) for one in (once, plain)]
    assert fit[0] <= fit[1]
    found = RenyiFilter(8, 20.0, 1e-5)
    exact = 30 * renyi(8, q, 5.0)
    assert found.load([shifted]) == pytest.approx(exact + 30 * k * 15 / 7, rel=1e-9)


def test_the_renyi_divergence_of_what_is_near_is_bounded() -> None:
    k, sigma, order = 0.05, 1.5, 5
    x = np.linspace(-25, 26, 200_001)
    p, r = (np.exp(-((x - c) ** 2) / (2 * sigma**2)) for c in (1.0, 0.0))
    p, r = p * np.exp(k * np.sign(x)), r * np.exp(-k * np.sign(x))
    p, r = p / p.sum(), r / r.sum()
    divergence = math.log(float((p**order * r ** (1.0 - order)).sum())) / (order - 1)
    bound = RenyiFilter(order, 50.0, 1e-5).load([near(1, sigma, 2 * k)])
    assert renyi(order, 1.0, sigma) < divergence <= bound


def test_distances_take_their_share_of_a_filter() -> None:
    share = SAMPLER_SHARE * 1e-5 / (1 + math.exp(8.0))
    for filter_ in (GaussianFilter(8.0, 1e-5), RenyiFilter(8, 8.0, 1e-5)):
        assert filter_.admits([near(1, 100.0, 1e-12, 0.5 * share)])
        assert not filter_.admits([near(1, 100.0, 1e-12, 1.1 * share)])


def test_the_gaussian_filter_admits_what_one_schedule_would() -> None:
    """mu^2 adds: two studies of epsilon 8 are 12.26 together, not 16; of 3: 4.46."""
    for one, both in ((8.0, 12.26), (3.0, 4.46)):
        mu = largest_mu(one, 1e-5)
        study = near(40, math.sqrt(40) / mu, 1e-12)
        found = GaussianFilter(both + 0.03, 1e-5)
        assert found.admits([study, study])
        assert not GaussianFilter(both - 0.03, 1e-5).admits([study, study])
        assert found.epsilon([study, study]) == pytest.approx(both, abs=0.03)


def test_at_the_bound_the_filter_reads_its_budget_and_no_more() -> None:
    found = GaussianFilter(8.0, 1e-5)
    one = near(1, 10.0, 1e-7)
    steps = 1
    while found.admits([one.times(steps + 1)]):
        steps += 1
    assert 7.9 < found.epsilon([one.times(steps)]) <= 8.0 < found.epsilon([one.times(steps + 1)])
    exact = epsilon([one.times(steps)], 1e-5)
    assert exact <= 8.0
    assert steps > 0.99 * (largest_mu(8.0, 1e-5) * 10) ** 2  # hardly any is lost to K and its kin


def test_each_bound_of_the_filter_holds_by_itself() -> None:
    found = GaussianFilter(8.0, 1e-5)
    assert not found.admits([near(1, 1e4, 1.01 * GDP_FACTOR)])
    assert found.admits([near(1, 1e4, 0.99 * GDP_FACTOR)])


def test_loads_add_up_and_others_are_one_number() -> None:
    found = GaussianFilter(8.0, 1e-5)
    own, others = near(3, 9.0), near(5, 7.0)
    beside = found.load([others])
    assert found.epsilon([own], beside) == pytest.approx(found.epsilon([own, others]), rel=1e-9)
    assert found.epsilon([]) == 0.0 == found.load([])
    assert found.admits([])
    assert not any(isinstance(found.load([one]), Seen) for one in (own, others))


def test_old_events_with_everybody_in_every_step_are_composed_too() -> None:
    found = GaussianFilter(8.0, 1e-5)
    assert 0 < found.epsilon([PoissonGaussian(1.0, 5.0, 1.0, 30)]) < 8.0


def test_what_the_filter_cannot_compose_has_no_end() -> None:
    found = GaussianFilter(8.0, 1e-5)
    for event in (PoissonGaussian(0.5, 5.0, 1.0, 1), PoissonGaussian(1.0, 0.0, 1.0, 1)):
        assert found.load([event]) == found.epsilon([event]) == math.inf
        assert not found.admits([event])
    with pytest.raises(AccountingError, match="dict"):
        found.load([{}])  # type: ignore[list-item]


@pytest.mark.parametrize(("budget", "delta"), [(0.0, 1e-5), (1e-3, 1e-5), (8.0, 0.0)])
def test_budgets_without_room_are_refused(budget: float, delta: float) -> None:
    with pytest.raises(AccountingError):
        GaussianFilter(budget, delta)


def test_an_attack_on_a_near_gaussian_is_never_understated() -> None:
    steps, sigma = 30, 10.0
    (found,) = tradeoff([near(steps, sigma, 1e-6)], [0.01])
    exact = gaussian_tpr(0.01, math.sqrt(steps) / sigma)
    assert exact <= found.tpr <= exact + 0.01


def test_an_event_without_factor_is_what_it_was() -> None:
    old = PoissonGaussian(0.25, 1.6, 1.0, 5)
    assert old.charged[0].factor == old.charged[0].distance == 0.0
    assert epsilon([old], 1e-5) == epsilon([Seen(old.charged)], 1e-5)
    assert replace(old, steps=10) == old.times(2)
