"""A study's epsilon as it is published: of its whole schedule, confirmed by a second accountant.

Never of what was charged: whether rounds go on may depend on what was seen, and exact composition
holds for a schedule that was fixed in advance. The whole schedule was, and is a bound however the
study ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.console import Console

from craftsfl.site.budget.statement import Statement
from craftsfl.site.budget.table import bound_text
from privacy.accounting import released_epsilon
from privacy.accounting.release import Released
from privacy.errors import AccountingError
from privacy.events import Observer


@dataclass(frozen=True, slots=True)
class Published:
    """The figure of the present study, of all `attempts` that its manifest allows.

    Against the worst of those who are always charged. `masks_broken`: epsilon against who undoes
    the masks of a pooled study; None for other studies, where it is the same.
    """

    study: str
    delta: float
    attempts: int
    figure: Released
    schedule: str
    log_factor: float  # K, which is in all figures
    masks_broken: float | None = None


def published(statement: Statement) -> tuple[Published, ...]:
    """The figure of the present study, once something was charged, and all of it with noise.

    Others' schedules are in their own manifests. Raises `AccountingError` if the two accountants
    disagree, if the second is not installed, and if more was charged than the manifest allows: then
    its schedule is not a bound.
    """
    line = statement.present
    if not line.events or math.isinf(line.epsilon):
        return ()
    if line.attempts > len(statement.schedule) or not set(line.events) <= statement.allowed:
        raise AccountingError(
            f"The ledger holds charges of {line.label} that its manifest does not allow.",
            "No figure can be published; keep the ledger and find out who changed the agent.",
        )
    # What is still to come is charged as now; an agent may have been older when it charged.
    whole = (*line.events, *statement.schedule[line.attempts :])
    figure = released_epsilon(whole, line.delta)
    broken = statement.against[Observer.MASKS_BROKEN] if line.pooled else None
    return (
        Published(
            study=line.label,
            delta=line.delta,
            attempts=len(statement.schedule),
            figure=figure,
            schedule=statement.schedule_words,
            log_factor=statement.log_factor,
            masks_broken=broken,
        ),
    )


def show_published(statement: Statement, figures: tuple[Published, ...], console: Console) -> None:
    """The figure with its explanation, and which studies have none here."""
    for text in (*map(_words, figures), *_others(statement)):
        console.print(text, highlight=False, markup=False)
    if not figures:
        console.print("There is nothing to publish: nothing was charged with noise.")


def _words(item: Published) -> str:
    figure = item.figure
    return (
        f"For publication, {item.study}: ε = {figure.epsilon:.4f} at δ = {item.delta:g}, of the "
        f"whole schedule ({item.attempts} attempts: {item.schedule}). The first accountant gives "
        f"{figure.first:.4f}, opacus' PRV accountant {figure.second:.4f}; they agree within "
        f"{figure.tolerance:.4f}.{_pooled(item)} It holds however early the study ends. What was "
        "used of the budget is not published: whether rounds go on may depend on what was seen, "
        "and then the ε of those that were run bounds nothing."
    )


def _pooled(item: Published) -> str:
    """What else has to be said of a study whose noise is shared."""
    if item.masks_broken is None:
        return ""
    return (
        " It is against the coordinator with as many sites as the study names, and rests on masks: "
        f"against whoever undoes them, ε = {bound_text(item.masks_broken)}. The noise is drawn on "
        f"integers, and K = {item.log_factor:.1e} of that is included."
    )


def _others(statement: Statement) -> list[str]:
    return [
        f"Not published, {line.label}: its schedule is in its own study.toml; ask with the "
        "settings of that study."
        for line in statement.lines[1:]
        if line.events
    ]
