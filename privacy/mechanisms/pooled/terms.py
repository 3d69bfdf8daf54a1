"""What a pooled study fixes for the noise of its steps, and what follows for k sites."""

# Why: docs/adr/0039-pooled-noise-is-accounted-for.md

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

from privacy.errors import AccountingError
from privacy.mechanisms.pooled.event import PooledGaussian
from privacy.mechanisms.pooled.fields import field_bits
from privacy.mechanisms.pooled.hadamard import padded_size
from privacy.mechanisms.pooled.units import (
    DEVIATION_BITS,
    centre_bits,
    centre_scale,
    deviation,
)

MOST_TURNED: Final = 1 << 64
"""N^2 n stays below: then all that `share.centres_of` computes is exact."""


@dataclass(frozen=True, slots=True)
class PooledTerms:
    """Terms of a study, bound in its session digest and in every label; never a site's own choice.

    A site that finds them weaker than its policy refuses; it never resizes its own share, because
    one share that was sized for another number of colluders leaves less noise than was charged.

    `sites`: n, all of the study; 1 where each site adds all of its own noise.
    `smallest_cohort`: n_min, the fewest in a step. `noise_colluders`: n_c, sites whose shares of
    the noise may be known, at most n_min - 2. `noise_multiplier`: sigma, over C, as a coalition of
    n_c sees it. `clipping_norm`: C. `parameters`: P. `steps`: T. `spare_attempts`: A. `patients`:
    declared, of all sites together. `grid`: s, the deviation of a share in grid units where all n
    sites take part.
    Raises `AccountingError` for figures that make no mechanism.
    """

    sites: int
    smallest_cohort: int
    noise_colluders: int
    noise_multiplier: float
    clipping_norm: float
    parameters: int
    steps: int
    spare_attempts: int
    patients: int
    grid: float = 8.0

    def __post_init__(self) -> None:
        _ = self.event  # refuses what makes no mechanism
        for name, least in (("spare_attempts", 0), ("patients", 1)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= 10**9:
                raise AccountingError(f"{name} is {value!r}; it must be a whole number.")
        # Rotated, N vectors of 2^30 units in one direction have to fit into 64 bits (`turned`).
        if self.patients**2 * padded_size(self.parameters) >= MOST_TURNED:
            raise AccountingError(
                f"A rotated sum of {self.patients} patients does not fit into 64 bits.",
                "Declare fewer patients, or name fewer layers of the adapter in the study.",
            )

    @property
    def event(self) -> PooledGaussian:
        """What one step costs, whichever cohort it has."""
        return PooledGaussian(
            sampling_rate=1.0,
            noise_multiplier=self.noise_multiplier,
            clipping_norm=self.clipping_norm,
            steps=1,
            parameters=self.parameters,
            grid=self.grid,
            cohort=self.sites,
            smallest_cohort=self.smallest_cohort,
            noise_colluders=self.noise_colluders,
        )

    @property
    def most_charges(self) -> int:
        """T + A: how many events the study may charge a site for."""
        return self.steps + self.spare_attempts

    @property
    def centre_bits(self) -> int:
        """Fraction bits of a centre: 16 or 24."""
        shares = self.sites - self.noise_colluders
        return centre_bits(self.grid, self.noise_multiplier, shares, self.parameters)

    @property
    def centre_scale(self) -> int:
        """C in units of 2^-`centre_bits` of the grid's: an integer, rounded down.

        So the grid's unit is gamma = C 2^`centre_bits` / `centre_scale`.
        """
        shares = self.sites - self.noise_colluders
        return centre_scale(self.grid, self.noise_multiplier, shares, self.centre_bits)

    def deviation(self, cohort: int) -> int:
        """s(k): a share's deviation in 2^-16 of the grid's unit, rounded up.

        Raises `AccountingError` for a cohort outside n_min to n.
        """
        self._check(cohort)
        shares = cohort - self.noise_colluders
        return deviation(self.noise_multiplier, self.centre_scale, self.centre_bits, shares)

    def noise_share(self, cohort: int) -> float:
        """A share's deviation over C, as it is drawn."""
        own = self.deviation(cohort) * 2.0 ** (self.centre_bits - DEVIATION_BITS)
        return own / self.centre_scale

    @property
    def bits(self) -> int:
        """Bits of a field, of two's complement, that hold a sum of every cohort."""
        return _bits(self)

    def _check(self, cohort: int) -> None:
        if type(cohort) is not int or not self.smallest_cohort <= cohort <= self.sites:
            raise AccountingError(
                f"A step of {cohort!r} sites; the study's have {self.smallest_cohort} to "
                f"{self.sites}.",
                "Wait for more sites, or leave none of the study's out.",
            )


@lru_cache(maxsize=64)
def _bits(terms: PooledTerms) -> int:
    cohorts = range(terms.smallest_cohort, terms.sites + 1)
    shares = [(cohort, terms.deviation(cohort)) for cohort in cohorts]
    clip = Fraction(terms.centre_scale, 2**terms.centre_bits)
    return field_bits(terms.parameters, terms.patients, clip, shares)
