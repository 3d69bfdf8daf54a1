"""The figures of a report, worked out from the evidence alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from privacy.accounting.known_to_sites import epsilon_known_to
from privacy.accounting.tradeoff import Attack, tradeoff
from privacy.audit.checks.costs import MOST_WORKED_OUT, against_each, whole_cost
from privacy.audit.evidence import Evidence
from privacy.errors import AccountingError
from privacy.events import Observer
from privacy.ledger import State
from privacy.study.manifest import Study
from privacy.study.terms import event_of, whole_schedule

RATES: Final = (0.001, 0.01, 0.05, 0.10)  # of false positives
_POINTS: Final = 24  # of a curve, where each costs a composition
_COARSE: Final = 1e-2
_SEVERAL: Final = (2, 3)
_MOST_FIGURES: Final = 6  # of more sites than these, those that are alike share one


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Epsilon against one observer after so many charged attempts."""

    observer: Observer
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """`whole` None: no ε can be worked out of this manifest, and `why` says why not."""

    whole: WholeStudy | None
    curves: list[SiteCurves]
    why: str = ""


@dataclass(frozen=True, slots=True)
class SiteCurves:
    """A site's curves, and the budget that it allows the study; None: it has not said.

    Of many sites, those with the same curves and budget share them: `name` lists them.
    """

    name: str
    curves: tuple[CostCurve, ...]
    budget: float | None


@dataclass(frozen=True, slots=True)
class WholeStudy:
    """All that the manifest allows to be charged: against whom, and what an attacker could tell.

    `known_to`: epsilon of a patient who is known to so many sites, where it can be worked out.
    """

    attempts: int
    epsilon: float
    against: dict[Observer, float]
    attacks: tuple[Attack, ...]
    known_to: dict[int, float]


def report_figures(evidence: Evidence) -> ReportFigures:
    """Of the study, as far as its manifest can be accounted for: no bundle is without a report."""
    if evidence.study.most_attempts > MOST_WORKED_OUT:
        words = f"{evidence.study.most_attempts} attempts; {MOST_WORKED_OUT} are worked out."
        return ReportFigures(None, [], words)
    try:
        return ReportFigures(whole_study(evidence.study), site_curves(evidence))
    except AccountingError as error:
        return ReportFigures(None, [], error.message)


def site_curves(evidence: Evidence) -> list[SiteCurves]:
    """For every site of the study with a ledger."""
    study, made = evidence.study, dict[int, tuple[CostCurve, ...]]()
    own = study.digest()
    alike: dict[tuple[int, float | None, str], list[str]] = {}
    shown: dict[object, tuple[tuple[CostCurve, ...], float | None]] = {}
    for site in study.sites:
        chain, said = evidence.ledgers.get(site.name), evidence.statements.get(site.name)
        if chain is None:
            continue
        count = sum(
            entry.state is State.COMMITTED and entry.key.study == own for entry in chain.entries
        )
        count = min(count, study.most_attempts)
        if count not in made:
            made[count] = _curves(study, count)
        budget = None if said is None else said.statement.limits.study_epsilon
        one = site.name if len(study.sites) <= _MOST_FIGURES else ""
        alike.setdefault((count, budget, one), []).append(site.name)
        shown[count, budget, one] = made[count], budget
    return [SiteCurves(", ".join(names), *shown[key]) for key, names in alike.items()]


def whole_study(study: Study) -> WholeStudy:
    """The figures of the whole schedule. Raises `AccountingError` as composing it does."""
    event, attempts = event_of(study), study.most_attempts
    attacks: Sequence[Attack] = [Attack(rate, 1.0) for rate in RATES]
    known_to: dict[int, float] = {}
    if not event.no_privacy:
        attacks = tradeoff(whole_schedule(study), RATES)
        mode = "pooled" if study.pools_noise else "local"
        for sites in _SEVERAL:
            try:
                known_to[sites] = epsilon_known_to(
                    sites,
                    event.times(attempts),
                    study.privacy.delta,
                    "pooled" if mode == "pooled" else "local",
                    discretization=_COARSE,
                )
            except AccountingError:
                continue
    return WholeStudy(
        attempts, whole_cost(study), against_each(study, attempts), tuple(attacks), known_to
    )


def percent_up(share: float) -> str:
    """One decimal, rounded up: a bound stays a bound."""
    return f"{min(100.0, math.ceil(share * 1000 - 1e-9) / 10):.1f} %"


def _curves(study: Study, count: int) -> tuple[CostCurve, ...]:
    stride = max(1, math.ceil(count / _POINTS))
    places = sorted({0, *range(stride, count + 1, stride), count})
    rows = {place: against_each(study, place) for place in places}
    return tuple(
        CostCurve(observer, tuple((place, rows[place][observer]) for place in places))
        for observer in Observer
    )
