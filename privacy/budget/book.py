"""The charges of a ledger, by study, and what they cost together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from privacy.budget.allowance import Allowance
from privacy.budget.cost import as_charged, study_cost
from privacy.budget.limits import Limits
from privacy.events import ALWAYS_CHARGED, Observer
from privacy.ledger import Charge, Entry, charged


@dataclass(frozen=True, slots=True)
class Book:
    """Charges of any number of studies, in the order in which the ledger holds them."""

    charges: tuple[Charge, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Book:
        """The charges of a ledger with these `entries`, from which something may have left."""
        return cls(tuple(charged(entries)))

    def studies(self) -> tuple[bytes, ...]:
        """The digests of the studies, as they came."""
        return tuple(dict.fromkeys(charge.study_digest for charge in self.charges))

    def of_study(self, study: bytes) -> tuple[Charge, ...]:
        """The charges of one study, by its digest."""
        return tuple(charge for charge in self.charges if charge.study_digest == study)

    def without(self, study: bytes) -> Book:
        """The book of all other studies."""
        return Book(tuple(charge for charge in self.charges if charge.study_digest != study))

    def study_epsilon(self, study: bytes, observers: Sequence[Observer] = ALWAYS_CHARGED) -> float:
        """What one study, by its digest, has used of its budget; infinite without noise."""
        return study_cost(self.of_study(study), observers)

    def lifetime_epsilon(self, limits: Limits) -> float:
        """What is used of the lifetime budget, as `limits` compose studies; infinite without noise.

        A filter composes all events. Otherwise the studies are summed, since
        each may be chosen after seeing the results of earlier ones (their deltas add up as well).
        """
        over_studies = limits.over_studies()
        if over_studies is not None:
            return over_studies.epsilon(as_charged(self.charges, limits.observers))
        return math.fsum(self.study_epsilon(study, limits.observers) for study in self.studies())

    def lifetime_delta(self, limits: Limits) -> float:
        """Where the lifetime epsilon holds: the filter's delta, or the sum of the studies' own."""
        if limits.over_studies() is not None:
            return limits.delta
        return math.fsum(
            min(charge.delta for charge in self.of_study(study)) for study in self.studies()
        )

    def allowance(self, limits: Limits, charge: Charge) -> Allowance:
        """What `limits` leave for more attempts at `charge`, of whose study the book may know."""
        study = charge.study_digest
        return Allowance(limits, charge, self.of_study(study), self.without(study)._cost(limits))

    def _cost(self, limits: Limits) -> float:
        """The cost in the unit that an allowance adds to: epsilon, or the filter's load."""
        over_studies = limits.over_studies()
        if over_studies is not None:
            return over_studies.load(as_charged(self.charges, limits.observers))
        return self.lifetime_epsilon(limits)
