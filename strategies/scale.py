"""What is public about a cohort's opened sum: its unit, its noise, and how long it can be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from privacy.errors import FederationError
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.share import opened
from strategies.exact import Fields, Floats64

LIMIT_BITS: Final = 16  # fraction bits of `deviation` and `limit`
# Standard deviations beyond the noise's root mean square length: P < exp(-81 / 2) = 3e-18 that an
# honest sum is longer (Gaussian concentration, e.g. Boucheron et al. 2013, Theorem 5.6).
_TAIL: Final = 9


@dataclass(frozen=True, slots=True)
class LinkScale:
    """The public numbers of a cohort K of `members` sites with `patients` declared patients.

    `centre_scale` is C in units of 2^-`centre_bits` of the grid, `deviation` the standard deviation
    s(k) of one site's share in units of 2^-16. `open` rotates a sum back, int64 [padded] to float64
    [P], and returns it in units of C.
    """

    members: int
    patients: int
    centre_scale: int
    deviation: int
    open: Callable[[Fields], Floats64]
    centre_bits: int = LIMIT_BITS

    def __post_init__(self) -> None:
        numbers = (self.members, self.patients, self.centre_scale, self.deviation)
        if min(numbers[:3]) < 1 or self.deviation < 0 or self.centre_bits < LIMIT_BITS:
            raise FederationError(
                "A cohort's scale needs sites, patients and a grid.",
                "Check the study's [pooled] table and its sites.",
            )

    @classmethod
    def of(cls, grid: PooledGrid, members: int, patients: int) -> LinkScale:
        """Of a step on `grid`, with `patients` declared by its cohort of `members` sites."""
        return cls(
            members,
            patients,
            grid.centre_scale,
            grid.deviation,
            partial(opened, grid=grid),
            grid.centre_bits,
        )

    @property
    def variance(self) -> float:
        """Of the noise in one coordinate of the opened mean, in units of C^2: k (s / c N)^2.

        A quotient of two integers, so rounded once and the same everywhere.
        """
        deviation = self.deviation << (self.centre_bits - LIMIT_BITS)
        return self.members * deviation**2 / (self.centre_scale * self.patients) ** 2

    def limit(self, padded: int) -> int:
        """How long an honest sum of `padded` fields can be, in 2^-16 grid units, rounded up.

        N C from patients whose clipped gradients all agree, and of the noise its root mean square
        length plus nine standard deviations. Rounded centres add sqrt(padded) / 2 units of 2^-16 a
        site.
        """
        k, root = self.members, math.isqrt(padded) + 1
        # sqrt(k) (sqrt(padded) + 9) with 16 fraction bits, each root rounded up.
        lengths = math.isqrt(k * padded << 32) + 1 + _TAIL * (math.isqrt(k << 32) + 1)
        noise = (self.deviation * lengths >> LIMIT_BITS) + 1
        signal = (self.patients * self.centre_scale >> (self.centre_bits - LIMIT_BITS)) + 1
        return signal + noise + k * root
