from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import Attack, epsilon, tradeoff, tradeoff_at, true_positive_rate
from privacy.errors import AccountingError
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.accounting.oracles import DEMO, NORMAL, REFERENCE, gaussian_tpr

RATES = [0.001, 0.01, 0.05, 0.1, 0.5, 0.9, 0.999]


@pytest.mark.parametrize(("sigma", "steps"), [(2.0, 4), (1.0, 1), (10.0, 9), (1.0, 9)])
def test_without_sampling_it_is_the_exact_gaussian(sigma: float, steps: int) -> None:
    found = tradeoff([PoissonGaussian(1.0, sigma, 1.0, steps)], RATES)
    for attack in found:
        exact = gaussian_tpr(attack.fpr, math.sqrt(steps) / sigma)
        assert exact <= attack.tpr <= exact + 1e-4  # never understated, and tight


@pytest.mark.parametrize(("q", "sigma"), [(0.25, 1.6), (0.5, 0.8), (0.05, 0.7)])
def test_one_sampled_step_bounds_the_best_test(q: float, sigma: float) -> None:
    # Neyman and Pearson: the best test of "in" against "out" is a threshold on the output.
    step = [PoissonGaussian(q, sigma, 1.0, 1)]
    for attack in tradeoff(step, RATES):
        exact = (1 - q) * attack.fpr + q * gaussian_tpr(attack.fpr, 1 / sigma)
        assert exact <= attack.tpr
    rare = true_positive_rate(step, 0.001)
    assert rare <= (1 - q) * 0.001 + q * gaussian_tpr(0.001, 1 / sigma) + 1e-4


def test_it_is_never_looser_than_the_pair_epsilon_delta() -> None:
    pair = epsilon([REFERENCE], 1e-5), 1e-5
    for exact, loose in zip(tradeoff([REFERENCE], RATES), tradeoff_at(*pair, RATES), strict=True):
        assert exact.tpr <= loose.tpr + 1e-9
    assert true_positive_rate([REFERENCE], 0.01) < 0.03 < tradeoff_at(*pair, [0.01])[0].tpr


def test_more_is_charged_more_is_known() -> None:
    rates = [true_positive_rate([DEMO] * rounds, 0.01) for rounds in (0, 1, 3, 10, 100)]
    assert rates == sorted(rates)
    assert rates[0] == 0.01
    assert rates[-1] > 0.9


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6))
def test_a_rate_between_guessing_and_certainty_that_rises(rates: list[float]) -> None:
    found = tradeoff([DEMO], sorted(rates))
    assert all(attack.fpr <= attack.tpr + 1e-9 and attack.tpr <= 1 for attack in found)
    assert [a.tpr for a in found] == sorted(a.tpr for a in found)


def test_nothing_released_leaves_only_guessing() -> None:
    assert tradeoff([], [0.1, 0.5]) == [Attack(0.1, 0.1), Attack(0.5, 0.5)]
    assert tradeoff([DEMO], []) == []


def test_a_pair_has_its_closed_form() -> None:
    assert tradeoff_at(0.0, 1e-5, [0.1])[0].tpr == pytest.approx(0.1 + 1e-5)
    assert tradeoff_at(math.log(3), 1e-5, [0.1])[0].tpr == pytest.approx(0.3 + 1e-5)
    assert tradeoff_at(math.log(3), 1e-5, [0.9])[0].tpr == pytest.approx(1 - (0.1 - 1e-5) / 3)
    assert tradeoff_at(math.inf, 1e-5, [0.1]) == [Attack(0.1, 1.0)]


def test_a_simulated_attacker_stays_below() -> None:
    # The threshold attack on 2 composed steps, exactly: outputs are sums over who was drawn.
    q, sigma, fpr = 0.5, 1.0, 0.05
    bound = true_positive_rate([PoissonGaussian(q, sigma, 1.0, 2)], fpr)
    spread = sigma * math.sqrt(2)  # of the sum of two outputs
    threshold = spread * NORMAL.inv_cdf(1 - fpr)
    drawn = {0: (1 - q) ** 2, 1: 2 * q * (1 - q), 2: q * q}
    hit = sum(p * NORMAL.cdf((times - threshold) / spread) for times, p in drawn.items())
    assert 0.9 * bound < hit <= bound


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan, True, "0.1", 1e-12])
def test_bad_rates_are_refused(rate: object) -> None:
    with pytest.raises(AccountingError, match="false-positive rate"):
        tradeoff([DEMO], [rate])  # type: ignore[list-item]
    with pytest.raises(AccountingError, match="false-positive rate"):
        tradeoff_at(1.0, 1e-5, [rate])  # type: ignore[list-item]


@pytest.mark.parametrize("eps", [-1.0, math.nan, "1"])
def test_bad_epsilon_is_refused(eps: object) -> None:
    with pytest.raises(AccountingError, match="epsilon"):
        tradeoff_at(eps, 1e-5, [0.1])  # type: ignore[arg-type]


def test_no_noise_is_refused() -> None:
    with pytest.raises(AccountingError, match="without noise"):
        tradeoff([PoissonGaussian(0.5, 0.0, 1.0, 1)], [0.1])
