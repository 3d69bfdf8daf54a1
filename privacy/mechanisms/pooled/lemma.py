"""How near a step with discrete shares of noise is to a Gaussian one: every term of K.

In units of the grid, and coordinate by coordinate (coordinates are independent given the centres):

1. A share z ~ D(Z, s, y) has density N(y, s^2) at every integer, within a factor e^±ell(s), for
   ell(s) = -ln(1 - t(s)) and t(s) = 2 sum_{j >= 1} exp(-2 pi^2 s^2 j^2), for every real centre y:
   Poisson's summation of exp(-(z - y)^2 / 2 s^2) over Z.
2. The sum of m such shares has density N(sum y, m s^2) within
   sum_{0 < j < m} ell(s sqrt(j / (j + 1))) + m ell(s) = kappa_sum: complete the square in the sum
   over the integers of two densities, and use 1. for what remains (Peikert 2010, Micciancio and
   Walter 2017).
3. A sample of N(Y, V - r^2), rounded to integers by D(Z, r, .), has density N(Y, V) at every
   integer within ell(r) = kappa_round: the integral over the sample is a Gaussian's, and only the
   sum that normalises the rounding varies.
4. The sampler draws a low byte of the centre by D(Z, r0, .), r0 = 1.5, then its integers: that adds
   2^-16 r0^2 to s^2, and two factors a share and look-up (2. for two summands of unequal widths).

So a step's d numbers, to those who know all shares but m, have the probabilities of the rounding
(3.) of a Gaussian sum with noise sqrt(m s^2 - r^2), within e^±K, K = d (kappa_sum + kappa_round +
look-ups). The rounding is post-processing of that Gaussian sum. Its sensitivity is the clip, and
what rounding two neighbours' centres may add to it.
"""

# Why: docs/adr/0039-pooled-noise-is-accounted-for.md. The proof is in docs/privacy-accounting.md.

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from privacy.events import GaussianSteps, Observer
from privacy.mechanisms.pooled.units import (
    COARSE_CENTRE_BITS,
    DEVIATION_BITS,
    centre_bits,
    centre_scale,
    deviation,
    numbers_of,
)

LOOK_UP: Final = 1.5  # r0: deviation of the look-ups below the last one
LOOK_UP_DISTANCE: Final = 2.0**-100  # of a table's row from the true one, summed over entries
_ENTRY_DISTANCE: Final = 2.0**-128  # of an entry from the true probability
_TABLES_REACH: Final = 12.0  # deviations: no entry within is the last of its row
_ENTRIES_FACTOR: Final = 1e-6  # of a step, at most; else the rows' distances are charged
_MOST_QUARTERS, _LEAST_QUARTERS = 40, 34  # of a deviation: 10 to 8.5 are tried
# r is the least multiple of 2^-8 at which all roundings of a step cost no more than this. It
# follows from P alone: equal steps are charged equally, whatever schedule they are in.
ROUNDING_FACTOR: Final = 1e-7
_R_STEP: Final = 2.0**-8
# Rotating and rounding two neighbours' sums moves a number by this many units at most: one for the
# rounding, and a little for the floats in between.
_ROUNDED: Final = 1.001
_FLOATS: Final = 1e-9  # relative: what the floats here may round, and a rotation's norm


class NoiseTerms(NamedTuple):
    """The terms of a step from which its cost follows."""

    sigma: float
    grid: float  # s at the largest cohort
    parameters: int  # P
    sites: int  # n
    smallest: int  # n_min
    colluders: int  # n_c


@lru_cache(maxsize=256)
def nearby_step(terms: NoiseTerms, observer: Observer) -> GaussianSteps:
    """One step at q = 1 as `observer` sees it, at the worst of the cohorts that it may have.

    Direction of the error: the noise is never too high, factor and distance never too low.
    """
    shares = terms.sites - terms.colluders
    bits = centre_bits(terms.grid, terms.sigma, shares, terms.parameters)
    scale = centre_scale(terms.grid, terms.sigma, shares, bits)
    cohorts = range(terms.smallest, terms.sites + 1)
    deviations = [deviation(terms.sigma, scale, bits, k - terms.colluders) for k in cohorts]
    # Of each cohort, the variance that the observer does not know, in squares of 2^-16 units.
    hidden = min(
        d * d * unknown_to(observer, k, terms) for d, k in zip(deviations, cohorts, strict=True)
    )
    variance = hidden / 4.0**DEVIATION_BITS
    least, most = min(deviations) / 2.0**DEVIATION_BITS, unknown_to(observer, terms.sites, terms)
    numbers = numbers_of(terms.parameters)
    r = rounding_width(numbers)
    delta = _sensitivity(scale, bits, numbers)
    noise = math.sqrt(variance - r * r) / delta
    lookups = 1 if bits == COARSE_CENTRE_BITS else 2  # below the last one
    kappa = log_factor(r) + shares_factor(least, most) + most * _lookups(least, lookups)
    widths = least, max(deviations) / 2.0**DEVIATION_BITS
    tables = _tables(numbers, most, 1 + lookups, widths, delta)
    factor = (numbers * kappa + tables.factor) * (1 + _FLOATS)
    return tables._replace(noise_multiplier=noise * (1 - _FLOATS), factor=factor)


