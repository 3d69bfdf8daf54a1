from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import epsilon, rounds_that_fit
from privacy.accounting.fitting import MOST_ROUNDS
from privacy.errors import AccountingError
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.accounting.oracles import DEMO

NOISELESS = PoissonGaussian(0.5, 0.0, 1.0, 1)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from([DEMO, PoissonGaussian(0.5, 4.0, 1.0, 3)]), max_size=4),
    st.floats(0.5, 9.0),
)
def test_that_many_fit_and_one_more_does_not(spent: list[PoissonGaussian], budget: float) -> None:
    rounds = rounds_that_fit(spent, DEMO, 1e-5, budget)
    if rounds:
        assert epsilon([*spent, *[DEMO] * rounds], 1e-5) <= budget
    assert epsilon([*spent, *[DEMO] * (rounds + 1)], 1e-5) > budget


def test_the_answer_goes_down_by_one_with_every_round_charged() -> None:
    left = [rounds_that_fit([DEMO] * charged, DEMO, 1e-5, 5.0) for charged in range(9)]
    assert left[0] == 6
    assert left == [6, 5, 4, 3, 2, 1, 0, 0, 0]


@pytest.mark.parametrize("budget", [0.0, -3.0, 1e-6])
def test_nothing_fits_into_nothing(budget: float) -> None:
    assert rounds_that_fit([], DEMO, 1e-5, budget) == 0


def test_without_noise_nothing_fits() -> None:
    assert rounds_that_fit([NOISELESS], DEMO, 1e-5, 8.0) == 0
    assert rounds_that_fit([], NOISELESS, 1e-5, 8.0) == 0


def test_the_search_ends() -> None:
    cheap = PoissonGaussian(0.001, 50.0, 1.0, 1)
    assert rounds_that_fit([], cheap, 1e-5, 8.0) == MOST_ROUNDS


def test_a_full_count_of_steps_leaves_no_room() -> None:
    full = [PoissonGaussian(0.001, 1000.0, 1.0, 1_000_000)] * 10
    assert rounds_that_fit(full, DEMO, 1e-5, 1e5) == 0


@pytest.mark.parametrize("budget", [math.nan, math.inf, True, "8"])
def test_a_budget_that_is_none_is_refused(budget: object) -> None:
    with pytest.raises(AccountingError, match="budget"):
        rounds_that_fit([], DEMO, 1e-5, budget)  # type: ignore[arg-type]


def test_unknown_events_and_deltas_are_refused() -> None:
    with pytest.raises(AccountingError, match="dict"):
        rounds_that_fit([{}], DEMO, 1e-5, 8.0)  # type: ignore[list-item]
    with pytest.raises(AccountingError, match="str"):
        rounds_that_fit([NOISELESS], "round", 1e-5, 8.0)  # type: ignore[arg-type]
    with pytest.raises(AccountingError, match="delta"):
        rounds_that_fit([], DEMO, 0.0, 8.0)
