from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import RenyiFilter, epsilon, suggested_order, total_sum
from privacy.accounting.across import FILTER_SHARE, SAMPLER_SHARE, renyi
from privacy.errors import AccountingError
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.accounting.oracles import CHARGED, DEMO, REFERENCE, naive_renyi

NOISELESS = PoissonGaussian(0.5, 0.0, 1.0, 1)
A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))
STEPS = st.builds(
    PoissonGaussian, st.floats(0.01, 1.0), st.floats(1.0, 8.0), st.just(1.0), st.integers(1, 20)
)


def test_the_sum_adds_epsilons_and_deltas() -> None:
    total = total_sum({A: [REFERENCE], B: [DEMO] * 3, C: []}, {A: 1e-5, B: 1e-6, C: 1e-7})
    assert total.epsilon == pytest.approx(epsilon([REFERENCE], 1e-5) + epsilon([DEMO] * 3, 1e-6))
    assert total.delta == pytest.approx(1.1e-5)  # a study that released nothing costs nothing


def test_one_study_without_noise_makes_the_sum_infinite() -> None:
    assert total_sum({A: [REFERENCE], B: [NOISELESS]}, {A: 1e-5, B: 1e-5}).epsilon == math.inf


def test_a_study_without_a_delta_is_refused_by_name() -> None:
    with pytest.raises(AccountingError, match="020202020202"):
        total_sum({A: [DEMO], B: [DEMO]}, {A: 1e-5})


@pytest.mark.parametrize("order", [2, 3, 8, 20, 64])
@pytest.mark.parametrize(("q", "sigma"), [(0.01, 2.0), (0.25, 4.0), (0.9, 5.0), (1.0, 3.0)])
def test_divergence_is_the_papers_sum(order: int, q: float, sigma: float) -> None:
    # The naive sum cancels: good to 1e-13 of A, which is more than 1e-10 of its logarithm.
    assert renyi(order, q, sigma) == pytest.approx(naive_renyi(order, q, sigma), rel=1e-8)


def test_divergence_of_a_rare_draw_does_not_cancel() -> None:
    # Order 2 exactly: ln(1 + q^2 (e^(1/sigma^2) - 1)), where 1 + ... is 1 in floats
    assert renyi(2, 1e-6, 10.0) == pytest.approx(1e-12 * math.expm1(0.01), rel=1e-9, abs=0)


@pytest.mark.parametrize(("q", "sigma", "order"), [(0.1, 1.0, 4), (0.5, 2.0, 12), (0.9, 1.5, 3)])
def test_removal_is_the_worse_direction(q: float, sigma: float, order: int) -> None:
    x = np.linspace(-30, 30, 200_001)
    out = np.exp(-(x**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    taken = (1 - q) * out + q * np.exp(-((x - 1) ** 2) / (2 * sigma**2)) / (
        sigma * math.sqrt(2 * math.pi)
    )

    def divergence(p: np.ndarray, r: np.ndarray) -> float:
        terms = np.exp(order * np.log(p) - (order - 1) * np.log(r))
        return math.log(terms.sum() * (x[1] - x[0])) / (order - 1)

    assert renyi(order, q, sigma) == pytest.approx(divergence(taken, out), rel=1e-6)
    assert divergence(out, taken) <= renyi(order, q, sigma)


def test_divergence_agrees_with_both_libraries() -> None:
    dp_accounting = pytest.importorskip("dp_accounting")
    rdp = pytest.importorskip("opacus.accountants.analysis.rdp")
    for order in (2, 8, 33, 256):
        ours = 1000 * renyi(order, 0.01, 1.0)
        assert ours == pytest.approx(
            rdp.compute_rdp(q=0.01, noise_multiplier=1.0, steps=1000, orders=[order])[0], rel=1e-9
        )
        accountant = dp_accounting.rdp.RdpAccountant([order])
        step = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(CHARGED))
        accountant.compose(step, 1000)
        assert RenyiFilter(order, 1e6, 1e-5).epsilon([REFERENCE]) == pytest.approx(
            accountant.get_epsilon(1e-5 * (1 - FILTER_SHARE - SAMPLER_SHARE)), rel=1e-9
        )


def test_reference_figure_of_the_best_order() -> None:
    figures = [RenyiFilter(o, 100.0, 1e-5).epsilon([REFERENCE]) for o in range(4, 20)]
    assert min(figures) == pytest.approx(2.101, abs=0.01)  # 2.101 with fractional orders


@settings(max_examples=20, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=3), st.integers(2, 40))
def test_the_filter_is_never_below_exact_composition(
    events: list[PoissonGaussian], order: int
) -> None:
    assert RenyiFilter(order, 1e5, 1e-5).epsilon(events) >= epsilon(events, 1e-5) - 2e-3


