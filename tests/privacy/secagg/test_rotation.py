"""The rotation: orthonormal, its own inverse's inverse, no padding, and it spreads."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import SecAggError
from privacy.secagg.rotation import Rotation, _transform

SEED = bytes(range(32))
DIMENSIONS = [1, 2, 3, 5, 8, 15, 16, 17, 100, 255, 256, 1000, 4097, 65_537, 100_003]


def vector(dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)


def sylvester(order: int) -> np.ndarray:
    """Entry (i, j) is (-1)^(bits that i and j have in common) / sqrt(order)."""
    numbers = range(order)
    signs = [[(-1) ** (i & j).bit_count() for j in numbers] for i in numbers]
    return np.array(signs) / math.sqrt(order)


@pytest.mark.parametrize("order", [1, 2, 4, 8, 16, 32, 128, 256, 512])
def test_the_transform_is_the_walsh_hadamard_matrix(order):
    part = vector(order)
    expected = sylvester(order) @ part
    _transform(part)
    np.testing.assert_allclose(part, expected, atol=1e-5)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_forward_and_inverse(dimension):
    rotation = Rotation(dimension, SEED)
    start = vector(dimension)
    turned = rotation.forward(start)
    assert turned.shape == start.shape
    assert turned.dtype == np.float32
    norm = np.linalg.norm(start)
    assert np.linalg.norm(turned) == pytest.approx(norm, rel=1e-5)
    assert np.linalg.norm(rotation.inverse(turned) - start) <= 2e-6 * norm
    assert np.linalg.norm(rotation.forward(rotation.inverse(start)) - start) <= 2e-6 * norm


@settings(max_examples=50)
@given(st.integers(1, 3000), st.binary(min_size=32, max_size=32))
def test_sums_survive_the_rotation(dimension, seed):
    """It is linear: what sites rotate one by one is turned back in their sum."""
    rotation = Rotation(dimension, seed)
    one, two = vector(dimension, 1), vector(dimension, 2)
    back = rotation.inverse(rotation.forward(one) + rotation.forward(two))
    np.testing.assert_allclose(back, one + two, atol=1e-4)


@pytest.mark.parametrize("dimension", [3, 6, 13])
def test_the_whole_map_is_an_orthonormal_matrix(dimension):
    rotation = Rotation(dimension, SEED)
    matrix = np.stack([rotation.forward(row) for row in np.eye(dimension, dtype=np.float32)])
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(dimension), atol=1e-5)


@pytest.mark.parametrize("dimension", [4096, 5000, 8191])
@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_one_large_coordinate_is_spread(dimension, where):
    spike = np.zeros(dimension, np.float32)
    spike[int(where * dimension)] = 1.0
    turned = Rotation(dimension, os.urandom(32)).forward(spike)
    # At most one block's even share, twice rotated where the blocks overlap.
    assert np.abs(turned).max() <= 6 / math.sqrt(4096)
    assert np.count_nonzero(turned) >= 4000


def test_heavy_tails_become_light():
    heavy = np.random.default_rng(0).standard_t(2.1, 100_000).astype(np.float32)
    turned = Rotation(100_000, SEED).forward(heavy)
    assert np.abs(heavy).max() / heavy.std() > 30
    assert np.abs(turned).max() / turned.std() < 6


def test_seeds_and_blocks_have_signs_of_their_own():
    start = np.ones(1000, np.float32)
    one, two = Rotation(1000, SEED).forward(start), Rotation(1000, bytes(32)).forward(start)
    assert np.abs(one - two).max() > 0.1
    np.testing.assert_array_equal(one, Rotation(1000, SEED).forward(start))
    # With the same signs twice, two blocks that nearly coincide would undo each other.
    spike = np.zeros(4100, np.float32)
    spike[2000] = 1
    assert np.abs(Rotation(4100, SEED).forward(spike)).max() < 0.5


def test_the_signs_are_known_answers():
    """d = 1: the transform is the identity, the sign is the top bit of the stream's first word."""
    signs = {
        seed: Rotation(1, bytes([seed]) * 32).forward(np.ones(1, np.float32))[0]
        for seed in range(8)
    }
    assert signs == {0: 1, 1: -1, 2: -1, 3: -1, 4: 1, 5: 1, 6: -1, 7: 1}


def test_the_input_is_left_as_it_was():
    start = vector(300)
    kept = start.copy()
    Rotation(300, SEED).inverse(Rotation(300, SEED).forward(start))
    np.testing.assert_array_equal(start, kept)


@pytest.mark.parametrize("shape", [(9,), (11,), (10, 1), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(SecAggError, match="shape"):
        Rotation(10, SEED).forward(np.zeros(shape, np.float32))


def test_an_empty_vector_is_refused():
    with pytest.raises(SecAggError, match="0 coordinates"):
        Rotation(0, SEED)
