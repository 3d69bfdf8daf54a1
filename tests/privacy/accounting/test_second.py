from __future__ import annotations

import functools
import sys

import pytest

from privacy.accounting import RELEASE, Released, epsilon, prv_epsilon, released_epsilon
from privacy.accounting import release as release_module
from privacy.accounting import second as second_module
from privacy.errors import AccountingError
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.accounting.oracles import CHARGED, REFERENCE, gaussian_delta, tilted_delta

SCHEDULES = [
    [REFERENCE],
    [PoissonGaussian(0.25, 1.6, 1.0, 60)],
    [PoissonGaussian(1.0, 5.0, 1.0, 30)],
    [PoissonGaussian(0.5, 0.7, 1.0, 1)],
    [PoissonGaussian(0.5, 20.0, 1.0, 10)],
    [REFERENCE, PoissonGaussian(0.5, 5.0, 1.0, 30), PoissonGaussian(1.0, 9.0, 1.0, 3)],
]


@pytest.fixture(autouse=True)
def opacus() -> None:
    pytest.importorskip("opacus")


def test_reference_figures_of_both_libraries() -> None:
    accountants = pytest.importorskip("opacus.accountants")
    prv, rdp = accountants.PRVAccountant(), accountants.RDPAccountant()
    for accountant in (prv, rdp):
        accountant.history = [(1.0, 0.01, 1000)]
    ours = epsilon([REFERENCE], 1e-5)
    assert prv.get_epsilon(1e-5) == pytest.approx(1.838, abs=2e-3)
    assert rdp.get_epsilon(1e-5) == pytest.approx(2.101, abs=2e-3)
    assert ours <= prv.get_epsilon(1e-5) <= ours + 0.02


def test_it_is_the_accountant_of_the_library_with_a_narrower_interval() -> None:
    accountants = pytest.importorskip("opacus.accountants")
    prv = accountants.PRVAccountant()
    prv.history = [(CHARGED, 0.01, 1000)]
    low, estimate, high = prv_epsilon([REFERENCE], 1e-5)
    assert high == pytest.approx(prv.get_epsilon(0.999e-5, eps_error=2e-3), abs=1e-9)
    assert low < estimate < high < low + 0.005


@pytest.mark.parametrize("events", SCHEDULES)
def test_two_accountants_agree(events: list[PoissonGaussian]) -> None:
    released = released_epsilon(events, 1e-5)
    low, estimate, high = prv_epsilon(events, 1e-5)
    assert released.epsilon == epsilon(events, 1e-5, discretization=RELEASE)
    assert low <= released.epsilon <= high
    assert released.second == estimate
    assert abs(released.epsilon - estimate) <= 2e-3 < released.tolerance


def test_the_interval_holds_the_exact_gaussian() -> None:
    low, _, high = prv_epsilon([PoissonGaussian(1.0, 5.0, 1.0, 30)], 1e-5)
    mu = 30**0.5 / 5
    assert gaussian_delta(high, mu) <= 1e-5 <= gaussian_delta(low, mu)


def test_a_small_sampling_rate_is_computed_on_a_finer_grid() -> None:
    rare = [PoissonGaussian(1e-4, 1.5, 1.0, 40_000)]
    released = released_epsilon(rare, 1e-5)
    assert released.epsilon == pytest.approx(released.second, abs=1e-4)
    running = epsilon(rare, 1e-5)
    assert released.epsilon <= running <= 1.01 * released.second


@pytest.mark.parametrize(("q", "sigma", "steps"), [(0.01, 1.0, 1000), (0.25, 2.0, 60)])
def test_the_smallest_delta_is_released_where_it_can_be(q: float, sigma: float, steps: int) -> None:
    released = released_epsilon([PoissonGaussian(q, sigma, 1.0, steps)], 1e-12)
    assert tilted_delta(released.epsilon, q, sigma, steps) <= 1e-12
    assert abs(released.first - released.second) <= released.tolerance
    assert released.first < released.epsilon < 1.04 * released.first


def test_a_delta_below_rounding_is_refused_in_words() -> None:
    with pytest.raises(AccountingError, match="too small for 100000 steps"):
        released_epsilon([PoissonGaussian(0.01, 5.0, 1.0, 100_000)], 1e-12)


def test_nothing_costs_nothing() -> None:
    assert prv_epsilon([], 1e-5) == (0.0, 0.0, 0.0)
    assert released_epsilon([], 1e-5) == Released(0.0, 0.0, 0.0, 0.005)


@pytest.mark.parametrize("second", [(0.05, 0.06, 0.07), (0.09, 0.10, 0.11)])
def test_nothing_is_released_if_they_disagree(
    second: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_module, "prv_epsilon", lambda events, delta: second)
    with pytest.raises(AccountingError, match=r"disagree: 0\.0780 and 0\.(06|10)00"):
        released_epsilon([PoissonGaussian(0.5, 20.0, 1.0, 1)], 1e-5)


def test_a_first_accountant_gone_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_estimate", "epsilon_of"):
        right = getattr(release_module, name)
        wrong = functools.partial(lambda right, *given: 0.99 * right(*given), right)
        monkeypatch.setattr(release_module, name, wrong)
    with pytest.raises(AccountingError, match="disagree"):
        released_epsilon([REFERENCE], 1e-5)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    second_module._prv_epsilon.cache_clear()
    monkeypatch.setitem(sys.modules, "opacus.accountants.analysis.prv", None)
    with pytest.raises(AccountingError, match=r"craftsfl\[site\]"):
        released_epsilon([REFERENCE], 1e-5)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan"), 1e-13])
def test_bad_input_is_refused(delta: float) -> None:
    for compute in (prv_epsilon, released_epsilon):
        with pytest.raises(AccountingError, match="delta"):
            compute([REFERENCE], delta)
        with pytest.raises(AccountingError, match="without noise"):
            compute([PoissonGaussian(0.5, 0.0, 1.0, 1)], 1e-5)
        with pytest.raises(AccountingError, match="str cannot"):
            compute(["poisson"], 1e-5)  # type: ignore[list-item]


def test_a_schedule_that_it_cannot_compute_is_refused() -> None:
    with pytest.raises(AccountingError, match="second accountant"):
        prv_epsilon([PoissonGaussian(1.0, 0.02, 1.0, 1000)], 1e-5)
