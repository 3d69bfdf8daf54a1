"""Lanes of signed numbers: their sum is the lanes of the sum, whatever masks are added between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import AccountingError
from privacy.mechanisms.pooled.packing import (
    fields_in_lane,
    lanes_for,
    pack_signed,
    unpack_signed,
)


@given(
    bits=st.integers(2, 32),
    count=st.integers(0, 60),
    sites=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_masked_lanes_add_up_to_the_sum(bits, count, sites, seed):
    """Single shares may lie far outside of a field, as long as their sum does not."""
    random = np.random.default_rng(seed)
    wanted = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count)
    shares = random.integers(-(2**40), 2**40, (sites - 1, count))
    shares = [*shares, wanted - shares.sum(axis=0)]
    mask = random.integers(0, 2**64, lanes_for(count, bits), np.uint64)
    total = sum((pack_signed(share, bits) for share in shares), mask)
    assert total.dtype == np.uint64
    assert (unpack_signed(total - mask, count, bits) == wanted).all()


def by_definition(numbers: list[int], bits: int) -> list[int]:
    fields = 64 // bits
    lanes = -(-len(numbers) // fields)
    rows = [numbers[k * lanes : (k + 1) * lanes] for k in range(fields)]
    return [
        sum(row[lane] << (k * bits) for k, row in enumerate(rows) if lane < len(row)) % 2**64
        for lane in range(lanes)
    ]


@pytest.mark.parametrize("bits", [2, 9, 10, 21, 31, 32])
@pytest.mark.parametrize("count", [1, 2, 7, 64, 65])
def test_lanes_are_what_the_specification_says(bits, count):
    numbers = np.random.default_rng(count).integers(-(2**20), 2**20, count)
    kept = numbers.copy()
    assert pack_signed(numbers, bits).tolist() == by_definition(numbers.tolist(), bits)
    assert (numbers == kept).all()


def test_known_answer():
    # 9 bits: seven fields a lane, so two lanes for nine numbers; the last five fields are empty.
    numbers = np.array([1, -1, 2, -2, 255, -256, 0, 0, 3], np.int64)
    first = 1 + (2 << 9) + (255 << 18) + (0 << 27) + (3 << 36)
    second = -1 - (2 << 9) - (256 << 18)
    assert pack_signed(numbers, 9).tolist() == [first, second % 2**64]


@pytest.mark.parametrize("bits", [2, 9, 32])
def test_the_ends_of_a_field_are_held_and_the_next_number_wraps_around(bits):
    half = 2 ** (bits - 1)
    ends = np.array([-half, half - 1] * 40, np.int64)
    assert (unpack_signed(pack_signed(ends, bits), 80, bits) == ends).all()
    over = np.zeros(80, np.int64)
    over[3] = half
    found = unpack_signed(pack_signed(over, bits), 80, bits)
    assert found[3] == -half
    # The neighbour in the lane gets the carry, and nothing else changes.
    assert abs(np.delete(found, 3)).sum() <= 1


def test_how_many_lanes_there_are():
    assert [lanes_for(count, 9) for count in (0, 1, 7, 8, 400_000)] == [0, 1, 1, 2, 57_143]
    assert [fields_in_lane(bits) for bits in (2, 8, 9, 10, 11, 21, 32)] == [32, 8, 7, 6, 5, 3, 2]


@pytest.mark.parametrize("bits", [1, 33, 0, -4, 9.0, True, None])
def test_other_widths_are_refused(bits):
    with pytest.raises(AccountingError, match="2 to 32"):
        fields_in_lane(bits)


@pytest.mark.parametrize(
    "lanes", [np.zeros(2, np.uint64), np.zeros((1, 1), np.uint64), np.zeros(1, np.int64)]
)
def test_another_number_of_lanes_is_refused(lanes):
    with pytest.raises(AccountingError, match="do not hold 7 numbers of 9 bits"):
        unpack_signed(lanes, 7, 9)
