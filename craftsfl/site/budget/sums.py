"""What a policy makes of charges beyond the agent's own figures: delta, and the rounds left."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace

from client.agent.budget import lifetime_epsilon, study_epsilon
from client.settings import Policy
from privacy.accounting import rounds_that_fit
from privacy.events import Event
from privacy.ledger import Charge


def total_delta(policy: Policy, charges: Sequence[Charge]) -> float:
    """Where the lifetime epsilon holds: the sum of the studies' deltas, or the filter's own."""
    if policy.across_studies == "rdp-filter":
        return policy.delta
    studies = {charge.study_digest for charge in charges}
    return math.fsum(smallest_delta(of_study(charges, study)) for study in studies)


def rounds_left(policy: Policy, charges: Sequence[Charge], like: Charge) -> int:
    """How many more attempts `like` this one the budgets of study and site admit."""
    if any(charge.event.no_privacy for charge in (*charges, like)):
        return 0
    own = of_study(charges, like.study_digest)
    room = policy.study_epsilon
    if policy.across_studies == "sum":
        study = study_epsilon(own, like.study_digest)
        room = min(room, policy.epsilon - (lifetime_epsilon(policy, charges) - study))
    most = rounds_that_fit(events_of(own), like.event, like.delta, room)
    if policy.across_studies == "sum":
        return most

    def passes(more: int) -> bool:
        """Whether the filter refuses `more` rounds; if so, it refuses any larger number."""
        whole = replace(like, event=like.event.times(more))
        return lifetime_epsilon(policy, [*charges, whole]) > policy.epsilon

    return bisect_left(range(1, most + 1), True, key=passes)


def of_study(charges: Iterable[Charge], study: bytes) -> list[Charge]:
    """The charges of one study, by its digest."""
    return [charge for charge in charges if charge.study_digest == study]


def events_of(charges: Iterable[Charge]) -> tuple[Event, ...]:
    """The mechanisms that were charged."""
    return tuple(charge.event for charge in charges)


def smallest_delta(charges: Iterable[Charge]) -> float:
    """A study's digest fixes its delta; should they differ all the same, the smallest is safe."""
    return min(charge.delta for charge in charges)
