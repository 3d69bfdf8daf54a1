from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import (
    RELEASE,
    calibrate_noise_multiplier,
    check_delta,
    epsilon,
    largest_delta,
)
from privacy.errors import AccountingError
from privacy.events import PoissonGaussian

REFERENCE = PoissonGaussian(0.01, 1.0, 1.0, 1000)


def gaussian_delta(eps: float, mu: float) -> float:
    """Exact delta of a Gaussian mechanism at sensitivity/std = mu (Balle, Wang 2018, Th. 8)."""

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    return phi(mu / 2 - eps / mu) - math.exp(eps) * phi(-mu / 2 - eps / mu)


def test_reference_figure() -> None:
    assert epsilon([REFERENCE], 1e-5) == pytest.approx(1.828, abs=2e-3)
    assert epsilon([REFERENCE], 1e-5, discretization=RELEASE) == pytest.approx(1.828, abs=1e-3)


def test_a_second_library_agrees_within_the_known_gap() -> None:
    accountants = pytest.importorskip("opacus.accountants")
    prv, rdp = accountants.PRVAccountant(), accountants.RDPAccountant()
    for accountant in (prv, rdp):
        accountant.history = [(1.0, 0.01, 1000)]
    ours = epsilon([REFERENCE], 1e-5)
    assert prv.get_epsilon(1e-5) == pytest.approx(1.838, abs=2e-3)
    assert rdp.get_epsilon(1e-5) == pytest.approx(2.101, abs=2e-3)
    assert ours <= prv.get_epsilon(1e-5) <= ours + 0.02


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (5.0, 30), (0.7, 2), (40.0, 100)])
def test_without_sampling_it_is_the_exact_gaussian(sigma: float, steps: int) -> None:
    eps = epsilon([PoissonGaussian(1.0, sigma, 1.0, steps)], 1e-5)
    mu = math.sqrt(steps) / sigma
    assert gaussian_delta(eps, mu) <= 1e-5  # never understated
    assert gaussian_delta(eps - 2e-3, mu) >= 1e-5  # and tight


def test_equal_events_merge_and_the_clip_does_not_matter() -> None:
    halves = [PoissonGaussian(0.01, 1.0, clip, 500) for clip in (0.1, 7.0)]
    assert epsilon(halves, 1e-5) == epsilon([REFERENCE], 1e-5)


def test_nothing_costs_nothing_and_order_does_not_matter() -> None:
    other = PoissonGaussian(0.5, 6.0, 1.0, 10)
    assert epsilon([], 1e-5) == 0.0
    both = epsilon([REFERENCE, other], 1e-5)
    assert both == epsilon([other, REFERENCE], 1e-5)
    assert both > max(epsilon([REFERENCE], 1e-5), epsilon([other], 1e-5))


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 1.0), st.floats(1.0, 20.0), st.integers(1, 50))
def test_more_steps_more_epsilon_more_noise_less(q: float, sigma: float, steps: int) -> None:
    base = epsilon([PoissonGaussian(q, sigma, 1.0, steps)], 1e-5)
    assert epsilon([PoissonGaussian(q, sigma, 1.0, 2 * steps)], 1e-5) >= base
    assert epsilon([PoissonGaussian(q, 2 * sigma, 1.0, steps)], 1e-5) <= base


def test_no_noise_is_refused_not_computed() -> None:
    with pytest.raises(AccountingError, match="without noise"):
        epsilon([REFERENCE, PoissonGaussian(0.5, 0.0, 1.0, 1)], 1e-5)


def test_unknown_events_are_refused_by_name() -> None:
    with pytest.raises(AccountingError, match="dict"):
        epsilon([{}], 1e-5)  # type: ignore[list-item]


def test_absurdly_little_noise_ends_in_words() -> None:
    with pytest.raises(AccountingError, match="noise multiplier"):
        epsilon([PoissonGaussian(1.0, 0.01, 1.0, 1_000_000)] * 10, 1e-5)


@pytest.mark.parametrize("delta", [0.0, -1e-5, 1.0, math.nan, math.inf, 0, "1e-5"])
def test_bad_delta_is_refused(delta: object) -> None:
    with pytest.raises(AccountingError, match="delta"):
        epsilon([REFERENCE], delta)  # type: ignore[arg-type]
    with pytest.raises(AccountingError, match="delta"):
        check_delta(delta, 10)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "q", "steps"), [(8.0, 0.5, 30), (1.0, 0.01, 1000), (10.0, 1.0, 5), (0.5, 0.2, 100)]
)
def test_calibration_spends_the_budget_and_no_more(target: float, q: float, steps: int) -> None:
    sigma = calibrate_noise_multiplier(epsilon=target, delta=1e-5, sampling_rate=q, steps=steps)
    assert epsilon([PoissonGaussian(q, sigma, 1.0, steps)], 1e-5) <= target
    assert epsilon([PoissonGaussian(q, sigma * 0.998, 1.0, steps)], 1e-5) > target


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_calibration_needs_a_real_budget(target: float) -> None:
    with pytest.raises(AccountingError, match="epsilon"):
        calibrate_noise_multiplier(epsilon=target, delta=1e-5, sampling_rate=0.5, steps=1)


def test_calibration_says_when_no_noise_is_enough() -> None:
    with pytest.raises(AccountingError, match="large enough"):
        calibrate_noise_multiplier(epsilon=1e-9, delta=1e-9, sampling_rate=1.0, steps=10_000)


def test_delta_is_bounded_by_the_cohort() -> None:
    assert largest_delta(500) == 1e-5
    assert largest_delta(50_000) == pytest.approx(2e-6)
    check_delta(1e-5, 10_000)
    with pytest.raises(AccountingError, match="50000 declared"):
        check_delta(1e-5, 50_000)
    with pytest.raises(AccountingError, match="declared patients"):
        largest_delta(0)


def test_the_auditors_imports_need_no_torch() -> None:
    code = (
        "import sys, privacy.accounting, privacy.events, privacy.ledger, privacy.dpsgd.sampling;"
        "heavy = {'torch', 'opacus', 'flwr', 'mlflow', 'diffusers', 'peft'} & set(sys.modules);"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