def _tables(
    numbers: int, shares: int, lookups: int, widths: tuple[float, float], delta: float
) -> GaussianSteps:
    """What the sampler's tables are off, of one step; `widths`, s, and Delta in grid units.

    Of a single share, whose integers are what is seen: every entry of its last table is off by
    2^-128 at most, and that is little of a probability within `reach` deviations of the centre, or
    of the neighbour's. Its lower look-ups move the centre by less than a tenth of the grid's unit,
    so that what they are off is relative: at most a few times their rows'. Of sums, whose shares
    nobody sees one by one, the rows' distances count.
    """
    for quarters in range(_MOST_QUARTERS, _LEAST_QUARTERS - 1, -1):
        reach = quarters / 4
        farthest = reach + (delta + 0.1) / widths[0]
        smallest = math.exp(-(farthest**2) / 2) / (2.6 * widths[1])
        entries = numbers * 2 * _ENTRY_DISTANCE / smallest
        if shares == 1 and entries <= _ENTRIES_FACTOR and farthest <= _TABLES_REACH:
            relative = numbers * lookups * 16 * LOOK_UP_DISTANCE
            beyond = numbers * (_tail(reach, widths[0]) + lookups * LOOK_UP_DISTANCE)
            return GaussianSteps(1.0, 1.0, 1, entries + relative, 0.0, beyond)
    return GaussianSteps(1.0, 1.0, 1, 0.0, numbers * shares * lookups * LOOK_UP_DISTANCE)


def _tail(reach: float, s: float) -> float:
    """The probability that a share is more than `reach` deviations from its centre; upwards.

    The density is convex there, so that each integer has no more than the unit interval around it.
    """
    return 1.001 * math.erfc((reach - 0.5 / s) / math.sqrt(2))  # what look-ups add to s^2 is in it


def unknown_to(observer: Observer, cohort: int, terms: NoiseTerms) -> int:
    """m: how many of a cohort's shares `observer` does not know.

    Where there is one site, nobody else has a share. Who broke the masks sees one share alone.
    """
    if terms.sites == 1 or observer is Observer.MASKS_BROKEN:
        return 1
    known = {Observer.SITE: 1, Observer.COALITION: terms.colluders}
    return cohort - known.get(observer, 0)


def deviation_of_mass(s: float) -> float:
    """t(s): how far the mass of a Gaussian on the integers is from s sqrt(2 pi), relative; upwards.

    2 sum x^(j^2), x = exp(-2 pi^2 s^2): j^2 >= 3 j - 2, so at most 2 x / (1 - x^3).
    """
    x = math.exp(-2 * math.pi**2 * s * s)
    return 2 * x / (1 - x**3)


def log_factor(s: float) -> float:
    """ell(s) = -ln(1 - t(s))."""
    return -math.log1p(-deviation_of_mass(s))


def shares_factor(s: float, shares: int) -> float:
    """kappa_sum of `shares` shares of deviation `s`, of one number."""
    joints = (log_factor(s * math.sqrt(j / (j + 1))) for j in _joints(shares))
    beyond = max(0, shares - 1 - _LISTED) * log_factor(s * math.sqrt(_LISTED / (_LISTED + 1)))
    return math.fsum(joints) + beyond + shares * log_factor(s)


_LISTED: Final = 64  # joints that are worked out singly; later ones cost less than the last of them


def _joints(shares: int) -> Iterator[int]:
    yield from range(1, min(shares, _LISTED + 1))


@lru_cache(maxsize=64)
def rounding_width(numbers: int) -> float:
    """r, for steps of `numbers` numbers; see `ROUNDING_FACTOR`."""
    multiple = math.ceil(1 / _R_STEP)
    while numbers * log_factor(multiple * _R_STEP) > ROUNDING_FACTOR:
        multiple += 1
    return multiple * _R_STEP


def _lookups(s: float, lower: int) -> float:
    """What a share's `lower` look-ups below its last one cost, of one number.

    Each is a sum of two lattices' Gaussians, its own of deviation r0 and all that follow it, which
    is 2^8 times as wide at least; the last one's own factor is in `shares_factor`.
    """
    wide = [s, *([LOOK_UP] * (lower - 1))]  # what follows each of them, in its own units
    joints = (LOOK_UP / math.sqrt(1 + (LOOK_UP / (256 * after)) ** 2) for after in wide)
    return lower * log_factor(LOOK_UP) + math.fsum(map(log_factor, joints))


def _sensitivity(scale: int, bits: int, numbers: int) -> float:
    """Delta: how far a patient moves the centres, in the grid's units; upwards."""
    units = scale + _ROUNDED * math.sqrt(numbers)
    return units / 2.0**bits * (1 + _FLOATS)
