"""The rotation in integers: a Hadamard matrix, exactly undone, and it spreads evenly."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.mechanisms.pooled.hadamard import _PALEY_ORDERS, padded_size, paley, turned, unturned

SEED = bytes(range(32))
FIRST = [-23034069102, 31278093834, -1332003996, 7392022176]
DIGEST = "db74fb8062e009953eea24d80d51226a36cf593fc1742855a4d5ca2918192f23"
ORDERS = sorted(_PALEY_ORDERS.values())


def signs(seed: bytes, count: int) -> np.ndarray:
    bits = hashlib.shake_256(b"craftsfl rotation of shares 1 " + seed).digest(count // 8 + 1)
    return np.array([1 - 2 * (bits[i // 8] >> i % 8 & 1) for i in range(count)])


def dense(size: int) -> np.ndarray:
    """The matrix that `turned` stands for, from its factors: Paley's times Sylvester's."""
    order = _PALEY_ORDERS[size // (size & -size)]
    numbers = range(size // order)
    sylvester = np.array([[(-1) ** (i & j).bit_count() for j in numbers] for i in numbers])
    return np.kron(paley(order), sylvester)


@pytest.mark.parametrize("order", ORDERS)
def test_paley_matrices_are_hadamard_matrices(order):
    matrix = paley(order)
    assert set(np.unique(matrix)) <= {-1, 1}
    assert (matrix.T @ matrix == order * np.eye(order, dtype=int)).all()
    assert (matrix @ matrix.T == order * np.eye(order, dtype=int)).all()


@pytest.mark.parametrize("order", ORDERS)
def test_the_odd_part_of_a_size_names_its_matrix(order):
    odd = order // (order & -order)
    assert _PALEY_ORDERS[odd] == order


@pytest.mark.parametrize("parameters", [1, 2, 3, 7, 12, 20, 24, 40, 48, 100, 144, 208, 500])
def test_turned_is_the_dense_matrix(parameters):
    vector = np.random.default_rng(1).integers(-1000, 1000, parameters)
    size = padded_size(parameters)
    padded = np.zeros(size, np.int64)
    padded[:parameters] = vector * signs(SEED, parameters)
    matrix = dense(size)
    assert (turned(vector, SEED) == matrix @ padded).all()
    other = np.random.default_rng(2).integers(-1000, 1000, size)
    back = (matrix.T @ other)[:parameters] * signs(SEED, parameters)
    assert (unturned(other, parameters, SEED) == back).all()


@given(parameters=st.integers(1, 3000), seed=st.binary(min_size=32, max_size=32), big=st.booleans())
@settings(max_examples=40, deadline=None)
def test_turning_back_gives_n_times_the_vector(parameters, seed, big):
    bound = 2**40 if big else 5
    vector = np.random.default_rng(parameters).integers(-bound, bound, parameters)
    kept = vector.copy()
    size = padded_size(parameters)
    there = turned(vector, seed)
    assert there.shape == (size,) and there.dtype == np.int64
    assert (unturned(there, parameters, seed) == size * vector).all()
    assert (vector == kept).all()
    # A rotation times the root of n: squares in Python's integers, which cannot overflow.
    squares = [sum(int(one) ** 2 for one in some) for some in (there, vector)]
    assert squares[0] == size * squares[1]


def test_one_coordinate_is_spread_over_all_with_one_magnitude():
    for parameters in (2000, 20_000):
        vector = np.zeros(parameters, np.int64)
        vector[777] = 5
        assert (abs(turned(vector, SEED)) == 5).all()


def test_few_numbers_are_added_and_never_as_many_again():
    sizes = {p: padded_size(p) for p in (*range(1, 4000), *range(4000, 1_100_000, 997))}
    assert all(p <= n < 2 * p or p == n for p, n in sizes.items())
    large = [n / p for p, n in sizes.items() if p > 500]
    assert max(large) < 1.13 and sum(large) / len(large) < 1.05
    # An adapter of a power of two, or of three times one, is not padded at all.
    assert [sizes[p] for p in (64, 1536, 3072)] == [64, 1536, 3072]


def test_the_size_never_falls():
    sizes = [padded_size(p) for p in range(1, 5000)]
    assert sizes == sorted(sizes)


def test_known_answers():
    vector = np.arange(-700, 800, dtype=np.int64) * 1_000_003
    there = turned(vector, SEED)
    assert there[:4].tolist() == FIRST
    assert hashlib.sha256(there.astype("<i8").tobytes()).hexdigest() == DIGEST