def test_it_admits_until_the_budget_and_no_further() -> None:
    budget = RenyiFilter(suggested_order(8.0, 1e-5), 8.0, 1e-5)
    studies: list[PoissonGaussian] = []
    while budget.admits([*studies, DEMO]):
        studies.append(DEMO)
    assert budget.epsilon(studies) <= 8.0 < budget.epsilon([*studies, DEMO])
    assert epsilon(studies, 1e-5) <= 8.0


def test_many_small_studies_cost_less_than_their_sum() -> None:
    studies = {bytes([n]) * 32: [DEMO] for n in range(8)}
    everything = [event for events in studies.values() for event in events]
    summed = total_sum(studies, dict.fromkeys(studies, 1e-5 / 8)).epsilon
    assert RenyiFilter(4, 50.0, 1e-5).epsilon(everything) < summed


def test_nothing_costs_nothing_and_no_noise_everything() -> None:
    budget = RenyiFilter(8, 8.0, 1e-5)
    assert budget.epsilon([]) == 0.0
    assert budget.admits([])
    assert budget.epsilon([DEMO, NOISELESS]) == math.inf
    assert not budget.admits([NOISELESS])


def test_what_others_cost_is_one_number_beside_which_the_rest_is_read() -> None:
    own, others = [DEMO] * 2, [PoissonGaussian(0.1, 2.0, 1.0, 7), DEMO]
    filtered = RenyiFilter(8, 20.0, 1e-5)
    beside = filtered.divergence(others)
    assert filtered.epsilon(own, beside) == pytest.approx(filtered.epsilon(own + others), rel=1e-12)
    assert filtered.epsilon([], beside) == filtered.epsilon(others)
    assert filtered.epsilon(own, filtered.divergence([NOISELESS])) == math.inf


def test_the_suggested_order_is_the_best_for_gaussians() -> None:
    def most_steps(order: int) -> int:
        filter_ = RenyiFilter(order, 4.0, 1e-5)
        step = PoissonGaussian(1.0, 100.0, 1.0, 1)
        return int((4.0 - filter_.epsilon([step])) / renyi(order, 1.0, 100.0))

    best = suggested_order(4.0, 1e-5)
    assert most_steps(best) == max(most_steps(order) for order in range(5, 40))


@pytest.mark.parametrize("order", [1, 0, -2, 2.5, math.nan, 1025, True, "8"])
def test_bad_orders_are_refused(order: object) -> None:
    with pytest.raises(AccountingError, match="order"):
        RenyiFilter(order, 8.0, 1e-5)  # type: ignore[arg-type]


def test_an_order_that_leaves_no_room_is_refused_with_a_better_one() -> None:
    with pytest.raises(AccountingError, match=r"nothing fits.*Use order \d+"):
        RenyiFilter(2, 8.0, 1e-5)


@pytest.mark.parametrize(("budget", "delta"), [(0.0, 1e-5), (math.inf, 1e-5), (8.0, 0.0)])
def test_bad_budgets_are_refused(budget: float, delta: float) -> None:
    with pytest.raises(AccountingError, match=r"epsilon|delta"):
        RenyiFilter(8, budget, delta)
    with pytest.raises(AccountingError, match=r"epsilon|delta"):
        suggested_order(budget, delta)


def test_unknown_events_are_refused_by_name() -> None:
    with pytest.raises(AccountingError, match="dict"):
        RenyiFilter(8, 8.0, 1e-5).epsilon([{}])  # type: ignore[list-item]
    with pytest.raises(AccountingError, match="str"):
        total_sum({A: ["event"]}, {A: 1e-5})  # type: ignore[list-item]
