"""Dense numbers modulo 2^b: their lanes, recomputed with whole integers, and what adding does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import AccountingError
from privacy.mechanisms.pooled.packing import lanes_for, pack_signed, unpack_signed
from privacy.secagg.sealed.residues import (
    no_residues,
    packed_residues,
    reduced,
    residue_sum,
    residues_in,
)
from tests.privacy.secagg.sealed import oracle


@given(
    bits=st.integers(2, 32),
    count=st.integers(0, 150),
    sites=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_masked_numbers_add_up_to_the_sum(bits, count, sites, seed):
    """Single shares may lie far outside of a field, as long as their sum does not."""
    random = np.random.default_rng(seed)
    wanted = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count)
    shares = random.integers(-(2**40), 2**40, (sites - 1, count))
    shares = [*shares, wanted - shares.sum(axis=0)]
    total = no_residues(lanes_for(count, bits), bits)
    mask = random.integers(0, 2 ** (8 * total.itemsize), len(total), total.dtype)
    total += mask
    for share in shares:
        total += residues_in(pack_signed(share, bits), bits)
    total -= mask
    lanes = packed_residues(reduced(total, bits), bits)
    assert (unpack_signed(lanes, count, bits) == wanted).all()


@pytest.mark.parametrize("bits", [2, 7, 9, 10, 16, 17, 21, 31, 32])
@pytest.mark.parametrize("count", [1, 2, 7, 64, 65, 130])
def test_lanes_are_what_the_specification_says(bits, count):
    numbers = np.random.default_rng(count).integers(-(2**20), 2**20, count)
    kept = numbers.copy()
    lanes = pack_signed(numbers, bits)
    assert lanes.tolist() == oracle.packed(numbers.tolist(), bits)
    assert (numbers == kept).all()
    residues = residues_in(lanes, bits)
    assert residues.tolist() == oracle.numbers(lanes.tolist(), bits)
    assert unpack_signed(lanes, count, bits).tolist() == oracle.signed(
        residues.tolist()[:count], bits
    )


@pytest.mark.parametrize("bits", [2, 15, 16, 17, 31, 32])
@pytest.mark.parametrize("vectors", [1, 2, 300])
def test_many_vectors_add_up_as_one_after_the_other(bits, vectors):
    random = np.random.default_rng(bits)
    rows = [random.integers(0, 2**64, 2 * bits, np.uint64) for _ in range(vectors)]
    total = no_residues(2 * bits, bits)
    for row in rows:
        total += residues_in(row, bits)
    assert residue_sum(rows, bits).tolist() == reduced(total, bits).tolist()


def test_known_answer():
    # 65 numbers of 9 bits are two groups: number 2 k + g is bits 9 k to 9 k + 8 of group g.
    numbers = np.zeros(65, np.int64)
    numbers[[0, 1, 2, 3, 14, 64]] = 1, -1, 2, -2, 255, 3
    lanes = pack_signed(numbers, 9).tolist()
    assert len(lanes) == 18
    low = 2**64
    assert lanes[0] == (1 + (2 << 9) + (255 << 63)) % low  # number 14 has its place at bit 63
    assert lanes[1] == 511 + (510 << 9)
    assert lanes[2] == 255 >> 1
    assert lanes[8] == 3 << (32 * 9 - 256)
    assert not any(lanes[place] for place in range(18) if place not in (0, 1, 2, 8))


@pytest.mark.parametrize("bits", [2, 9, 16, 17, 32])
def test_the_ends_of_a_field_are_held_and_the_next_number_wraps_around(bits):
    half = 2 ** (bits - 1)
    ends = np.array([-half, half - 1] * 40, np.int64)
    assert (unpack_signed(pack_signed(ends, bits), 80, bits) == ends).all()
    over = np.zeros(80, np.int64)
    over[3] = half
    found = unpack_signed(pack_signed(over, bits), 80, bits)
    assert found[3] == -half
    assert not np.delete(found, 3).any()  # nothing is carried to another


def test_how_many_lanes_there_are():
    assert [lanes_for(count, 9) for count in (0, 1, 64, 65, 400_000)] == [0, 9, 9, 18, 56_250]
    assert [lanes_for(20_480, bits) * 8 for bits in (9, 10, 11)] == [23_040, 25_600, 28_160]


@pytest.mark.parametrize("bits", [1, 33, 0, -4, 9.0, True, None])
def test_other_widths_are_refused(bits):
    with pytest.raises(AccountingError, match="2 to 32"):
        lanes_for(1, bits)


@pytest.mark.parametrize(
    "lanes", [np.zeros(2, np.uint64), np.zeros((1, 1), np.uint64), np.zeros(1, np.int64)]
)
def test_another_number_of_lanes_is_refused(lanes):
    with pytest.raises(AccountingError, match="do not hold 7 numbers of 9 bits"):
        unpack_signed(lanes, 7, 9)
