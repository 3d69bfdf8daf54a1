from __future__ import annotations

import math

import pytest

from privacy.accounting import (
    calibrate_noise_multiplier,
    check_delta,
    epsilon,
    largest_delta,
)
from privacy.errors import AccountingError
from privacy.mechanisms.local import PoissonGaussian


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


def test_calibration_counts_the_attempts() -> None:
    doubled = calibrate_noise_multiplier(
        epsilon=8.0, delta=1e-5, sampling_rate=0.5, steps=30, attempts=2
    )
    longer = calibrate_noise_multiplier(epsilon=8.0, delta=1e-5, sampling_rate=0.5, steps=60)
    assert doubled == longer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampling_rate", math.nan),
        ("sampling_rate", 1.5),
        ("sampling_rate", -0.1),
        ("steps", 0),
        ("steps", 2.0),
        ("attempts", 0),
        ("attempts", True),
        ("epsilon", True),
        ("epsilon", 1e9),
        ("delta", 0.0),
    ],
)
def test_calibration_refuses_what_makes_no_schedule(name: str, value: object) -> None:
    figures = {"epsilon": 8.0, "delta": 1e-5, "sampling_rate": 0.5, "steps": 5, "attempts": 1}
    with pytest.raises(AccountingError, match=name):
        calibrate_noise_multiplier(**{**figures, name: value})  # type: ignore[arg-type]


def test_delta_is_bounded_by_the_cohort() -> None:
    assert largest_delta(500) == 1e-5
    assert largest_delta(50_000) == pytest.approx(2e-6)
    check_delta(1e-5, 10_000)
    with pytest.raises(AccountingError, match="50000 declared"):
        check_delta(1e-5, 50_000)
    with pytest.raises(AccountingError, match="declared patients"):
        largest_delta(0)
