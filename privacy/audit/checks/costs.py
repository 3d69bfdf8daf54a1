"""Every epsilon, worked out again from the events in the ledgers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from privacy.accounting import epsilon_for
from privacy.accounting.bounds import largest_delta
from privacy.audit.evidence import Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.audit.statement import SiteStatement
from privacy.budget import Book, Limits, study_cost
from privacy.errors import AccountingError
from privacy.events import Event, Observer
from privacy.ledger import Charge
from privacy.study.manifest import Site, Study
from privacy.study.terms import event_of, events_of, whole_schedule

SAME: Final = 1e-9  # relative: two figures this close are the same, computed elsewhere
MOST_WORKED_OUT: Final = 1_000_000  # of a study
MOST_STUDIES: Final = 64  # of one ledger: each costs a composition
MOST_EVENTS: Final = 64  # of one ledger: each costs a distribution of its own


@dataclass(frozen=True, slots=True)
class SiteCost:
    """What a site's ledger has charged: of the study against each observer, and of its lifetime.

    `charges`: how many of the study. Infinite without noise; NaN where it was not worked out.
    """

    site: str
    charges: int
    study: float
    lifetime: float
    against: Mapping[Observer, float]
    claimed: float
    budget: float
    lifetime_claimed: float
    lifetime_budget: float
    lifetime_delta: float  # at which `lifetime` holds


def check_costs(evidence: Evidence) -> tuple[list[SiteCost], list[AuditFailure]]:
    """The costs of all sites with a ledger and a statement, and what does not hold of them."""
    costs: list[SiteCost] = []
    failures: list[AuditFailure] = []
    allowed, known = events_of(evidence.study), _KnownCosts(evidence.study)
    for site in evidence.study.sites:
        chain, signed = evidence.ledgers.get(site.name), evidence.statements.get(site.name)
        if chain is None or signed is None:
            continue
        book = Book.of(chain.entries)
        found = list(_odd(evidence.study, site.name, book, allowed))
        failures += found
        if found:
            continue  # nothing is composed of what is not the study's: it may take for ever
        failures += _deltas(evidence.study, site, book, signed.statement.limits)
        try:
            cost = known.cost(site.name, book, signed.statement)
        except AccountingError as error:
            failures.append(failure(Flaw.EPSILON, error.message, site.name))
            continue
        costs.append(cost)
        failures += _compared(cost)
    return costs, failures


def check_claims(evidence: Evidence) -> Iterator[AuditFailure]:
    """What the adapter's file claims for the whole study is no less than its schedule costs."""
    if evidence.study.most_attempts > MOST_WORKED_OUT:
        words = f"{evidence.study.most_attempts} attempts; {MOST_WORKED_OUT} are worked out."
        yield failure(Flaw.TOO_LARGE, words)
        return
    whole = whole_cost(evidence.study)
    for number, run in evidence.runs.items():
        if run.record.released and _below(run.record.epsilon, whole):
            words = (
                f"ε {run.record.epsilon:.6g} is claimed for the whole study, and its schedule "
                f"costs {whole:.6g}."
            )
            yield failure(Flaw.EPSILON, words, run=number)


@lru_cache(maxsize=16)
def whole_cost(study: Study) -> float:
    """Epsilon of all that the study may ever charge a site for; infinite without noise."""
    digest, delta = study.digest(), study.privacy.delta
    return study_cost([Charge(digest, event, delta) for event in whole_schedule(study)])


def against_each(study: Study, count: int) -> dict[Observer, float]:
    """Epsilon of `count` attempts against each observer."""
    event = event_of(study)
    if event.no_privacy or not count:
        return dict.fromkeys(Observer, math.inf if count else 0.0)
    events = [event] * count
    return {who: epsilon_for(who, events, study.privacy.delta) for who in Observer}


def _odd(study: Study, site: str, book: Book, allowed: frozenset[Event]) -> Iterator[AuditFailure]:
    own = book.of_study(study.digest())
    for charge in dict.fromkeys(own):
        if charge.event not in allowed:
            words = f"Charged as {charge.event.to_json()}, which is not the study's mechanism."
            yield failure(Flaw.EVENT, words, site)
        if charge.delta != study.privacy.delta:
            words = f"Charged at delta {charge.delta:g}; the study's is {study.privacy.delta:g}."
            yield failure(Flaw.EVENT, words, site)
    if len(own) > study.most_attempts:
        words = f"{len(own)} attempts were charged; the manifest allows {study.most_attempts}."
        yield failure(Flaw.SCHEDULE, words, site)
    studies, events = len(book.studies()), len({charge.event for charge in book.charges})
    if studies > MOST_STUDIES:
        words = f"The ledger holds {studies} studies; {MOST_STUDIES} are worked out."
        yield failure(Flaw.TOO_LARGE, words, site)
    if events > MOST_EVENTS:
        words = f"The ledger holds {events} kinds of charges; {MOST_EVENTS} are worked out."
        yield failure(Flaw.TOO_LARGE, words, site)


def _deltas(study: Study, site: Site, book: Book, limits: Limits) -> Iterator[AuditFailure]:
    """No site takes part at a larger δ than its agent would: ε at a large one says nothing."""
    largest = largest_delta(site.declared_patients)
    whole = book.lifetime_delta(limits)
    for what, found, most in (
        ("The study's δ is", study.privacy.delta, largest),
        ("The δ of its budget for all studies is", limits.delta, largest),
        ("The δ of all its studies together is", whole, limits.delta),
    ):
        if not found <= most * (1 + SAME):
            words = f"{what} {found:g}; at most {most:g} is allowed."
            yield failure(Flaw.BUDGET, words, site.name)


class _KnownCosts:
    """Costs by what was charged: in most studies all sites have charged the same."""

    def __init__(self, study: Study) -> None:
        self._study, self._digest = study, study.digest()
        self._found: dict[object, tuple[float, float, Mapping[Observer, float]]] = {}

    def cost(self, site: str, book: Book, said: SiteStatement) -> SiteCost:
        """What the site's book comes to; raises `AccountingError`."""
        limits, own = said.limits, book.of_study(self._digest)
        key = (limits, tuple(Counter(book.charges).items()))
        if key not in self._found:
            self._found[key] = (
                book.study_epsilon(self._digest, limits.observers),
                book.lifetime_epsilon(limits),
                against_each(self._study, len(own)),
            )
        of_study, lifetime, against = self._found[key]
        return SiteCost(
            site=site,
            charges=len(own),
            study=of_study,
            lifetime=lifetime,
            against=against,
            claimed=said.epsilon,
            budget=limits.study_epsilon,
            lifetime_claimed=said.lifetime,
            lifetime_budget=limits.epsilon,
            lifetime_delta=book.lifetime_delta(limits),
        )


def _compared(cost: SiteCost) -> Iterator[AuditFailure]:
    pairs = (
        ("of this study", cost.study, cost.claimed, cost.budget),
        ("of all studies", cost.lifetime, cost.lifetime_claimed, cost.lifetime_budget),
    )
    for what, found, claimed, budget in pairs:
        if _below(claimed, found):
            words = f"It claims ε {claimed:.6g} {what}, and its events give {found:.6g}."
            yield failure(Flaw.EPSILON, words, cost.site)
        if _below(budget, found):
            words = f"ε {found:.6g} {what} is beyond the budget of {budget:g}."
            yield failure(Flaw.BUDGET, words, cost.site)


def _below(claimed: float, found: float) -> bool:
    return not claimed >= found * (1 - SAME) if math.isfinite(found) else claimed != found
