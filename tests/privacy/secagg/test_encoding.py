"""Encoding: exact in the integers, unbiased in the rounding, and refuses what it cannot hold."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import SecAggError
from privacy.secagg.encoding import Encoding
from privacy.secagg.stream import CHUNK_LANES, apply_masks

OD = bytes(range(32))


def encoding(dimension=10, sites=3, bits=16, bound=1.0) -> Encoding:
    return Encoding(dimension, sites, bits, bound, OD)


@pytest.mark.parametrize(
    ("bits", "fields", "dimension", "lanes"),
    [
        (16, 4, 1_590_000, 397_500),
        (16, 4, 9, 3),
        (21, 3, 1_590_000, 530_000),
        (21, 3, 1_590_001, 530_001),
        (32, 2, 1, 1),
        (12, 5, 11, 3),
        (8, 8, 8, 1),
    ],
)
def test_sizes(bits, fields, dimension, lanes):
    made = encoding(dimension=dimension, bits=bits)
    assert (made.fields, made.lanes) == (fields, lanes)


def test_bytes_of_a_parameter_where_the_dimension_is_no_power_of_two():
    for dimension in (400_003, 1_000_000, 1_590_000, 49_999_999):
        assert 8 * encoding(dimension=dimension).lanes / dimension <= 2.05
        assert 8 * encoding(dimension=dimension, bits=21).lanes / dimension <= 2.75


def test_known_answer_of_packing():
    made = encoding(dimension=7, sites=3, bits=16)  # 4 fields, 2 lanes, one field of padding
    lanes = made.pack(np.array([1, 2, 3, 4, 5, 6, 7, 0], np.uint32))
    # lane 0 holds coordinates 0, 2, 4, 6 from its lowest 16 bits up; lane 1 holds 1, 3, 5
    assert [f"{lane:016x}" for lane in lanes] == ["0007000500030001", "0000000600040002"]
    assert made.unpack(lanes).tolist() == [1, 2, 3, 4, 5, 6, 7, 0]


def test_known_answer_of_quantising():
    made = encoding(dimension=5, sites=3, bits=8, bound=2.0)  # L = 85
    turned = np.array([-2, 2, 0, -5, 5], np.float32)
    lowest = made.quantise(turned, lambda count: bytes(count))
    # 0 lies at 42.5: the word decides; -5 and 5 are clipped; 3 fields of padding stay 0
    assert lowest.tolist()[:2] == [0, 85]
    assert lowest[2] in (42, 43)
    assert lowest.tolist()[3:] == [0, 85, 0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_sums_of_survivors_are_exact_in_the_integers(data):
    """Any n, d and b, any drop-outs, coordinates at 0 and L among them."""
    sites = data.draw(st.integers(2, 40), "sites")
    bits = data.draw(st.integers(max(8, sites.bit_length() + 1), 32), "bits")
    dimension = data.draw(st.integers(1, 200), "dimension")
    survivors = data.draw(st.integers(1, sites), "survivors")
    made = encoding(dimension=dimension, sites=sites, bits=bits)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    total = np.zeros(made.lanes, np.uint64)
    exact = np.zeros(made.lanes * made.fields, np.uint64)
    for _ in range(survivors):
        levels = rng.integers(0, made.levels, made.lanes * made.fields, np.uint32, endpoint=True)
        levels[rng.random(len(levels)) < 0.3] = made.levels
        levels[rng.random(len(levels)) < 0.3] = 0
        levels[dimension:] = 0
        total += made.pack(levels)
        exact += levels
    np.testing.assert_array_equal(made.unpack(total), exact)
    step = 2 * made.bound / made.levels
    expected = exact[:dimension] * step - survivors * made.bound
    decoded = made.rotate(made.decode_sum(total, survivors))
    np.testing.assert_allclose(decoded, expected, atol=1e-5 * survivors)


@pytest.mark.parametrize("bits", [8, 16, 21, 32])
@pytest.mark.parametrize("sites", [2, 3, 100])
def test_everything_at_the_largest_level_does_not_run_over(bits, sites):
    made = encoding(dimension=101, sites=sites, bits=bits, bound=0.5)
    top = np.full(101, 1e6, np.float32)
    one = made.pack(made.quantise(top))
    total = np.zeros(made.lanes, np.uint64)
    for _ in range(sites):
        total += one
    assert (made.unpack(total)[:101] == sites * made.levels).all()
    decoded = made.rotate(made.decode_sum(total, sites))
    np.testing.assert_allclose(decoded, np.full(101, sites * 0.5), rtol=1e-5)


@pytest.mark.parametrize("dimension", [1, 3, 4, 5, 1000, 4 * CHUNK_LANES + 1, CHUNK_LANES - 1])
def test_encode_mask_sum_unmask_decode(dimension):
    """All of the kernel: three sites whose masks cancel, a vector length at every edge."""
    made = Encoding(dimension, 3, 16, 8 / math.sqrt(dimension), OD)
    rng = np.random.default_rng(dimension)
    vectors = [rng.standard_normal(dimension).astype(np.float32) for _ in range(3)]
    vectors = [vector / np.linalg.norm(vector) for vector in vectors]
    pairs = {pair: bytes([7 + sum(pair)]) * 32 for pair in itertools.combinations(range(3), 2)}
    total = np.zeros(made.lanes, np.uint64)
    for i, vector in enumerate(vectors):
        lanes = made.encode(vector)
        seeds = [(pairs[min(i, j), max(i, j)], 1 if j > i else -1) for j in range(3) if j != i]
        apply_masks(lanes, [*seeds, (bytes([i]) * 32, 1)])
        total += lanes
    apply_masks(total, [(bytes([i]) * 32, -1) for i in range(3)])
    decoded = made.decode_sum(total, 3)
    # Random rounding moves a coordinate by up to a step of 2B/L at each site; over many, by less.
    steps = 3 if dimension < 1000 else 1.5
    assert np.linalg.norm(decoded - sum(vectors)) <= steps * 2 * 8 / made.levels


def test_rounding_is_unbiased_and_between_the_neighbours():
    made = encoding(dimension=200_000, sites=3, bits=8)  # L = 85
    value = np.float32(0.123)
    levels = made.quantise(np.full(200_000, value))[:200_000]
    exact = (float(value) + 1) * 85 / 2
    assert set(levels.tolist()) == {math.floor(exact), math.ceil(exact)}
    fraction = exact - math.floor(exact)
    sigma = math.sqrt(fraction * (1 - fraction) / 200_000)
    assert abs(levels.mean() - exact) < 5 * sigma


def test_rounding_is_fresh_for_every_vector_and_takes_one_key():
    made = encoding(dimension=1000)
    turned = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    assert (made.quantise(turned) != made.quantise(turned)).any()
    asked = []

    def key(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    np.testing.assert_array_equal(made.quantise(turned, key), made.quantise(turned, key))
    assert asked == [32, 32]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 57, 99])
def test_numbers_that_are_not_finite_are_refused(bad, where):
    vector = np.zeros(100, np.float32)
    vector[where] = bad
    with pytest.raises(SecAggError, match="not finite"):
        encoding(dimension=100).encode(vector)


def test_an_overflow_in_the_rotation_is_refused():
    with pytest.raises(SecAggError, match="not finite"):
        encoding(dimension=64).encode(np.full(64, 3e38, np.float32))


@pytest.mark.parametrize(
    "fields",
    [
        {"dimension": 0},
        {"sites": 1},
        {"sites": 0},
        {"bits": 0},
        {"bits": 33},
        {"bits": 8, "sites": 256},
        {"bound": 0.0},
        {"bound": -1.0},
        {"bound": math.nan},
        {"bound": math.inf},
    ],
)
def test_encodings_that_cannot_be(fields):
    with pytest.raises(SecAggError):
        encoding(**fields)


def test_one_level_is_the_least():
    assert encoding(bits=8, sites=255).levels == 1


@pytest.mark.parametrize("survivors", [0, 4, -1])
def test_impossible_numbers_of_survivors_are_refused(survivors):
    made = encoding()
    with pytest.raises(SecAggError, match="survived"):
        made.decode_sum(np.zeros(made.lanes, np.uint64), survivors)


def test_lanes_that_are_no_sum_are_refused():
    made = encoding(dimension=7, sites=3, bits=16)
    for lanes in (
        [2 * made.levels + 1, 0],  # a field above what two sites can reach
        [0, 1 << 48],  # the field after the last coordinate
    ):
        with pytest.raises(SecAggError, match="not a sum"):
            made.decode_sum(np.array(lanes, np.uint64), 2)
    spare = encoding(dimension=3, bits=21)  # bit 63 belongs to no field
    with pytest.raises(SecAggError, match="not a sum"):
        spare.decode_sum(np.array([1 << 63], np.uint64), 2)


def test_a_mask_that_was_left_in_is_noticed():
    made = encoding(dimension=1000, sites=3, bits=16)
    lanes = made.encode(np.zeros(1000, np.float32))
    apply_masks(lanes, [(OD, 1)])
    with pytest.raises(SecAggError, match="not a sum"):
        made.decode_sum(lanes, 1)


@pytest.mark.parametrize(
    "lanes", [np.zeros(2, np.uint64), np.zeros(3, np.int64), np.zeros((3, 1), np.uint64)]
)
def test_other_lanes_are_refused(lanes):
    with pytest.raises(SecAggError, match="lanes"):
        encoding(dimension=10).decode_sum(lanes, 1)


def test_the_error_shows_no_value():
    vector = np.full(10, 0.123, np.float32)
    vector[3] = math.nan
    with pytest.raises(SecAggError) as caught:
        encoding().encode(vector)
    assert not any(character.isdigit() for character in str(caught.value))
