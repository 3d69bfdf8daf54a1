"""The tables are the discrete Gaussian to 2^-100, in rational numbers; and they stay the same."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from privacy.discrete_gaussian import FIRST_DEVIATION, TABLE_DISTANCE_BITS
from privacy.discrete_gaussian.tables import LARGEST_DEVIATION, threshold_table
from privacy.errors import AccountingError
from tests.privacy.discrete_gaussian import exact

BOUND = Fraction(1, 1 << TABLE_DISTANCE_BITS)
EIGHT = 8 << 16
# Sites compute these tables by themselves: another digest is another distribution.
DIGESTS = {
    65536: "e406d0b33195b4f215c189b4089db049d09aa8e2f86224a3343de9e086c807e2",
    98304: "fe5782150b8d14c5433ccc2c528c3eb0d1b8fa903ff5b7a04045f0fe651369ab",
    524288: "775766a39c3b853cd5075799ba4218c96e5ac70aab38195062a963481b5b0407",
    741456: "0182795d6c437936fb383888cd141171e86ef05483c89703fbd7ed6deb010d5d",
    3670016: "3c3a85a78c009da186e49d752c5246ab1c3728218e21d4d32d99ceec6ab43914",
}


@pytest.mark.parametrize(
    "deviation",
    [FIRST_DEVIATION, EIGHT, *(pytest.param(s, marks=pytest.mark.slow) for s in (65536, 741_456))],
)
def test_every_row_is_exact_to_two_to_the_minus_100(deviation):
    table = threshold_table(deviation)
    rows = table.thresholds
    assert len(rows) == 256
    worst = max(exact.distance(row, table.first, deviation, j) for j, row in enumerate(rows))
    assert worst <= BOUND


def test_the_bound_would_not_hold_for_floats_nor_for_rows_of_nine_deviations():
    """What the test above is worth: it refuses both shortcuts."""
    table = threshold_table(EIGHT)
    places = np.arange(table.first, table.first + table.last + 1)
    mass = np.exp(-((places - 0.5) ** 2) / 128)
    floats = tuple(int(part * 2.0**128) for part in np.cumsum(mass / mass.sum())[:-1])
    assert exact.distance(floats, table.first, EIGHT, 128) > Fraction(1, 10**16)
    short = tuple(
        0 if z < -72 else 1 << 128 if z >= 72 else threshold
        for z, threshold in enumerate(table.thresholds[128], table.first)
    )
    assert exact.distance(short, table.first, EIGHT, 128) > Fraction(1, 10**19)


def test_one_threshold_that_is_off_shows():
    table = threshold_table(FIRST_DEVIATION)
    row = list(table.thresholds[7])
    row[12] += 1 << 28
    assert exact.distance(tuple(row), table.first, FIRST_DEVIATION, 7) > BOUND


@pytest.mark.parametrize("deviation", DIGESTS)
def test_digests_are_pinned(deviation):
    assert threshold_table(deviation).digest == DIGESTS[deviation]


@pytest.mark.parametrize("deviation", [65536, FIRST_DEVIATION, EIGHT, 741_456])
def test_rows_ascend_reach_twelve_deviations_and_are_padded_with_the_largest_number(deviation):
    table = threshold_table(deviation)
    assert -table.first == math.ceil(12 * deviation / 65536) + 1
    assert table.last == -2 * table.first < 1 << table.steps
    for row in table.thresholds:
        assert all(a <= b for a, b in pairwise(row)) and row[-1] < 1 << 128
    for half in (table.high, table.low):
        padding = half.reshape(256, -1)[:, table.last :]
        assert padding.shape[1] > 0 and (padding == np.uint64((1 << 64) - 1)).all()
        assert not half.flags.writeable


@pytest.mark.parametrize("deviation", [0, -65536, 65535, LARGEST_DEVIATION + 1, 8.0, True, None])
def test_other_deviations_are_refused(deviation):
    with pytest.raises(AccountingError, match="grid units"):
        threshold_table(deviation)
