"""Draws follow the tables bit for bit, and the discrete Gaussian around their real centre."""

from __future__ import annotations

import math
from bisect import bisect_right
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.discrete_gaussian import FIRST_DEVIATION, draw
from privacy.discrete_gaussian.sampler import _look_up
from privacy.discrete_gaussian.tables import threshold_table
from privacy.errors import AccountingError
from tests.privacy.discrete_gaussian import exact

SEED = bytes(range(32))
EIGHT = 8 << 16
UNITS = {16: 1 << 16, 24: 1 << 24}
KNOWN = {
    16: [-6, -3, 11, 5, 0, 138, -16777216, 206],
    24: [2, 10, -3, 10, 4, 6, -65536, 0],
}


@cache
def rows_of(deviation: int) -> tuple[tuple[int, ...], ...]:
    return threshold_table(deviation).thresholds


def one_by_one(centres: list[int], deviation: int, seed: bytes, fraction_bits: int) -> list[int]:
    """The specification at the top of the sampler, a number at a time."""
    cipher = Cipher(algorithms.AES256(seed), modes.ECB()).encryptor()
    drawn = []
    look_ups = fraction_bits // 8
    for i, centre in enumerate(centres):
        for j in range(look_ups):
            block = cipher.update((look_ups * i + j).to_bytes(16, "big"))
            last = j == look_ups - 1
            table = threshold_table(deviation if last else FIRST_DEVIATION)
            u = int.from_bytes(block, "little")
            row = rows_of(deviation if last else FIRST_DEVIATION)[centre % 256]
            centre = centre // 256 + table.first + bisect_right(row, u)
        drawn.append(centre)
    return drawn


@pytest.mark.parametrize("fraction_bits", [16, 24])
@pytest.mark.parametrize("deviation", [65536, EIGHT, 741_456])
def test_draws_are_what_the_specification_says(fraction_bits, deviation):
    random = np.random.default_rng(3)
    centres = random.integers(-(2**34), 2**34, 20)
    found = draw(centres, deviation, SEED, fraction_bits=fraction_bits)
    assert found.tolist() == one_by_one(centres.tolist(), deviation, SEED, fraction_bits)


def test_known_answers():
    centres = np.array([0, 1, 65535, 65536, -1, 1 << 23, -(1 << 40), 12_345_678], np.int64)
    assert draw(centres, EIGHT, SEED).tolist() == KNOWN[16]
    assert draw(centres, EIGHT, SEED, fraction_bits=24).tolist() == KNOWN[24]


@pytest.mark.parametrize("count", [0, 1, 2, 16_383, 16_384, 16_385, 40_000])
def test_a_number_does_not_depend_on_how_many_follow_it(count):
    whole = draw(np.zeros(40_000, np.int64), EIGHT, SEED)
    assert (draw(np.zeros(count, np.int64), EIGHT, SEED) == whole[:count]).all()


def test_neither_centres_nor_seed_are_changed():
    centres = np.arange(100, dtype=np.int64)
    draw(centres, EIGHT, SEED)
    assert (centres == np.arange(100)).all()


@pytest.mark.parametrize("fraction_bits", [16, 24])
@given(whole=st.integers(-(2**37), 2**37), fraction=st.integers(0, 2**16 - 1))
@settings(max_examples=25, deadline=None)
def test_an_integer_more_in_the_centre_is_an_integer_more_in_the_draw(
    fraction_bits, whole, fraction
):
    unit = UNITS[fraction_bits]
    centres = np.full(50, fraction, np.int64)
    moved = draw(centres + whole * unit, EIGHT, SEED, fraction_bits=fraction_bits)
    assert (moved - whole == draw(centres, EIGHT, SEED, fraction_bits=fraction_bits)).all()


@pytest.mark.parametrize("word", [0, (1 << 64) - 1])
def test_the_least_and_the_largest_number_reach_the_ends_of_a_row(word):
    table = threshold_table(EIGHT)
    words = np.full(256, word, np.uint64)
    found = _look_up(table, np.arange(256), words, words)
    # 0 is below every threshold but those that are 0 themselves.
    zeros = [bisect_right(row, 0) for row in table.thresholds]
    ends = [table.last] * 256 if word else zeros
    assert (found - table.first).tolist() == ends


@pytest.mark.parametrize("row", [0, 1, 128, 255])
def test_a_number_that_equals_a_threshold_belongs_to_the_next_integer(row):
    """All 128 bits count: one less in the lower half is the integer before."""
    table = threshold_table(EIGHT)
    thresholds = table.thresholds[row]
    for offset in (0, -1):
        numbers = [one + offset for one in thresholds if one]
        high = np.array([one >> 64 for one in numbers], np.uint64)
        low = np.array([one & ((1 << 64) - 1) for one in numbers], np.uint64)
        found = _look_up(table, np.full(len(numbers), row), low, high) - table.first
        assert found.tolist() == [bisect_right(thresholds, one) for one in numbers]


