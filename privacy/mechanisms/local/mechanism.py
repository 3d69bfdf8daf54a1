"""The mechanism "local": every site adds all the noise that its own patients need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from privacy.dpsgd.release import Release
from privacy.events import Event
from privacy.mechanisms.base import PublicTerms
from privacy.mechanisms.local.grid import LOCAL_GRID, MOST_LOCAL_PARAMETERS
from privacy.mechanisms.pooled.event import PooledGaussian

if TYPE_CHECKING:
    from privacy.mechanisms.local.step import PoissonStep


def local_event(
    sampling_rate: float, noise_multiplier: float, clipping_norm: float, steps: int
) -> PooledGaussian:
    """What `steps` steps cost at a site that adds all of their noise: `private_gradient`'s event.

    Raises `AccountingError` for figures that make no mechanism.
    """
    return PooledGaussian(
        sampling_rate=sampling_rate,
        noise_multiplier=noise_multiplier,
        clipping_norm=clipping_norm,
        steps=steps,
        parameters=MOST_LOCAL_PARAMETERS,
        grid=LOCAL_GRID,
        cohort=1,
        smallest_cohort=1,
        noise_colluders=0,
    )


@dataclass(frozen=True, slots=True)
class LocalGaussian:
    """Poisson-subsampled DP-SGD with all the noise at every site: it holds whoever colludes."""

    NAME: ClassVar[str] = "local"
    NUMBER: ClassVar[int] = 1
    EVENT: ClassVar[type[Event]] = PooledGaussian

    terms: PublicTerms

    @classmethod
    def of(cls, terms: PublicTerms) -> Self:
        """See `Mechanism.of`."""
        return cls(terms)

    @property
    def event(self) -> PooledGaussian:
        """See `Mechanism.event`: a cohort of one, on the grid of `local_grid`."""
        terms = self.terms
        return local_event(
            terms.sampling_rate, terms.noise_multiplier, terms.clipping_norm, terms.steps
        )

    def noise_share(self, cohort: int) -> float:
        """See `Mechanism.noise_share`: all of it, however many sites there are."""
        return self.terms.noise_multiplier

    def constants(self, declared_patients: int) -> Release:
        """See `Mechanism.constants`."""
        return Release(
            clipping_norm=self.terms.clipping_norm,
            noise_multiplier=self.noise_share(self.terms.smallest_cohort),
            denominator=self.terms.sampling_rate * declared_patients,
        )

    def capacity(self, declared_patients: int) -> int:
        """See `Mechanism.capacity`."""
        from privacy.accounting.capacity import public_capacity  # its package imports scipy

        terms = self.terms
        return public_capacity(
            declared_patients, terms.sampling_rate, terms.steps * terms.attempts, terms.delta
        )

    def at_site(self, declared_patients: int) -> PoissonStep:
        """See `Mechanism.at_site`."""
        from privacy.mechanisms.local.step import PoissonStep  # imports torch

        return PoissonStep(
            self.terms.sampling_rate,
            self.capacity(declared_patients),
            self.constants(declared_patients),
        )
