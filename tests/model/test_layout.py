"""Layouts: fingerprints, flat vectors, the first adapter of a study."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.layout import Layout, LayoutEntry, initial_vector
from privacy.errors import ModelError

A = LayoutEntry("block.to_q.lora_A.weight", (2, 512), "float32")
B = LayoutEntry("block.to_q.lora_B.weight", (64, 2), "float32")
LAYOUT = Layout((A, B))


@pytest.mark.parametrize(
    "other",
    [
        Layout((B, A)),
        Layout((A,)),
        Layout((LayoutEntry(A.name, (512, 2), "float32"), B)),
        Layout((LayoutEntry(A.name, (1024,), "float32"), B)),
        Layout((LayoutEntry(A.name, A.shape, "float16"), B)),
        Layout((LayoutEntry("block.to_k.lora_A.weight", A.shape, "float32"), B)),
    ],
)
def test_the_fingerprint_tells_every_difference(other: Layout) -> None:
    assert len(LAYOUT.fingerprint()) == 32
    assert other.fingerprint() != LAYOUT.fingerprint()


def test_equal_layouts_have_equal_fingerprints() -> None:
    assert Layout((A, B)).fingerprint() == LAYOUT.fingerprint()


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5))
def test_split_covers_the_vector_once_and_in_order(shapes: list[list[int]]) -> None:
    layout = Layout(tuple(LayoutEntry(str(i), tuple(s), "float32") for i, s in enumerate(shapes)))
    vector = np.arange(layout.parameters, dtype=np.float32)
    parts = list(layout.split(vector))
    assert [part.shape for _, part in parts] == [tuple(shape) for shape in shapes]
    np.testing.assert_array_equal(np.concatenate([p.reshape(-1) for _, p in parts]), vector)


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(LAYOUT.parameters + 1, np.float32),
        np.zeros((LAYOUT.parameters, 1), np.float32),
        np.zeros(LAYOUT.parameters, np.float64),
        np.full(LAYOUT.parameters, np.nan, np.float32),
        np.full(LAYOUT.parameters, np.inf, np.float32),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(ModelError):
        LAYOUT.check(vector)


def test_the_first_adapter_is_a_function_of_the_study() -> None:
    first = initial_vector(LAYOUT, b"one")
    np.testing.assert_array_equal(first, initial_vector(LAYOUT, b"one"))
    assert (first != initial_vector(LAYOUT, b"two")).any()


def test_the_first_adapter_is_gaussian_in_a_and_zero_in_b() -> None:
    (_, a), (_, b) = LAYOUT.split(initial_vector(LAYOUT, b"study"))
    assert not b.any()
    assert a.std() * np.sqrt(512) == pytest.approx(1, abs=0.1)
