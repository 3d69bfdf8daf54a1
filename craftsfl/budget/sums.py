"""What a policy makes of charges: epsilon of a study, of all studies, and the rounds left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from privacy.accounting.across import RenyiFilter

from client.settings import Policy
from privacy.accounting import epsilon, rounds_that_fit
from privacy.events import Event
from privacy.ledger import Charge

Studies = Mapping[bytes, Sequence[Charge]]  # charges by their study's digest


class Sums:
    """The accountant as a policy uses it: PLD within a study, over studies as the policy says.

    Epsilons are infinite where a charge had no noise, and 0 where there is none.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._filter = None
        if policy.across_studies == "rdp-filter" and policy.rdp_order is not None:
            self._filter = RenyiFilter(policy.rdp_order, policy.epsilon, policy.delta)

    def study(self, charges: Sequence[Charge]) -> float:
        """Epsilon of one study, at the smallest delta of its charges."""
        if any(charge.event.no_privacy for charge in charges):
            return math.inf
        return epsilon(events_of(charges), smallest_delta(charges)) if charges else 0.0

    def lifetime(self, studies: Studies) -> float:
        """Epsilon of all studies together, at `delta`."""
        each = [self.study(charges) for charges in studies.values()]
        if self._filter is None or math.inf in each or not studies:
            return math.fsum(each)
        return self._filter.epsilon(_all_events(studies))

    def delta(self, studies: Studies) -> float:
        """Where `lifetime` holds: the sum of the studies' deltas, or the filter's own."""
        if self._filter is not None:
            return self._policy.delta
        return math.fsum(smallest_delta(charges) for charges in studies.values())

    def rounds_left(self, studies: Studies, like: Charge) -> int:
        """How many more attempts `like` this one the budgets of study and site admit."""
        if any(math.isinf(self.study(charges)) for charges in studies.values()):
            return 0
        own = events_of(studies.get(like.study_digest, ()))
        budget = self._policy.study_epsilon
        if self._filter is None:
            others = [group for digest, group in studies.items() if digest != like.study_digest]
            budget = min(budget, self._policy.epsilon - math.fsum(map(self.study, others)))
        fitting = rounds_that_fit(own, like.event, like.delta, budget)
        if self._filter is None or fitting == 0:
            return fitting
        spent, admits = _all_events(studies), self._filter.admits
        return _most(fitting, lambda rounds: admits([*spent, times(like.event, rounds)]))


def events_of(charges: Iterable[Charge]) -> tuple[Event, ...]:
    """The mechanisms that were charged."""
    return tuple(charge.event for charge in charges)


def times(event: Event, rounds: int) -> Event:
    """`rounds` >= 1 events as one: steps of one mechanism add up."""
    return replace(event, steps=event.steps * rounds)


def smallest_delta(charges: Iterable[Charge]) -> float:
    """A study's digest fixes its delta; should they differ all the same, the smallest is safe."""
    return min(charge.delta for charge in charges)


def _all_events(studies: Studies) -> tuple[Event, ...]:
    return tuple(event for charges in studies.values() for event in events_of(charges))


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest n <= `limit` that fits, where all below it fit too; 0 if none does."""
    low, high = 0, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
