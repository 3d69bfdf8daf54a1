"""The cheapest change that would mend a plan: what costs nobody anything is tried first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from craftsfl.planning.plan import Known, StudyPlan, planned
from craftsfl.planning.recovery import MOST
from craftsfl.planning.request import DEFAULT_EPSILON, PlanRequest, default_delta
from privacy.study.manifest import Adapter

_EPSILON_STEP: Final = 0.5
_PATIENTS_STEP: Final = 10
_MOST_PATIENTS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class PlanChange:
    """`words`: what to change; `option`: how to ask for it; `plan`: what it leads to."""

    words: str
    option: str
    plan: StudyPlan


def cheapest_change(plan: StudyPlan) -> PlanChange | None:
    """The first change by which at least half is recovered; None where that is so already.

    In this order: an adapter with fewer numbers, if it teaches more in all; fewer colluders;
    epsilon up to 8; and patients, which always help.
    """
    if plan.pooled.lesson == "most":
        return None
    found = (change for change in _changes(plan) if change.plan.pooled.lesson == "most")
    return next(found, None)


def _changes(plan: StudyPlan) -> Iterator[PlanChange]:
    yield from _smaller_adapters(plan)
    asked, known = plan.asked, plan.known
    for colluders in reversed(range(asked.colluders)):
        yield PlanChange(
            f"noise that withstands {colluders} colluding sites instead of {asked.colluders}",
            f"--colluders {colluders}",
            planned(replace(asked, colluders=colluders), known),
        )
    first = math.floor(asked.epsilon / _EPSILON_STEP) + 1
    for number in range(first, round(DEFAULT_EPSILON / _EPSILON_STEP) + 1):
        epsilon = number * _EPSILON_STEP
        yield PlanChange(
            f"an ε of {epsilon:g} instead of {asked.epsilon:g}",
            f"--epsilon {epsilon:g}",
            planned(replace(asked, epsilon=epsilon), known),
        )
    more = more_patients(plan)
    if more is not None:
        yield more


def _smaller_adapters(plan: StudyPlan) -> Iterator[PlanChange]:
    """Rehearsed ones, where what is learnt in all is more: a small adapter can express less."""
    known = plan.known
    if not known.rehearsed:
        return
    gained = plan.pooled.share.middle * known.layout.reference
    for layout in known.table.layouts:
        if layout.parameters >= plan.asked.parameters:
            continue
        adapter = Adapter(
            targets=layout.targets, rank=layout.rank, alpha=float(layout.rank), frozen_a=True
        )
        smaller = replace(plan.asked, adapter=adapter, parameters=layout.parameters)
        other = planned(smaller, _of_layout(known, layout.name))
        if other.pooled.share.middle * layout.reference > gained:
            yield PlanChange(
                f"an adapter of {layout.parameters} numbers instead of {plan.asked.parameters}, "
                f"which can express {layout.reference / known.layout.reference:.0%} of it",
                f"--layout {layout.name}",
                other,
            )


def _of_layout(known: Known, name: str) -> Known:
    layout = known.table.layout(name)
    return replace(known, layout=layout, clipping_norm=layout.small_clip())


def more_patients(plan: StudyPlan) -> PlanChange | None:
    """As many more at every site as half of it takes; None where no country has so many."""
    needed = plan.known.recovery.snr_for(MOST) / plan.pooled.snr
    while needed * plan.asked.patients <= _MOST_PATIENTS:
        asked = _more(plan.asked, needed)
        other = planned(asked, plan.known)
        if other.pooled.lesson == "most":
            break
        needed *= 1.02  # delta falls with N, so that sigma grows a little
    else:
        return None
    return PlanChange(
        f"{asked.patients} patients instead of {plan.asked.patients}",
        " ".join(f"--site {site.name}={site.declared_patients}" for site in asked.sites),
        other,
    )


def _more(asked: PlanRequest, factor: float) -> PlanRequest:
    def grown(patients: int) -> int:
        return _PATIENTS_STEP * math.ceil(patients * factor / _PATIENTS_STEP)

    sites = tuple(
        site.model_copy(update={"declared_patients": grown(site.declared_patients)})
        for site in asked.sites
    )
    return replace(asked, sites=sites, delta=min(asked.delta, default_delta(sites)))
