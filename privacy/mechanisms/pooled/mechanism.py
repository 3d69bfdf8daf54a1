"""The mechanism "pooled": the sites of a cohort add shares of one noise, under masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NoReturn, Self

from privacy.dpsgd.release import Release
from privacy.errors import ConfigError
from privacy.events import Event
from privacy.mechanisms.pooled.event import PooledGaussian
from privacy.mechanisms.pooled.terms import PooledTerms

if TYPE_CHECKING:
    from privacy.mechanisms.base import PublicTerms


@dataclass(frozen=True, slots=True)
class PooledNoise:
    """All patients in every step, and noise that no site adds enough of on its own.

    It holds for a sum over at least n_min sites against n_c of them, as long as the masks do.
    """

    NAME: ClassVar[str] = "pooled"
    NUMBER: ClassVar[int] = 2
    EVENT: ClassVar[type[Event]] = PooledGaussian

    terms: PooledTerms

    @classmethod
    def of(cls, terms: PublicTerms) -> Self:
        """See `Mechanism.of`; raises `ConfigError` for a study without terms of pooled noise."""
        if terms.pooled is None:
            raise ConfigError(
                "A study whose noise is pooled needs the table [pooled].",
                "Write it into study.toml, or set privacy.mechanism to local.",
            )
        return cls(terms.pooled)

    @property
    def event(self) -> PooledGaussian:
        """See `Mechanism.event`: one step, whichever cohort it has."""
        return self.terms.event

    def noise_share(self, cohort: int) -> float:
        """See `Mechanism.noise_share`: a share, which alone is not enough."""
        return self.terms.noise_share(cohort)

    def constants(self, declared_patients: int) -> Release:
        """See `Mechanism.constants`, of the smallest cohort."""
        return Release(
            clipping_norm=self.terms.clipping_norm,
            noise_multiplier=self.noise_share(self.terms.smallest_cohort),
            denominator=float(declared_patients),
        )

    def capacity(self, declared_patients: int) -> int:
        """See `Mechanism.capacity`: every patient has a place, and nobody else has."""
        return declared_patients

    def at_site(self, declared_patients: int) -> NoReturn:
        """There is no such step: a site adds up clipped gradients, and its agent draws the noise.

        Raises `ConfigError`; see `RoundTrainer.clipped_sum` and `privacy.mechanisms.pooled.share`.
        """
        raise ConfigError(
            "A site of a pooled study has no optimiser: its steps are sums of clipped gradients.",
            "Ask the trainer for the clipped sum.",
        )
