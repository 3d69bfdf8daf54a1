"""The public grid on which a site that adds all its noise itself draws it: a cohort of one."""

# Why: docs/adr/0038-exact-noise.md

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from privacy.events import MAX_NOISE_MULTIPLIER, MIN_NOISE_MULTIPLIER, check_within
from privacy.mechanisms.pooled import units
from privacy.mechanisms.pooled.scale import Scale

LOCAL_GRID: Final = 64.0
"""s, the noise's deviation in grid units. No bits are saved by a coarser one: nothing is packed."""

MOST_LOCAL_PARAMETERS: Final = 1 << 24
"""A bound on P that all studies share, so that their event follows from the study file alone."""


class LocalGrid(NamedTuple):
    """The integers that follow from sigma."""

    centre_scale: int  # C, in centre units
    centre_bits: int  # a centre's unit is 2^-centre_bits of the grid's
    deviation: int  # s, in 2^-16 grid units

    @property
    def scale(self) -> Scale:
        """From sums in units of C 2^-30 to centres; no coordinate is mixed with another."""
        return Scale.of(self.centre_scale, 1)


@lru_cache(maxsize=16)
def local_grid(noise_multiplier: float) -> LocalGrid:
    """The grid for this sigma; raises `AccountingError` unless it is from 0.01 to 10,000."""
    check_within("noise_multiplier", noise_multiplier, MIN_NOISE_MULTIPLIER, MAX_NOISE_MULTIPLIER)
    bits = units.centre_bits(LOCAL_GRID, noise_multiplier, 1, MOST_LOCAL_PARAMETERS)
    scale = units.centre_scale(LOCAL_GRID, noise_multiplier, 1, bits)
    return LocalGrid(scale, bits, units.deviation(noise_multiplier, scale, bits, 1))
