"""A site's limits on everything that may be charged."""

from __future__ import annotations

from dataclasses import dataclass

from privacy.accounting.across import GaussianFilter, RenyiFilter, StudyFilter
from privacy.events import ALWAYS_CHARGED, Observer


@dataclass(frozen=True, slots=True)
class Limits:
    """What a site allows its patients to be charged, whichever studies they take part in."""

    epsilon: float  # of all studies together, permanently
    delta: float  # at which `epsilon` holds
    study_epsilon: float  # of each study
    # How studies are composed: by a Renyi filter of this order, by a Gaussian filter, or where
    # neither is set by summing (epsilon, delta).
    rdp_order: int | None = None
    gdp_filter: bool = False
    # Whether each charge also covers who undoes the masks, and sees a site's share by itself.
    masks_broken: bool = False
    allow_no_privacy: bool = False  # whether a study without noise may be charged at all
    allow_partial: bool = False  # whether one may begin that cannot end within both budgets

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Against whom each charge holds."""
        return (*ALWAYS_CHARGED, Observer.MASKS_BROKEN) if self.masks_broken else ALWAYS_CHARGED

    def over_studies(self) -> StudyFilter | None:
        """The filter that composes the studies; None where they are summed.

        Raises `AccountingError` for an order at which nothing fits into the budget.
        """
        if self.gdp_filter:
            return GaussianFilter(self.epsilon, self.delta)
        if self.rdp_order is None:
            return None
        return RenyiFilter(self.rdp_order, self.epsilon, self.delta)
