"""What a site's limits leave to one study.

What was used of a budget is not a claim about what left: whether rounds go on may depend on what
was seen. The claims are the budget itself, and a study's whole schedule.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from privacy.accounting.fitting import rounds_that_fit
from privacy.budget.cost import as_charged, study_cost
from privacy.budget.limits import Limits
from privacy.ledger import Charge

# A refusal names what would have fitted at the study's sampling rate divided by these.
_SMALLER: Final = (2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Epsilon against one budget: before and after an attempt."""

    spent: float
    after: float
    budget: float

    @property
    def fits(self) -> bool:
        """Whether the attempt stays within the budget."""
        return self.after <= self.budget


@dataclass(frozen=True, slots=True)
class Budgets:
    """Both budgets that an attempt at a round of one study has to stay within.

    Only `study` may leave the site: the other one would disclose other studies.
    """

    study: Outlook
    lifetime: Outlook

    @property
    def fit(self) -> bool:
        """Whether the attempt stays within both."""
        return self.study.fits and self.lifetime.fits

    def figures(self) -> str:
        """Those of the budget that the attempt would exceed, for the site's own log."""
        over = self.lifetime if self.study.fits else self.study
        whose = "all studies together: " if over is self.lifetime else ""
        return (
            f"{whose}used {over.spent:.2f}, this round would make {over.after:.2f}, budget "
            f"{over.budget:.2f}"
        )


@dataclass(frozen=True, slots=True)
class Allowance:
    """What `limits` leave for more attempts at `charge`, after the charges `own` of its study.

    `others` is what all other studies have cost, as one number in the unit that the limits add up:
    epsilon where studies are summed, else the filter's load. So how long any answer here takes
    depends on the study's own charges alone.
    """

    limits: Limits
    charge: Charge
    own: tuple[Charge, ...]
    others: float

    @property
    def spent(self) -> float:
        """Epsilon used by the study, against those who are charged at every site.

        What a site says of itself: it does not depend on its policy.
        """
        return study_cost(self.own)

    def next(self) -> Budgets:
        """What one more attempt would make of both budgets."""
        return self.after(1)

    def after(self, more: int) -> Budgets:
        """What `more` further attempts would make of both budgets."""
        before, limits = self.own, self.limits
        after = (*before, *[self.charge] * more)
        spent, then = (study_cost(charges, limits.observers) for charges in (before, after))
        return Budgets(
            Outlook(spent, then, limits.study_epsilon),
            Outlook(self._lifetime(before), self._lifetime(after), limits.epsilon),
        )

    def rounds_left(self) -> int:
        """How many more attempts both budgets admit; 0 where anything had no noise."""
        paid, limits = (*self.own, self.charge), self.limits
        if any(charge.event.no_privacy for charge in paid) or math.isinf(self.others):
            return 0
        summed = limits.over_studies() is None
        room = limits.study_epsilon
        if summed:
            room = min(room, limits.epsilon - self.others)
        *own, one = as_charged(paid, limits.observers)
        most = rounds_that_fit(own, one, self.charge.delta, room)
        if summed:
            return most

        def exceeds(more: int) -> bool:
            """Whether the filter refuses `more` attempts; if so, also any larger number."""
            return self._lifetime((*self.own, *[self.charge] * more)) > limits.epsilon

        return bisect_left(range(1, most + 1), True, key=exceeds)

    def what_would_fit(self) -> str:
        """How many rounds with fewer patients a step there would still be room for, in words."""
        if not math.isfinite(self._lifetime(self.own)):
            return "nothing fits any more: something without noise has left"
        one = self.charge.event
        rarer = [event for factor in _SMALLER if (event := one.rarer(factor)) is not None]
        for event in rarer or [one]:
            rate = max(part.sampling_rate for part in event.charged)
            rounds = replace(self, charge=replace(self.charge, event=event)).rounds_left()
            if rounds:
                plural = "s" if rounds > 1 else ""
                return f"{rounds} round{plural} at q = {rate:.3g} would fit"
        return f"not one round at q = {rate:.3g} would fit"

    def _lifetime(self, own: Sequence[Charge]) -> float:
        """The lifetime epsilon with `own` as the study's charges."""
        limits = self.limits
        over_studies = limits.over_studies()
        if over_studies is not None:
            return over_studies.epsilon(as_charged(own, limits.observers), self.others)
        return self.others + study_cost(own, limits.observers)
