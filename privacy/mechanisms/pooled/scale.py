"""From sums of clipped gradients to centres: a product with a public fraction, rounded once."""

# Why: docs/adr/0038-exact-noise.md

from __future__ import annotations

import math
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from privacy.dpsgd.release import CONTRIBUTION_BITS

_FACTOR_BITS: Final = 26
_LOW: Final = (1 << _FACTOR_BITS) - 1


class Scale(NamedTuple):
    """A / 2^B: the largest such fraction that is no more than `centre_scale` / (2^30 sqrt(n)).

    2^30 is C in a sum, and sqrt(n) the factor by which the sum was lengthened before. A has 26
    bits (more only where B is 27, its least), so the noise is larger over the signal than it had to
    be by 2^-25 at most, and never smaller.
    """

    factor: int  # A
    shift: int  # B

    @classmethod
    def of(cls, centre_scale: int, squared: int) -> Self:
        """For C in units of the centres (an integer), and n = `squared`."""
        shift = _FACTOR_BITS + 1
        while (factor := _rounded_down(centre_scale << shift, squared)) < 1 << (_FACTOR_BITS - 1):
            shift += 1
        return cls(factor, shift)

    def centres(self, sums: NDArray[np.int64]) -> NDArray[np.int64]:
        """floor(x A / 2^B + 1/2) for all x of `sums`, exactly; `sums` is overwritten.

        As long as x is below 2^62 and the result below 2^61.
        """
        # A 62-bit number times a 26-bit one, without the bits that are shifted out below 2^26:
        # rounding down twice is rounding down once.
        low = sums & _LOW
        low *= self.factor
        low >>= _FACTOR_BITS
        sums >>= _FACTOR_BITS
        sums *= self.factor
        sums += low
        sums += 1 << (self.shift - _FACTOR_BITS - 1)  # to the nearest: no bias
        sums >>= self.shift - _FACTOR_BITS
        return sums


def _rounded_down(numerator: int, squared: int) -> int:
    """floor(numerator / (2^30 sqrt(squared)))."""
    # floor(sqrt(floor(x))) is floor(sqrt(x)): rounded down once, and never up.
    return math.isqrt(numerator**2 // (squared << (2 * CONTRIBUTION_BITS)))
