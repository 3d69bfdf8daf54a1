from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import RELEASE, check_delta, epsilon
from privacy.accounting.composition import merge_events
from privacy.errors import AccountingError
from privacy.events import GaussianSteps
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.accounting.oracles import (
    REFERENCE,
    gaussian_delta,
    one_sampled_step_delta,
    tilted_delta,
)


def test_reference_figure() -> None:
    assert epsilon([REFERENCE], 1e-5) == pytest.approx(1.828, abs=2e-3)
    assert epsilon([REFERENCE], 1e-5, discretization=RELEASE) == pytest.approx(1.828, abs=1e-3)


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (5.0, 30), (0.7, 2), (40.0, 100)])
def test_without_sampling_it_is_the_exact_gaussian(sigma: float, steps: int) -> None:
    eps = epsilon([PoissonGaussian(1.0, sigma, 1.0, steps)], 1e-5)
    mu = math.sqrt(steps) / sigma
    assert gaussian_delta(eps, mu) <= 1e-5  # never understated
    assert gaussian_delta(eps - 2e-3, mu) >= 1e-5  # and tight


@pytest.mark.parametrize("delta", [1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize(("sigma", "steps"), [(3.0, 1000), (100.0, 10_000), (50.0, 10_000)])
def test_rounding_never_lowers_the_figure_at_a_tiny_delta(
    sigma: float, steps: int, delta: float
) -> None:
    eps = epsilon([PoissonGaussian(1.0, sigma, 1.0, steps)], delta)
    assert eps == math.inf or gaussian_delta(eps, math.sqrt(steps) / sigma) <= delta


def test_a_delta_below_all_rounding_has_no_finite_figure() -> None:
    assert epsilon([PoissonGaussian(1.0, 1e4, 1.0, 1_000_000)], 1e-10) == math.inf


@pytest.mark.parametrize(("q", "sigma"), [(0.25, 1.6), (0.01, 0.8), (0.5, 5.0), (0.9, 0.6)])
@pytest.mark.parametrize("width", [1e-3, RELEASE])
def test_one_sampled_step_is_never_understated_and_tight(
    q: float, sigma: float, width: float
) -> None:
    eps = epsilon([PoissonGaussian(q, sigma, 1.0, 1)], 1e-5, discretization=width)
    assert one_sampled_step_delta(eps, q, sigma) <= 1e-5 * (1 + 1e-9)
    assert one_sampled_step_delta(eps - 2 * width, q, sigma) > 1e-5 * (1 - 1e-3)


@pytest.mark.parametrize("delta", [1e-5, 1e-9, 1e-12])
@pytest.mark.parametrize(
    ("q", "sigma", "steps"), [(0.01, 1.0, 1000), (0.25, 2.0, 60), (0.5, 3.0, 500)]
)
def test_sampled_steps_are_never_below_the_truth(
    q: float, sigma: float, steps: int, delta: float
) -> None:
    eps = epsilon([PoissonGaussian(q, sigma, 1.0, steps)], delta)
    assert tilted_delta(eps, q, sigma, steps) <= delta
    assert tilted_delta(0.96 * eps, q, sigma, steps) > delta


@pytest.mark.parametrize(
    ("q", "sigma", "steps"), [(1e-4, 1.0, 100_000), (1e-4, 1.5, 40_000), (1e-3, 0.8, 10_000)]
)
def test_rare_draws_are_tight_while_a_study_runs(q: float, sigma: float, steps: int) -> None:
    eps = epsilon([PoissonGaussian(q, sigma, 1.0, steps)], 1e-5)
    assert tilted_delta(eps, q, sigma, steps) <= 1e-5
    assert tilted_delta(eps / 1.02, q, sigma, steps) > 1e-5


@pytest.mark.parametrize(("sigma", "steps"), [(0.5, 1), (1.0, 1), (5.0, 30), (0.7, 2)])
def test_the_tolerance_of_an_engine_is_charged(sigma: float, steps: int) -> None:
    # An engine keeps a patient's contribution to C (1 + 1e-6), not to C.
    eps = epsilon([PoissonGaussian(1.0, sigma, 1.0, steps)], 1e-5, discretization=RELEASE)
    assert gaussian_delta(eps, math.sqrt(steps) * (1 + 1e-6) / sigma) <= (1 - 1e-3) * 1e-5
    merged = merge_events([PoissonGaussian(1.0, sigma, 1.0, steps)])
    charged = pytest.approx(sigma / (1 + 1e-6), rel=1e-15)
    assert merged == (GaussianSteps(1.0, charged, steps),)


def test_moments_accountant_of_2016_is_an_upper_bound() -> None:
    # Abadi et al. 2016, section 5.1: q = 0.01, sigma = 4, delta = 1e-5, 10,000 steps: 1.26
    exact = epsilon([PoissonGaussian(0.01, 4.0, 1.0, 10_000)], 1e-5)
    assert 0.9 < exact < 1.26


def test_attempts_with_fresh_draws_cost_less_than_with_a_reused_one() -> None:
    fresh = epsilon([REFERENCE, REFERENCE], 1e-5)
    # The same patients seen twice with independent noise: one step with sigma / sqrt(2).
    reused = epsilon([PoissonGaussian(0.01, math.sqrt(0.5), 1.0, 1000)], 1e-5)
    assert fresh == pytest.approx(2.59, abs=0.01)
    assert reused == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("q", [1e-4, 1e-3])
def test_a_finer_grid_lowers_the_figure_and_never_below_the_finest(q: float) -> None:
    schedule = [PoissonGaussian(q, 1.0, 1.0, 10_000)]
    figures = [epsilon(schedule, 1e-5, discretization=width) for width in (1e-2, 1e-3, 1e-4)]
    assert figures == sorted(figures, reverse=True)


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
    class Shuffled(PoissonGaussian):
        """Looks like a known event and is none."""

    with pytest.raises(AccountingError, match="Shuffled"):
        epsilon([Shuffled(0.01, 1.0, 1.0, 1)], 1e-5)
    with pytest.raises(AccountingError, match="dict"):
        epsilon([{}], 1e-5)  # type: ignore[list-item]


@pytest.mark.parametrize("width", [0.0, -1e-3, math.nan, 1.0, True, "1e-3"])
def test_bad_discretization_is_refused(width: object) -> None:
    with pytest.raises(AccountingError, match="discretization"):
        epsilon([REFERENCE], 1e-5, discretization=width)  # type: ignore[arg-type]


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(AccountingError, match="10000000 steps"):
        epsilon([PoissonGaussian(0.5, 1.0, 1.0, 1_000_000)] * 11, 1e-5)


def test_absurdly_little_noise_ends_in_words() -> None:
    with pytest.raises(AccountingError, match="noise multiplier"):
        epsilon([PoissonGaussian(1.0, 0.01, 1.0, 1_000_000)] * 10, 1e-5)


@pytest.mark.parametrize("delta", [0.0, -1e-5, 1.0, math.nan, math.inf, 0, True, "1e-5", 1e-13])
def test_bad_delta_is_refused(delta: object) -> None:
    with pytest.raises(AccountingError, match="delta"):
        epsilon([REFERENCE], delta)  # type: ignore[arg-type]
    with pytest.raises(AccountingError, match="delta"):
        check_delta(delta, 10)  # type: ignore[arg-type]


def test_the_auditors_imports_need_no_torch() -> None:
    code = (
        "import sys, privacy.accounting, privacy.events, privacy.ledger, privacy.dpsgd.sampling;"
        "from privacy.accounting import *;"
        "from privacy.mechanisms.local import PoissonGaussian as P;"
        "e = [P(.5, 5., 1., 10)]; tradeoff(e, [.01]); worst_of(e, 1e-5);"
        "RenyiFilter(8, 8., 1e-5).admits(e); rounds_that_fit(e, e[0], 1e-5, 3.);"
        "heavy = {'torch', 'opacus', 'flwr', 'mlflow', 'diffusers', 'peft'} & set(sys.modules);"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
