from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.dpsgd.noise import SystemNoise
from privacy.dpsgd.sampling import choose_tiles, pack_patients, poisson_draw
from privacy.errors import AccountingError
from tests.privacy.dpsgd.test_noise import forbid_ordinary_generators

NOISE = SystemNoise()


def test_every_patient_enters_independently_at_the_rate() -> None:
    patients, steps, rate = 50, 4000, 0.3
    drawn = np.zeros((steps, patients))
    for step in range(steps):
        drawn[step, poisson_draw(patients, rate, NOISE)] = 1
    error = math.sqrt(rate * (1 - rate) / steps)
    assert np.abs(drawn.mean(axis=0) - rate).max() < 7 * error
    # The size of a draw varies as a binomial does: fixed-size or shuffled batches would not.
    variance = drawn.sum(axis=1).var() / (patients * rate * (1 - rate))
    assert abs(variance - 1) < 7 * math.sqrt(2 / steps)
    together = np.corrcoef(drawn.T)[~np.eye(patients, dtype=bool)]
    assert np.abs(together).max() < 7 / math.sqrt(steps)
    over_time = np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]
    assert abs(over_time) < 7 / math.sqrt(steps * patients)


def test_edges_of_a_draw() -> None:
    assert poisson_draw(10, 1.0, NOISE).tolist() == list(range(10))
    assert poisson_draw(10, 1e-12, NOISE).tolist() == []
    assert poisson_draw(0, 0.5, NOISE).tolist() == []


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_bad_rates_are_refused(rate: float) -> None:
    with pytest.raises(AccountingError, match="rate"):
        poisson_draw(10, rate, NOISE)


@given(st.integers(0, 40), st.integers(1, 10))
def test_tiles_are_distinct_and_bounded(tiles: int, at_most: int) -> None:
    chosen = choose_tiles(tiles, at_most, NOISE).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(tiles, at_most)
    assert all(0 <= tile < tiles for tile in chosen)


def test_every_tile_is_as_likely() -> None:
    counts = np.zeros(5)
    for _ in range(3000):
        counts[choose_tiles(5, 2, NOISE)] += 1
    assert np.abs(counts / 3000 - 0.4).max() < 7 * math.sqrt(0.24 / 3000)


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 12))
def test_physical_batches_hold_whole_patients(rows: list[int], limit: int) -> None:
    batches = pack_patients(rows, limit)
    assert [position for batch in batches for position in batch] == list(range(len(rows)))
    for batch in batches:
        assert len(batch) == 1 or sum(rows[position] for position in batch) <= limit


def test_bad_packing_is_refused() -> None:
    with pytest.raises(AccountingError):
        pack_patients([1, 0], 4)
    with pytest.raises(AccountingError):
        pack_patients([1], 0)
    with pytest.raises(AccountingError):
        choose_tiles(3, 0, NOISE)


def test_no_ordinary_generator_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_ordinary_generators(monkeypatch)
    poisson_draw(100, 0.5, NOISE)
    choose_tiles(10, 2, NOISE)
