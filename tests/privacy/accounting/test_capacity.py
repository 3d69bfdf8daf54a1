"""What a fixed capacity adds to delta, against exact binomials and against the mechanism itself."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import (
    RELEASE,
    capacity_for,
    epsilon,
    overflow_probability,
    public_capacity,
)
from privacy.accounting.capacity import MOST_RECORDS, reserved
from privacy.errors import AccountingError
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.accounting.oracles import NORMAL, gaussian_delta


def exact_tail(trials: int, rate: float, least: int) -> Fraction:
    """P[Binomial(trials, rate) >= least] in fractions, for the very float that `rate` is."""
    q = Fraction(rate)
    terms = (
        math.comb(trials, k) * q**k * (1 - q) ** (trials - k)
        for k in range(max(least, 0), trials + 1)
    )
    return sum(terms, start=Fraction(0))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(1e-6, 1.0), st.data())
def test_it_is_never_below_the_exact_binomial(
    patients: int, rate: float, data: st.DataObject
) -> None:
    capacity = data.draw(st.integers(1, patients))
    records = data.draw(st.integers(1, min(3, patients)))
    found = overflow_probability(patients, rate, capacity, 1, records=records)
    others = exact_tail(patients - records, rate, capacity - records + 1)
    assert Fraction(found) >= min(others, 1)
    whole = exact_tail(patients, rate, capacity + 1)  # that a draw as a whole is too large
    assert Fraction(found) >= min(whole, 1)
    assert (found == 0) == (capacity == patients)


@pytest.mark.parametrize(
    ("patients", "rate", "capacity"), [(400, 0.25, 150), (100, 0.5, 80), (300, 0.01, 20)]
)
def test_it_is_tight_where_it_matters(patients: int, rate: float, capacity: int) -> None:
    exact = float(exact_tail(patients - 1, rate, capacity))
    assert exact < overflow_probability(patients, rate, capacity, 1) < 1.1 * exact
    many = overflow_probability(patients, rate, capacity, 500)
    assert many == pytest.approx(500 * overflow_probability(patients, rate, capacity, 1))


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("patients", [2, 37, 1000, 20_000_000])
def test_the_capacity_is_the_least_that_is_enough(patients: int, rate: float) -> None:
    capacity = capacity_for(patients, rate, 120, 1e-8, records=2)
    assert overflow_probability(patients, rate, capacity, 120, records=2) <= 1e-8
    assert capacity <= patients
    assert overflow_probability(patients, rate, capacity - 1, 120, records=2) > 1e-8
    assert capacity >= min(patients, rate * patients)


def test_room_for_everybody_never_overflows() -> None:
    assert capacity_for(500, 1.0, 10**6, 1e-8) == 500
    assert capacity_for(500, 0.1, 10, 0.0) == 500
    assert capacity_for(1, 0.5, 1, 0.0) == 1
    assert overflow_probability(500, 1.0, 500, 10**6) == 0.0
    assert overflow_probability(500, 1.0, 499, 1) == 1.0


def test_a_probability_below_all_floats_is_not_nothing() -> None:
    assert 0 < overflow_probability(10_000, 1e-6, 5_000, 1) < 1e-300


def test_a_studys_capacity_follows_from_public_numbers_and_keeps_its_reserve() -> None:
    delta, steps = 1e-5, 12 * 3
    capacity = public_capacity(500, 0.1, steps, delta)
    assert 100 < capacity < 250  # of 1,000 that may be there
    for held in (10, 499, 500, 1000):
        for records in range(1, MOST_RECORDS + 1):
            cost = overflow_probability(
                held, 0.1, max(1, min(capacity, held)), steps, records=records
            )
            assert cost <= reserved(delta)
    assert public_capacity(500, 1.0, steps, delta) == 1000
    assert overflow_probability(1000, 0.1, capacity - 1, steps, records=MOST_RECORDS) > 1e-8


def test_epsilon_leaves_the_reserve_of_delta() -> None:
    # All of delta but a thousandth: exact for the Gaussian mechanism.
    eps = epsilon([PoissonGaussian(1.0, 2.0, 1.0, 4)], 1e-5, discretization=RELEASE)
    assert gaussian_delta(eps, 1.0) + reserved(1e-5) <= 1e-5
    assert gaussian_delta(eps - RELEASE, 1.0) + reserved(1e-5) > 1e-5


@pytest.mark.parametrize("capacity", [1, 2])
@pytest.mark.parametrize("eps", [0.2, 0.7, 1.5])
def test_the_lemma_holds_for_the_mechanism_itself(capacity: int, eps: float) -> None:
    """Exact delta of one step with a capacity, in the worst placing of three others and x."""
    q, sigma, others = 0.3, 1.0, (-1.0, -1.0, 1.0)
    present = mixture((*others, 1.0), q, capacity)
    absent = mixture(others, q, capacity)
    found = max(divergence(present, absent, sigma, eps), divergence(absent, present, sigma, eps))
    free = mixture((1.0,), q, 1), mixture((), q, 1)
    accounted = max(divergence(*free, sigma, eps), divergence(*free[::-1], sigma, eps))
    overflow = overflow_probability(4, q, capacity, 1)
    assert found <= accounted + float(exact_tail(3, q, capacity)) <= accounted + overflow
    half = max(divergence(*free, sigma / 2, eps), divergence(*free[::-1], sigma / 2, eps))
    assert found <= half  # whatever the true count: a shift by 2 C, with probability q


def test_without_the_overflow_the_claim_would_be_false() -> None:
    q, sigma, eps, others = 0.9, 1.0, 2.0, (-1.0,)
    present, absent = mixture((*others, 1.0), q, 1), mixture(others, q, 1)
    free = mixture((1.0,), q, 1), mixture((), q, 1)
    accounted = max(divergence(*free, sigma, eps), divergence(*free[::-1], sigma, eps))
    found = max(divergence(present, absent, sigma, eps), divergence(absent, present, sigma, eps))
    assert accounted < found <= accounted + overflow_probability(2, q, 1, 1)


def mixture(values: tuple[float, ...], q: float, capacity: int) -> dict[float, float]:
    """Chances of a step's sums: each is drawn with q, and `capacity` of them stay, by order."""
    sums: dict[float, float] = {}
    for drawn in itertools.product((False, True), repeat=len(values)):
        chance = math.prod(q if each else 1 - q for each in drawn)
        there = [value for value, each in zip(values, drawn, strict=True) if each]
        orders = list(itertools.permutations(there))
        for order in orders:
            total = sum(order[:capacity], 0.0)
            sums[total] = sums.get(total, 0.0) + chance / len(orders)
    return sums


