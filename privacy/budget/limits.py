"""A site's limits on everything that may be charged."""

from __future__ import annotations

from dataclasses import dataclass

from privacy.accounting.across import RenyiFilter


@dataclass(frozen=True, slots=True)
class Limits:
    """What a site allows its patients to be charged, whichever studies they take part in."""

    epsilon: float  # of all studies together, permanently
    delta: float  # at which `epsilon` holds
    study_epsilon: float  # of each study
    # How studies are composed: None sums (epsilon, delta), a number is a Renyi filter's order.
    rdp_order: int | None = None
    allow_no_privacy: bool = False  # whether a study without noise may be charged at all
    allow_partial: bool = False  # whether one may begin that cannot end within both budgets

    def renyi_filter(self) -> RenyiFilter | None:
        """The filter that composes the studies; None where they are summed.

        Raises `AccountingError` for an order at which nothing fits into the budget.
        """
        if self.rdp_order is None:
            return None
        return RenyiFilter(self.rdp_order, self.epsilon, self.delta)
