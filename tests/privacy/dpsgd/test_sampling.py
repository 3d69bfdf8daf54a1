from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.dpsgd.noise import SystemNoise
from privacy.dpsgd.sampling import choose_tiles, poisson_draw
from privacy.dpsgd.substreams import Purpose, Substreams
from privacy.errors import AccountingError
from tests.traps import forbid_ordinary_generators

NOISE = SystemNoise()


def fresh() -> Substreams:
    return Substreams.fresh(NOISE)


def test_every_patient_enters_independently_at_the_rate() -> None:
    patients, steps, rate = 50, 4000, 0.3
    drawn = np.zeros((steps, patients))
    for step in range(steps):
        drawn[step, poisson_draw(np.arange(patients), rate, fresh())] = 1
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
    everyone, nobody = np.arange(10), np.arange(0)
    assert poisson_draw(everyone, 1.0, fresh()).tolist() == list(range(10))
    assert poisson_draw(everyone, 1e-12, fresh()).tolist() == []
    assert poisson_draw(nobody, 0.5, fresh()).tolist() == []


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_bad_rates_are_refused(rate: float) -> None:
    with pytest.raises(AccountingError, match="rate"):
        poisson_draw(np.arange(10), rate, fresh())


@given(st.integers(1, 40), st.integers(1, 10))
def test_all_places_are_filled_and_evenly(tiles: int, places: int) -> None:
    counts = np.bincount(choose_tiles(3, tiles, places, fresh()), minlength=tiles)
    assert counts.sum() == places
    assert counts.max() - counts.min() <= 1


def test_every_tile_is_as_likely() -> None:
    counts = np.zeros(5)
    for _ in range(3000):
        counts[choose_tiles(0, 5, 2, fresh())] += 1
    assert np.abs(counts / 3000 - 0.4).max() < 7 * math.sqrt(0.24 / 3000)


def test_of_few_tiles_the_one_that_is_taken_again_is_as_likely() -> None:
    again = np.zeros(3)
    for _ in range(3000):
        again += np.bincount(choose_tiles(0, 3, 4, fresh()), minlength=3) - 1
    assert np.abs(again / 3000 - 1 / 3).max() < 7 * math.sqrt(2 / 9 / 3000)


@pytest.mark.parametrize(("tiles", "places"), [(3, 0), (0, 3)])
def test_bad_choices_are_refused(tiles: int, places: int) -> None:
    with pytest.raises(AccountingError):
        choose_tiles(0, tiles, places, fresh())


def test_leaving_one_out_changes_nobody_elses_draw() -> None:
    streams = fresh()
    everyone = np.arange(300)
    with_all = set(poisson_draw(everyone, 0.4, streams).tolist())
    for gone in (0, 7, 299):
        rest = everyone[everyone != gone]
        assert set(poisson_draw(rest, 0.4, streams).tolist()) == with_all - {gone}
        for purpose in Purpose:
            words = streams.words(purpose, everyone)[rest]
            assert (streams.words(purpose, rest) == words).all()


def test_streams_of_purposes_patients_and_steps_are_unlike() -> None:
    words = np.concatenate(
        [
            fresh().words(purpose, np.arange(200), np.full(200, index)).ravel()
            for purpose in Purpose
            for index in (0, 1)
        ]
    )
    assert len(np.unique(words)) == len(words)
    bits = np.unpackbits(words.view(np.uint8)).mean()
    assert abs(bits - 0.5) < 7 * 0.5 / math.sqrt(64 * len(words))


def test_no_ordinary_generator_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_ordinary_generators(monkeypatch)
    poisson_draw(np.arange(100), 0.5, fresh())
    choose_tiles(0, 10, 2, fresh())
