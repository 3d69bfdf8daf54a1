"""What a site's policy leaves to spend: on one study, and on all of them for ever.

Pure: from the policy and the ledger's charges. The figures are charged against the worst of server,
peer, coalition and public; what each of them sees of the noise is the event's own knowledge.
What was used of a budget is no claim about what left: rounds go on or end with what was seen. The
claims are the budget itself, and a study's whole schedule.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from client.settings import Policy
from privacy.accounting.across import RenyiFilter
from privacy.accounting.fitting import rounds_that_fit
from privacy.accounting.observers import worst_of
from privacy.errors import PolicyError
from privacy.ledger import Charge, Entry, State

# A refusal tells what would have fitted at the study's sampling rate divided by these.
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

    `study` is all that may be told outside: the other one tells about other studies.
    """

    study: Outlook
    for_ever: Outlook

    @property
    def fit(self) -> bool:
        """Whether the attempt stays within both."""
        return self.study.fits and self.for_ever.fits


def budgets(policy: Policy, others: float, own: Sequence[Charge], charge: Charge) -> Budgets:
    """What `charge` would make of the site's epsilon after `own`, the charges of its study.

    `others` is what `cost_of_others` gave: how long this takes depends on the own study alone.
    """
    before, after = list(own), [*own, charge]
    return Budgets(
        Outlook(_worst(before), _worst(after), policy.study_epsilon),
        Outlook(_beside(policy, others, before), _beside(policy, others, after), policy.epsilon),
    )


def cost_of_others(policy: Policy, charges: Iterable[Charge], study: bytes) -> float:
    """What all studies but `study` (its digest) have cost: one number, in the filter's own unit.

    Epsilon where studies are summed, else the Renyi divergence at the policy's order.
    """
    others = [charge for charge in charges if charge.study_digest != study]
    if policy.across_studies == "rdp-filter":
        return lifetime_filter(policy).divergence(charge.event for charge in others)
    return lifetime_epsilon(policy, others)


def _beside(policy: Policy, others: float, own: Sequence[Charge]) -> float:
    """`lifetime_epsilon` of the charges behind `others` together with `own`."""
    if policy.across_studies == "rdp-filter":
        return lifetime_filter(policy).epsilon((charge.event for charge in own), others)
    return others + _worst(own)


def charged(entries: Iterable[Entry]) -> list[Charge]:
    """The charges of those attempts of which something may have left."""
    return [entry.charge for entry in entries if entry.state is State.COMMITTED]


def study_epsilon(charges: Iterable[Charge], study: bytes) -> float:
    """What one study, by its digest, has used of its budget, against the worst of all observers.

    Composed by PLD: the study's schedule is frozen. Infinite if anything had no noise.
    """
    return _worst([charge for charge in charges if charge.study_digest == study])


def lifetime_epsilon(policy: Policy, charges: Iterable[Charge]) -> float:
    """What is used of the budget for ever, as the policy's `across_studies` composes it."""
    known = list(charges)
    if policy.across_studies == "rdp-filter":
        return lifetime_filter(policy).epsilon(charge.event for charge in known)
    studies: dict[bytes, list[Charge]] = defaultdict(list)
    for charge in known:
        studies[charge.study_digest].append(charge)
    return math.fsum(map(_worst, studies.values()))


def lifetime_filter(policy: Policy) -> RenyiFilter:
    """The Renyi filter of a policy that names one.

    Raises `AccountingError` for an order at which nothing fits into the budget.
    """
    if policy.rdp_order is None:
        raise PolicyError("The policy names no Renyi order.", "Set rdp_order in policy.toml.")
    return RenyiFilter(policy.rdp_order, policy.epsilon, policy.delta)


def why_refused(found: Budgets) -> str:
    """The figures of a refusal, for the site's own log."""
    over = found.for_ever if found.study.fits else found.study
    whose = "all studies together: " if over is found.for_ever else ""
    return (
        f"{whose}used {over.spent:.2f}, this round would make {over.after:.2f}, budget "
        f"{over.budget:.2f}"
    )


def _worst(charges: Sequence[Charge]) -> float:
    if any(charge.event.no_privacy for charge in charges):
        return math.inf
    if not charges:
        return 0.0
    # The digest fixes delta; should they differ all the same, the smallest overstates epsilon.
    delta = min(charge.delta for charge in charges)
    return worst_of([charge.event for charge in charges], delta)[1]


def what_fits(policy: Policy, found: Budgets, charges: Sequence[Charge], charge: Charge) -> str:
    """How many rounds with fewer patients a step there would still have been room for.

    From the `charges` of all studies, and it takes as long as those do: for the log alone.
    """
    if not math.isfinite(found.for_ever.spent):
        return "nothing fits any more: something without noise has left"
    rarer = [event for factor in _SMALLER if (event := charge.event.rarer(factor)) is not None]
    for event in rarer or [charge.event]:
        rate = max(part.sampling_rate for part in event.charged)
        rounds = _rounds(policy, found, charges, replace(charge, event=event))
        if rounds:
            plural = "s" if rounds > 1 else ""
            return f"{rounds} round{plural} at q = {rate:.3g} would fit"
    return f"not one round at q = {rate:.3g} would fit"


def _rounds(policy: Policy, found: Budgets, charges: Sequence[Charge], one: Charge) -> int:
    """How many attempts like `one` both budgets still hold."""
    room = found.study.budget
    if policy.across_studies == "sum":
        others = found.for_ever.spent - found.study.spent
        room = min(room, found.for_ever.budget - others)
    spent = [charge.event for charge in charges if charge.study_digest == one.study_digest]
    most = rounds_that_fit(spent, one.event, one.delta, room)
    if policy.across_studies == "sum":
        return most
    # Epsilon grows with every round: count those that the filter admits too.
    return bisect_left(
        range(1, most + 1),
        True,
        key=lambda more: lifetime_epsilon(policy, [*charges, *[one] * more]) > policy.epsilon,
    )
