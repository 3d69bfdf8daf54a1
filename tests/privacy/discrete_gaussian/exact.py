"""The discrete Gaussian in rational numbers, written down a second time, from its definition."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

DIGITS = 60  # after the point
ONE = 10**DIGITS
REACH = 21  # deviations; what lies beyond is below 1e-90


@cache
def weights(deviation: int, count: int) -> tuple[int, ...]:
    """10^60 exp(-n^2 / 2 (256 s)^2) for n from 0, within one unit: Decimal rounds exp correctly."""
    with localcontext() as context:
        context.prec = DIGITS + 5
        wide = 2 * (Decimal(256) * deviation / 65536) ** 2
        return tuple(int((-(Decimal(n * n) / wide)).exp() * ONE) for n in range(count))


def row(deviation: int, centre: int) -> dict[int, int]:
    """10^60 exp(-(z - centre / 256)^2 / 2 s^2) for all z that count, within one unit each."""
    reach = REACH * deviation // 65536 + 1
    made = weights(deviation, 256 * (reach + 1) + 1)
    return {z: made[abs(256 * z - centre)] for z in range(-reach, reach + 1)}


def cells(thresholds: tuple[int, ...], first: int) -> Iterator[tuple[int, int]]:
    """(z, 2^128 times its probability) in a table's row."""
    edges = (0, *thresholds, 1 << 128)
    for number in range(len(edges) - 1):
        yield first + number, edges[number + 1] - edges[number]


def distance(thresholds: tuple[int, ...], first: int, deviation: int, centre: int) -> Fraction:
    """An upper bound of sum |p_table - p| over all integers."""
    exact = row(deviation, centre)
    total = sum(exact.values())
    table = dict(cells(thresholds, first))
    apart = sum(abs((table.get(z, 0) * total) - (exact.get(z, 0) << 128)) for z in {*exact, *table})
    # Each weight is off by one unit at most, and so the total by as many as there are, and a tail.
    own = Fraction(2 * len(exact) + 2, total)
    return Fraction(apart, total << 128) + own
