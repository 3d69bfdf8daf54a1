"""Where patients stand, and that this depends on nobody's rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.dpsgd.assignment import Assign, Assignment, all_places, at_most, fixed, packed
from privacy.dpsgd.engine import BLANK
from privacy.dpsgd.noise import SystemNoise
from privacy.dpsgd.substreams import Substreams
from privacy.errors import AccountingError


def fresh() -> Substreams:
    return Substreams.fresh(SystemNoise())


@pytest.mark.parametrize("assign", [packed, fixed])
@given(drawn=st.sets(st.integers(0, 60)), places=st.integers(1, 9))
def test_everybody_drawn_has_one_place_in_batches_of_one_size(
    assign: Assign, drawn: set[int], places: int
) -> None:
    batches = assign(np.array(sorted(drawn), dtype=np.int64), places, fresh()).batches
    assert batches.shape[1] == places
    assert sorted(batches[batches != BLANK].tolist()) == sorted(drawn)
    assert (batches != BLANK).any(axis=1).all()


def test_packed_takes_as_few_batches_as_there_can_be() -> None:
    assert packed(np.arange(20), 8, fresh()).batches.shape == (3, 8)
    assert packed(np.arange(0), 8, fresh()).batches.shape == (0, 8)


def test_packed_places_are_those_of_a_uniform_secret_order() -> None:
    first = np.zeros(6)
    for _ in range(3000):
        first[packed(np.arange(6), 2, fresh()).batches[0, 0]] += 1
    assert np.abs(first / 3000 - 1 / 6).max() < 7 * np.sqrt(5 / 36 / 3000)


def test_packed_keeps_the_order_of_those_who_stay() -> None:
    streams = fresh()
    order = packed(np.arange(12), 12, streams).batches[0]
    for gone in range(12):
        rest = packed(np.delete(np.arange(12), gone), 12, streams).batches[0]
        assert rest[:11].tolist() == [n for n in order.tolist() if n != gone]


def test_fixed_places_move_for_nobody() -> None:
    everyone = fixed(np.arange(10), 4, fresh()).batches
    assert everyone.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, BLANK, BLANK]]
    fewer = fixed(np.array([1, 9]), 4, fresh()).batches
    assert fewer.tolist() == [[BLANK, 1, BLANK, BLANK], [BLANK, 9, BLANK, BLANK]]


def test_reserved_places_are_all_there_whoever_is() -> None:
    everyone = all_places(np.arange(6), 4, 6).batches
    assert everyone.tolist() == [[0, 1, 2, 3], [4, 5, BLANK, BLANK]]
    assert all_places(np.array([5]), 4, 6).batches.tolist() == [
        [BLANK] * 4,
        [BLANK, 5, BLANK, BLANK],
    ]
    assert all_places(np.arange(0), 4, 6).batches.tolist() == [[BLANK] * 4] * 2


def test_whoever_comes_after_the_last_reserved_place_has_none() -> None:
    found = all_places(np.array([1, 5, 6, 7, 40]), 4, 6).batches
    assert found.tolist() == [[BLANK, 1, BLANK, BLANK], [BLANK, 5, BLANK, BLANK]]


def test_a_patient_has_one_place() -> None:
    with pytest.raises(AccountingError, match="one place"):
        Assignment(np.array([[1, 2], [BLANK, 1]]))


def test_a_larger_draw_loses_patients_by_a_rule_that_is_the_same_for_all() -> None:
    assert at_most(np.arange(5), 5, fresh()).tolist() == list(range(5))
    kept = np.zeros(8)
    for _ in range(3000):
        chosen = at_most(np.arange(8), 3, fresh())
        assert len(set(chosen.tolist())) == 3
        kept[chosen] += 1
    assert np.abs(kept / 3000 - 3 / 8).max() < 7 * np.sqrt(15 / 64 / 3000)