# The seeds below are fixed, so these tests cannot fail by chance; the bounds are of chance 1e-4.
CENTRES = [0, 1, 32_768, 50_000, -20_481]


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("deviation", [FIRST_DEVIATION, EIGHT])
def test_chi_square_mean_and_variance(centre, deviation):
    n = 200_000
    found = draw(np.full(n, centre, np.int64), deviation, bytes([centre % 251, 7]) * 16)
    c, s = centre / 65536, deviation / 65536
    variance = s * s + (1.5 / 256) ** 2
    assert abs(found.mean() - c) < 4 * math.sqrt(variance / n)
    assert abs(((found - c) ** 2).mean() / variance - 1) < 4 * math.sqrt(2 / n)
    places = np.arange(math.ceil(c - 3.2 * s), math.floor(c + 3.2 * s) + 1)
    mass = np.exp(-((places - c) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    inside = found[(found >= places[0]) & (found <= places[-1])] - places[0]
    seen = np.bincount(inside, minlength=len(places))
    # What is outside the places goes into one cell of its own.
    expected = np.append(mass, 1 - mass.sum()) * n
    assert expected.min() > 5
    statistic, p = stats.chisquare(np.append(seen, n - seen.sum()), expected)
    assert p > 1e-4, statistic


@pytest.mark.parametrize("fraction_bits", [16, 24])
def test_neighbouring_numbers_are_independent(fraction_bits):
    random = np.random.default_rng(1)
    centres = random.integers(-(2**30), 2**30, 300_000)
    noise = draw(centres, EIGHT, SEED, fraction_bits=fraction_bits) - centres / UNITS[fraction_bits]
    for lag in (1, 2, 3, 16_384):
        correlation = (noise[lag:] * noise[:-lag]).mean() / 64
        assert abs(correlation) < 4 / math.sqrt(len(noise) - lag)
    assert abs(np.corrcoef(noise, centres)[0, 1]) < 4 / math.sqrt(len(noise))


@pytest.mark.parametrize("centre", [0, 1, 32_896])
@pytest.mark.parametrize("deviation", [65536, FIRST_DEVIATION])
def test_the_look_ups_give_the_factors_that_are_charged(centre, deviation):
    """p(z) over the density of N(c, s^2 + r0^2 / 2^16), for every z, against the lemma's bound.

    -ln(1 - t(s)) for the last look-up; for the first one -ln(1 - t(r0)), and
    -ln(1 - t(r0 s / sqrt(s^2 + r0^2 / 2^16))) for the sum over what it may have given.
    """
    with localcontext() as context:
        context.prec = 70
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640629")
        s, r0, c = (Decimal(n) / 65536 for n in (deviation, FIRST_DEVIATION, centre))
        wide = s * s + r0 * r0 / 65536

        def ell(width: Decimal) -> Decimal:
            x = (-2 * pi * pi * width * width).exp()
            return -(1 - 2 * x / (1 - x**3)).ln()

        bound = ell(s) + ell(r0) + ell(r0 * s / wide.sqrt())
        low, high = centre & 255, centre >> 8
        first = exact.row(FIRST_DEVIATION, low)
        seconds = {u: exact.row(deviation, (high + u) % 256) for u in first if abs(u) < 19}
        worst = Decimal(0)
        for z in range(-3, 5):
            p = Decimal(0)
            for u, second in seconds.items():
                share = Decimal(first[u]) / sum(first.values())
                p += share * second[z - (high + u) // 256] / sum(second.values())
            density = (-((z - c) ** 2) / (2 * wide)).exp() / (2 * pi * wide).sqrt()
            worst = max(worst, abs((p / density).ln()))
        slack = Decimal(10) ** -30  # of rows of 60 digits that were cut at 19 of 256
        assert Decimal(0) < worst <= bound + slack


@pytest.mark.parametrize("centre", [2**62, -(2**62), 2**62 - 1])
def test_no_centre_is_refused(centre):
    found = draw(np.full(10, centre, np.int64), EIGHT, SEED)
    assert (abs(found - centre // 65536) < 110).all()


@pytest.mark.parametrize(
    "centres",
    [np.zeros(3), np.zeros(3, np.int32), np.zeros((2, 2), np.int64), np.zeros(3, np.uint64)],
)
def test_other_centres_are_refused(centres):
    with pytest.raises(AccountingError, match="64-bit integers"):
        draw(centres, EIGHT, SEED)


@pytest.mark.parametrize("seed", [b"", SEED[:-1], SEED + b"\0"])
def test_other_seeds_are_refused(seed):
    with pytest.raises(AccountingError, match=f"{len(seed)} bytes") as refused:
        draw(np.zeros(3, np.int64), EIGHT, seed)
    assert not seed or seed.hex() not in str(refused.value)


@pytest.mark.parametrize("fraction_bits", [0, 8, 15, 32])
def test_other_fraction_bits_are_refused(fraction_bits):
    with pytest.raises(AccountingError, match="fraction bits"):
        draw(np.zeros(3, np.int64), EIGHT, SEED, fraction_bits=fraction_bits)
