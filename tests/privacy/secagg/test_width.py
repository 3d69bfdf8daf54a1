"""Widths: a table of known choices, refusals, and the error that is promised is kept."""

from __future__ import annotations

import math
import os
import statistics

import numpy as np
import pytest

from privacy.errors import ConfigError
from privacy.secagg import width
from privacy.secagg.encoding import Encoding


@pytest.mark.parametrize(
    ("dimension", "sites", "wanted", "bits"),
    [
        (4_000_000, 32, 1e-2, 16),
        (4_000_000, 32, 3.1e-3, 16),
        (4_000_000, 32, 3.0e-3, 21),
        (4_000_000, 100, 3.1e-4, 21),
        (1_000_000, 8, 1e-3, 16),
        (1_000_000, 8, 0.5, 8),
        (1_000_000, 100, 1e-5, 32),
    ],
)
def test_the_fewest_bits_that_reach_the_error(dimension, sites, wanted, bits):
    assert width.choose_width(dimension, sites, wanted) == bits
    width.check_width(bits, dimension, sites, wanted)


def test_widths_are_the_widest_of_their_lane():
    assert list(width.WIDTHS) == sorted({64 // fields for fields in range(2, 9)})


@pytest.mark.parametrize(
    ("bits", "sites", "expected"), [(16, 32, 2047), (21, 100, 20971), (8, 300, 0)]
)
def test_levels(bits, sites, expected):
    assert width.levels(bits, sites) == expected


def test_the_formula():
    z = math.sqrt(2 * math.log(2 * 32 * 4_000_000))
    assert width.relative_error(16, 4_000_000, 32) == pytest.approx(z / 2047 + 1e-6)
    assert width.coordinate_bound(2.0, 4_000_000, 32) == pytest.approx(z * 2.0 / 2000)
    assert width.relative_error(8, 1000, 256) == math.inf


def test_too_narrow_a_width_is_refused_and_names_one_that_fits():
    with pytest.raises(ConfigError, match="Set 21 bits"):
        width.check_width(16, 4_000_000, 32, 1e-3)


@pytest.mark.parametrize("bits", [0, 7, 33, 64])
def test_widths_out_of_range_are_refused(bits):
    with pytest.raises(ConfigError, match="outside"):
        width.check_width(bits, 1000, 3, 1.0)


def test_an_error_that_no_width_reaches_is_refused_and_the_least_is_named():
    with pytest.raises(ConfigError, match=r"Tolerate more than 1\.1e-06"):
        width.choose_width(4_000_000, 100, 1e-9)
    with pytest.raises(ConfigError, match="Tolerate"):
        width.check_width(32, 4_000_000, 100, 0.0)


@pytest.mark.parametrize(("dimension", "sites"), [(0, 3), (10, 1), (10, 0)])
def test_nothing_to_aggregate(dimension, sites):
    with pytest.raises(ConfigError, match="nothing to aggregate"):
        width.choose_width(dimension, sites, 0.1)


@pytest.mark.parametrize("norm", [0.0, -1.0, math.inf, math.nan])
def test_norms_that_are_none(norm):
    with pytest.raises(ConfigError, match="norm"):
        width.coordinate_bound(norm, 1000, 3)


def measured_error(
    dimension: int, sites: int, bits: int, vectors, rotation: bytes | None = None
) -> float:
    bound = width.coordinate_bound(1.0, dimension, sites)
    encoding = Encoding(dimension, sites, bits, bound, rotation or os.urandom(32))
    lanes, exact = np.zeros(encoding.lanes, np.uint64), np.zeros(dimension)
    for vector in vectors:
        lanes += encoding.encode(vector)
        exact += vector
    error = np.linalg.norm(encoding.decode_sum(lanes, sites) - exact)
    return float(error / np.linalg.norm(exact))


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values)).astype(np.float32)


@pytest.mark.parametrize(("sites", "bits"), [(3, 12), (32, 16), (100, 21)])
def test_heavy_tailed_vectors_keep_the_promised_error(sites, bits):
    rng = np.random.default_rng(sites)
    dimension = 50_000
    error = measured_error(
        dimension, sites, bits, (unit(rng.standard_t(2.1, dimension)) for _ in range(sites))
    )
    promised = width.relative_error(bits, dimension, sites)
    assert 0.6 * promised < error <= promised


def test_without_the_rotation_the_same_grid_would_be_far_coarser():
    """The figure that the rotation is for: B has to reach the largest coordinate."""
    rng = np.random.default_rng(0)
    largest = max(np.abs(unit(rng.standard_t(2.1, 50_000))).max() for _ in range(32))
    assert largest > 8 * width.coordinate_bound(1.0, 50_000, 32)


def test_at_32_bits_float32_is_what_is_left():
    rng = np.random.default_rng(2)
    vectors = [unit(rng.standard_normal(100_003)) for _ in range(3)]
    # One rotation in sixteen takes a coordinate beyond B, and clipping it costs 400 times as much
    # as all rounding at this width; so these are known ones, and most of them decide.
    rotations = [bytes([number]) * 32 for number in range(1, 6)]
    errors = [measured_error(100_003, 3, 32, vectors, rotation) for rotation in rotations]
    assert statistics.median(errors) < width.relative_error(32, 100_003, 3) < 1.1e-6


@pytest.mark.parametrize("dimension", [2**15 - 1, 2**15 + 1, 3 * 2**14, 50_000])
@pytest.mark.parametrize("start", [0.0, 0.5, 0.9])
def test_all_of_a_vector_in_one_place_costs_a_little_accuracy_only(dimension, start):
    rng = np.random.default_rng(1)
    place = slice(int(start * dimension), int((start + 0.1) * dimension))

    def concentrated():
        values = np.zeros(dimension)
        values[place] = rng.standard_normal(len(values[place]))
        return unit(values)

    error = measured_error(dimension, 8, 21, (concentrated() for _ in range(8)))
    assert error < 5e-3
