"""A trial of the generator that ships: a tenth of a second, before any patient depends on it.

Four things have to hold. Its answers for a known seed are those that it has always given, bit for
bit, which finds another compiler's, library's or processor's arithmetic. Of draws under two fresh
seeds, around random centres: the variance of what is left is s^2, and the two have nothing in
common. Of draws around whole centres: how often each integer comes is what the discrete Gaussian
says. A correct generator fails once in about 10^11 trials.
"""

# Why: docs/adr/0061-the-empirical-audit.md

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.discrete_gaussian.sampler import FRACTION_BITS, NOISE_SEED_BYTES, Integers, draw
from privacy.discrete_gaussian.tables import DEVIATION_UNIT, FIRST_DEVIATION
from privacy.error_ids import ErrorId
from privacy.errors import AccountingError

DRAWS: Final = 1 << 15
"""Under each of two seeds: the variance is known to 0.6 % then, or 4 % at seven standard errors."""

USUAL_DEVIATION: Final = 8 * DEVIATION_UNIT
"""Of the trial where nothing says which deviation will be drawn."""

ERRORS_ALLOWED: Final = 7.0
"""Standard errors."""

_KNOWN_SEED: Final = bytes(range(NOISE_SEED_BYTES))
_KNOWN: Final = "3fbb94f95191c44b50d528e5c10e8842f749e66e5cddc536f3ea2545d50ed5a1"
_FEWEST: Final = 10.0  # expected draws of an integer that is counted by itself


class IntegerDraw(Protocol):
    """See `draw`."""

    def __call__(
        self, centres: Integers, deviation: int, seed: bytes, *, fraction_bits: int = 16
    ) -> Integers:
        """Draw around `centres`."""
        ...


@dataclass(frozen=True, slots=True)
class GeneratorTrial:
    """What was found. `variance` is over s^2; the others, but for `known`, in standard errors."""

    deviation: int  # s, in 2^-16 grid units
    draws: int
    known: bool  # the known answers
    variance: float
    shared: float  # correlation of the draws of two seeds
    fit: float  # of how often each integer comes

    @property
    def passed(self) -> bool:
        """Whether noise may be drawn by it."""
        spread = ERRORS_ALLOWED * math.sqrt(2 / self.draws)
        close = abs(self.variance - 1) <= spread  # not so for what is no number
        apart = abs(self.shared) <= ERRORS_ALLOWED and self.fit <= ERRORS_ALLOWED
        return self.known and close and apart

    def check(self) -> None:
        """Raise `AccountingError` unless it has passed."""
        if not self.passed:
            raise AccountingError(
                "The generator of the noise fails its own trial on this machine: "
                f"{'; '.join(self.faults())}. Its noise would protect nobody.",
                "Train nothing here. Install craftsfl again, with the versions of constraints.txt; "
                "if it stays, use another machine, and report it as SECURITY.md says. The ledger "
                "holds what was found.",
                id=ErrorId.NOISE_GENERATOR,
            )

    def faults(self) -> list[str]:
        """What does not hold, in words; empty if it has passed."""
        spread = ERRORS_ALLOWED * math.sqrt(2 / self.draws)
        faults = []
        if not self.known:
            faults.append("other answers than always for a known seed")
        if not abs(self.variance - 1) <= spread:
            faults.append(
                f"a variance of {self.variance:.3g} of what it must be "
                f"({1 - spread:.3g} to {1 + spread:.3g})"
            )
        if not abs(self.shared) <= ERRORS_ALLOWED:
            faults.append("the noise of two seeds is alike")
        if not self.fit <= ERRORS_ALLOWED:
            faults.append("another distribution than the discrete Gaussian")
        return faults


def tried_generator(
    deviation: int, random: Callable[[int], bytes], drawn: IntegerDraw = draw
) -> GeneratorTrial:
    """Try `drawn` at `deviation` (s in 2^-16 grid units), with seeds from `random` (bytes).

    Raises `AccountingError` for a deviation that there is no table for.
    """
    numbers = np.random.default_rng(np.frombuffer(random(NOISE_SEED_BYTES), "<u4"))
    centres = numbers.integers(-(1 << 40), 1 << 40, DRAWS)
    seeds = random(NOISE_SEED_BYTES), random(NOISE_SEED_BYTES)
    left = [drawn(centres, deviation, seed) - centres / DEVIATION_UNIT for seed in seeds]
    whole = drawn(np.zeros(DRAWS, np.int64), deviation, random(NOISE_SEED_BYTES))
    variance = _variance(deviation)
    return GeneratorTrial(
        deviation=deviation,
        draws=2 * DRAWS,
        known=_answers(drawn) == _KNOWN,
        variance=float(np.square(np.concatenate(left)).mean()) / variance,
        shared=float(np.dot(*left) / (variance * math.sqrt(DRAWS))),
        fit=_misfit(whole, variance),
    )


def _variance(deviation: int) -> float:
    """s^2 in grid units, with what the look-up below the last one adds."""
    return (deviation**2 + (FIRST_DEVIATION / 256) ** 2) / DEVIATION_UNIT**2


def _answers(drawn: IntegerDraw) -> str:
    """SHA-256 of draws under a known seed, for both kinds of centres, across a chunk's border."""
    centres = (np.arange(1 << 10, dtype=np.int64) - 500) * 0x9E3779B1
    state = hashlib.sha256()
    for bits in FRACTION_BITS:
        found = drawn(centres, USUAL_DEVIATION, _KNOWN_SEED, fraction_bits=bits)
        state.update(np.ascontiguousarray(found, "<i8").tobytes())
    return state.hexdigest()


def _misfit(found: NDArray[np.int64], variance: float) -> float:
    """How far counts of integers are from N(0, variance) on the integers, in standard errors.

    Pearson's statistic of all integers that are expected ten times, and of the rest together, made
    a standard normal by Wilson and Hilferty 1931; upwards is worse.
    """
    reach = math.ceil(12 * math.sqrt(variance))
    integers = np.arange(-reach, reach + 1)
    mass = np.exp(-np.square(integers) / (2 * variance))
    expected = len(found) * mass / mass.sum()
    inside = np.abs(found) <= reach
    counted = np.bincount(found[inside] + reach, minlength=len(integers)).astype(np.float64)
    alone = expected >= _FEWEST
    wanted = np.append(expected[alone], expected[~alone].sum())
    seen = np.append(counted[alone], counted[~alone].sum() + (~inside).sum())
    squared, free = float((np.square(seen - wanted) / wanted).sum()), len(wanted) - 1
    part = 2 / (9 * free)
    return float(((squared / free) ** (1 / 3) - (1 - part)) / math.sqrt(part))
