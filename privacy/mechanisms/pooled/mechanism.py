"""The mechanism "pooled": every site adds a share of one noise, and only the masked sum is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from privacy.dpsgd.release import Release
from privacy.errors import AccountingError
from privacy.events import Event
from privacy.mechanisms.base import PublicTerms
from privacy.mechanisms.pooled.event import PooledGaussian
from privacy.mechanisms.pooled.terms import PooledTerms

if TYPE_CHECKING:
    from privacy.mechanisms.base import SiteStep


@dataclass(frozen=True, slots=True)
class PooledNoise:
    """All patients in every step, and shares of one noise that n_c colluding sites do not undo."""

    NAME: ClassVar[str] = "pooled"
    NUMBER: ClassVar[int] = 2
    EVENT: ClassVar[type[Event]] = PooledGaussian

    terms: PooledTerms

    @classmethod
    def of(cls, terms: PublicTerms) -> Self:
        """See `Mechanism.of`; raises `AccountingError` for terms that do not say how to share."""
        if terms.pooled is None:
            raise AccountingError(
                "The study does not say how its noise is shared.",
                "Give it a table [pooled].",
            )
        if terms.sampling_rate != 1 or terms.steps != 1:
            raise AccountingError(
                "Where the noise is pooled, an attempt is one step over all patients.",
                "Set training.sampling_rate = 1 and training.steps = 1.",
            )
        return cls(terms.pooled)

    @property
    def event(self) -> PooledGaussian:
        """See `Mechanism.event`."""
        return self.terms.event

    def noise_share(self, cohort: int) -> float:
        """See `Mechanism.noise_share`."""
        return self.terms.noise_share(cohort)

    def constants(self, declared_patients: int) -> Release:
        """See `Mechanism.constants`: of the site's own share, where fewest sites take part."""
        return Release(
            clipping_norm=self.terms.clipping_norm,
            noise_multiplier=self.noise_share(self.terms.smallest_cohort),
            denominator=float(declared_patients),
        )

    def capacity(self, declared_patients: int) -> int:
        """See `Mechanism.capacity`: a slot for each, in every step."""
        return declared_patients

    def at_site(self, declared_patients: int) -> SiteStep:
        """Raises `AccountingError`: a trainer sums, and only the agent adds the site's share.

        A site's sum with its share alone is less private than what is charged.
        """
        raise AccountingError(
            "The noise of this study is pooled: a site alone has no private step.",
            "Ask the trainer for the clipped sum.",
        )
