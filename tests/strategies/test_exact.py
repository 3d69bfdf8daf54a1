"""Arithmetic without a rounding that could differ: against Python's integers and rationals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import FederationError
from strategies.exact import (
    LARGEST_FIELD,
    normal_float32,
    power,
    settled,
    shrinkage,
    squared_norm,
    to_float32,
)

FIELDS = st.lists(st.integers(-LARGEST_FIELD + 1, LARGEST_FIELD - 1), max_size=40)


def vector(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(FIELDS)
def test_a_squared_norm_is_exact(values: list[int]) -> None:
    assert squared_norm(vector(values)) == sum(value * value for value in values)


@pytest.mark.parametrize("value", [LARGEST_FIELD - 1, -LARGEST_FIELD + 1])
def test_a_squared_norm_is_exact_where_everything_is_largest(value: int) -> None:
    count = (1 << 20) + 3  # more than one slice
    assert squared_norm(np.full(count, value)) == count * value * value


@given(FIELDS, st.integers(1, 1 << 60))
def test_a_sum_is_shortened_to_its_limit_and_no_other_is_touched(
    values: list[int], limit: int
) -> None:
    factor = shrinkage(vector(values), limit, 16)
    square = sum(value * value for value in values)
    bound = Fraction(limit, 1 << 16)
    if square <= bound**2:
        assert factor == 1.0
    else:
        assert 0 < factor <= 1.0
        shortened = Fraction(factor) ** 2 * square
        assert shortened <= bound**2 * (1 + Fraction(1, 1 << 50))
        assert shortened >= bound**2 * (1 - Fraction(1, 1 << 14))


def test_a_factor_is_the_nearest_float_of_a_quotient_of_integers() -> None:
    square = 3 * 1000 * 1000
    got = shrinkage(np.full(3, 1000), 100 << 16, 16)
    assert got == float(Fraction(100 << 16, math.isqrt(square << 32) + 1))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_nothing_small_is_left(values: list[float]) -> None:
    got = settled(np.array(values), 2.0**-300)
    for value, kept in zip(values, got.tolist(), strict=True):
        assert kept == (0.0 if abs(value) < 2.0**-300 else value)
        assert kept != 0.0 or math.copysign(1.0, kept) == 1.0


def test_a_cast_to_float32_leaves_nothing_subnormal() -> None:
    just = np.nextafter(2.0**-126, 0)
    got = to_float32(np.array([just, 2.0**-126, -just, 1e-60, 0.1, 1e300, -0.0]))
    wanted = np.array([0, 2.0**-126, 0, 0, 0.1, np.inf, 0], dtype=np.float32)
    np.testing.assert_array_equal(got.view(np.uint32), wanted.view(np.uint32))


def test_a_start_leaves_nothing_subnormal_and_is_a_copy() -> None:
    start = np.array([1e-40, -1e-45, -0.0, 2.0**-126, -3.5], dtype=np.float32)
    before = start.tobytes()
    got = normal_float32(start)
    wanted = np.array([0, 0, 0, 2.0**-126, -3.5], dtype=np.float32)
    np.testing.assert_array_equal(got.view(np.uint32), wanted.view(np.uint32))
    assert start.tobytes() == before


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (np.array([1.0, np.nan], np.float32), "not finite"),
        (np.array([np.inf], np.float32), "not finite"),
        (np.zeros(0, np.float32), "shape"),
        (np.zeros((2, 2), np.float32), "shape"),
    ],
)
def test_what_is_no_adapter_is_refused(start: np.ndarray, text: str) -> None:
    with pytest.raises(FederationError, match=text):
        normal_float32(start)


@given(st.floats(0, 0.9999), st.integers(0, 60))
def test_powers_are_products(base: float, exponent: int) -> None:
    wanted = 1.0
    for _ in range(exponent):
        wanted = wanted * base
    assert power(base, exponent) == wanted
    assert power(base, exponent) == pytest.approx(base**exponent, rel=1e-13, abs=1e-300)
