"""The trial of the generator: it passes the one that ships, and names what is wrong with others."""

from __future__ import annotations

import os

import numpy as np
import pytest

from privacy.discrete_gaussian import draw
from privacy.discrete_gaussian.trial import (
    USUAL_DEVIATION,
    GeneratorTrial,
    IntegerDraw,
    tried_generator,
)
from privacy.error_ids import ErrorId
from privacy.errors import AccountingError


def seeded(seed: int):
    return np.random.default_rng(seed).bytes


@pytest.mark.parametrize("deviation", [1 << 16, 3 << 16, USUAL_DEVIATION, 741_456])
def test_the_one_that_ships_passes(deviation: int) -> None:
    found = tried_generator(deviation, os.urandom)
    assert found.passed, found
    assert found.deviation == deviation
    found.check()


def test_it_raises_no_false_alarm_and_uses_its_room() -> None:
    """Figures in standard errors are of the size that they say."""
    found = [tried_generator(USUAL_DEVIATION, seeded(seed)) for seed in range(30)]
    assert all(one.passed for one in found)
    for name in ("shared", "fit"):
        spread = float(np.std([getattr(one, name) for one in found]))
        assert 0.5 < spread < 1.6, name


def rounded(centres, deviation, seed, *, fraction_bits=16):
    return (centres + (1 << (fraction_bits - 1))) >> fraction_bits


def halved(centres, deviation, seed, *, fraction_bits=16):
    return draw(centres, deviation // 2, seed, fraction_bits=fraction_bits)


def little_less(centres, deviation, seed, *, fraction_bits=16):
    """5 % of the deviation is missing."""
    return draw(centres, deviation * 19 // 20, seed, fraction_bits=fraction_bits)


def one_seed(centres, deviation, seed, *, fraction_bits=16):
    return draw(centres, deviation, bytes(range(32)), fraction_bits=fraction_bits)


def two_values(centres, deviation, seed, *, fraction_bits=16):
    """The right variance, of another distribution."""
    signs = np.where(draw(np.zeros_like(centres), deviation, seed) % 2, 1, -1)
    near = rounded(centres, deviation, seed, fraction_bits=fraction_bits)
    return near + signs * (deviation >> 16)


def another_stream(centres, deviation, seed, *, fraction_bits=16):
    """A program that is right too, but whose draws are not those that were tried."""
    return draw(centres[::-1].copy(), deviation, seed, fraction_bits=fraction_bits)[::-1].copy()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (rounded, "variance of 0.00"),
        (halved, r"variance of 0\.2\d+ of what it must be \(0\.961 to 1\.04\)"),
        (little_less, r"variance of 0\.(89|90)"),
        (one_seed, "the noise of two seeds is alike"),
        (two_values, "another distribution"),
        (another_stream, "other answers than always for a known seed"),
    ],
)
def test_a_wrong_one_fails_in_words(wrong: IntegerDraw, words: str) -> None:
    found = tried_generator(USUAL_DEVIATION, seeded(1), wrong)
    assert not found.passed
    with pytest.raises(AccountingError, match=words) as error:
        found.check()
    assert error.value.id == ErrorId.NOISE_GENERATOR
    assert "Train nothing here" in error.value.hint


def test_the_systems_random_numbers_may_not_repeat() -> None:
    assert not tried_generator(USUAL_DEVIATION, bytes).passed


@pytest.mark.parametrize("name", ["variance", "shared", "fit"])
def test_a_figure_that_is_no_number_fails(name: str) -> None:
    figures = {"variance": 1.0, "shared": 0.0, "fit": 0.0}
    assert GeneratorTrial(deviation=1 << 16, draws=100, known=True, **figures).passed
    figures[name] = float("nan")
    assert not GeneratorTrial(deviation=1 << 16, draws=100, known=True, **figures).passed