def divergence(p: dict[float, float], r: dict[float, float], sigma: float, eps: float) -> float:
    """Hockey-stick divergence of two mixtures of Gaussians, by integration over small cells."""
    edges = [-9 + 18 * i / 6000 for i in range(6001)]

    def cells(of: dict[float, float]) -> list[float]:
        below = [sum(w * NORMAL.cdf((x - m) / sigma) for m, w in of.items()) for x in edges]
        return [b - a for a, b in itertools.pairwise(below)]

    pairs = zip(cells(p), cells(r), strict=True)
    return sum(max(0.0, a - math.exp(eps) * b) for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patients", 0), ("patients", 2.0), ("steps", 0), ("steps", True), ("capacity", 0),
        ("sampling_rate", 0.0), ("sampling_rate", math.nan), ("sampling_rate", 1.1),
        ("records", 0),
    ],
)  # fmt: skip
def test_figures_that_make_no_draw_are_refused(name: str, value: object) -> None:
    figures = {"patients": 10, "sampling_rate": 0.5, "capacity": 5, "steps": 1, "records": 1}
    words = name.replace("_", " ")
    with pytest.raises(AccountingError, match=words):
        overflow_probability(**{**figures, name: value})  # type: ignore[arg-type]
    with pytest.raises(AccountingError, match="probability"):
        capacity_for(10, 0.5, 1, math.nan)
