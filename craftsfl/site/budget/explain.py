"""The same epsilon in words for an ethics board: what an attacker can and cannot find out.

The figures come from the composed privacy loss, not from epsilon alone; several studies together
have only (epsilon, delta), which says less, so their figures are higher.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from craftsfl.privacy_words import epsilon_text
from craftsfl.site.budget.statement import Statement
from privacy.accounting import Attack, Mode, tradeoff, tradeoff_at
from privacy.accounting.known_to_sites import epsilon_known_to
from privacy.budget import study_cost
from privacy.events import Event
from privacy.ledger import Charge

FALSE_POSITIVES: Final = (0.001, 0.01, 0.05, 0.10)
SEVERAL: Final = (2, 3)  # hospitals, or ids at one; a step's capacity allows for this many
_COARSE = 1e-2  # of the figures for several records: to two decimals, in a second each
_WIDTH = 96  # characters: longer lines are hard to read

SCENE: Final = """\
Imagine somebody who sees everything that ever left this hospital, who knows the model, the \
protocol and every other patient, and who holds one person's tiles. They want to tell whether \
this person's tiles were used. Whatever method they use, it also accuses some people whose tiles \
were not used. The table says how many of the people whose tiles were used they can recognise at \
most, for each share of the others whom they are willing to accuse wrongly. By guessing alone, \
without anything that left, they would recognise the same share as they accuse wrongly."""

ROUGH: Final = """\
Of the whole budget only ε and δ are known. That column holds for the worst releases that these \
two figures admit; what this software releases stays below. What was used of the budget has no \
column: whether rounds go on may depend on what was seen, and then only the whole study, and the \
budget, bound what left."""

CLAIMS: Final = """\
One person means all tiles and slides of one patient at this hospital, not one picture. The \
figures bound every attack on what left, including attacks that nobody knows yet, and they stay \
the same whatever else becomes known later. They are calculated so that errors of the \
calculation make them too high, never too low."""

NOT_CLAIMED: Final = (
    "That anybody is anonymous. Privacy is bounded here, not absolute: a patient with very "
    "unusual tissue is protected by the same figures, not by more.",
    "That the noise was really added. The figures follow from the signed ledger; that the software "
    "of this hospital did what the ledger says rests on this hospital itself.",
    "Anything about the draw of patients becoming known. That each step uses a secret random part "
    "of the patients counts in the figures; whoever can watch the agent's computer at work knows "
    "more.",
    "What the model learns of tissue in general. If many patients show a pattern, the model may "
    "show it too; it would with or without any one of them.",
)

_OWN_NOISE: Final = "and each of them releases, with noise of its own."
_ONE_SUM: Final = "and all of them are in one sum, under one noise."


@dataclass(frozen=True, slots=True)
class AttackCase:
    """One column: a state of the budget, and the best attack on it at each false-positive rate."""

    name: str
    epsilon: float
    attacks: tuple[Attack, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `--explain` shows.

    `known_to` maps a number of hospitals to epsilon, `known_under` a number of ids at this one.
    """

    cases: tuple[AttackCase, ...]
    known_to: dict[int, float]
    known_under: dict[int, float]


def explanation(statement: Statement) -> Explanation:
    """All figures of `--explain`; takes the accountant about a second."""
    return Explanation(
        tuple(_cases(statement)),
        # Where the noise is pooled, several hospitals' records are in one sum under one noise too.
        _several(statement, "pooled" if statement.present.pooled else "local"),
        _several(statement, "pooled"),
    )


def show_explanation(statement: Statement, explained: Explanation, console: Console) -> None:
    """Print it, in paragraphs."""
    console.print(
        f"\n[bold]What ε says about one patient of {statement.site}[/]\n", highlight=False
    )
    _paragraph(console, SCENE)
    console.print(_table(explained.cases, _width(console)))
    _paragraph(console, _example(explained.cases[0]))
    _paragraph(console, ROUGH)
    _paragraph(console, CLAIMS)
    if explained.known_to:
        _paragraph(
            console,
            "A patient who was treated at several hospitals of the study is in the data of each, "
            f"{_ONE_SUM if statement.present.pooled else _OWN_NOISE} If this study is used to its "
            f"end: {_figures(explained.known_to, 'known to')} hospitals.",
        )
        _paragraph(
            console,
            "A person whom this hospital knows under several patient ids is drawn and clipped once "
            f"for each of them, and one noise covers them all: that costs "
            f"{'as much as' if statement.present.pooled else 'more than'} several hospitals do. If "
            "this study is used to its end: "
            f"{_figures(explained.known_under, 'known here under')} ids.",
        )
    console.print("[bold]What is not claimed[/]", highlight=False)
    for text in NOT_CLAIMED:
        _item(console, text)


def _cases(statement: Statement) -> Iterator[AttackCase]:
    """What can be claimed: a whole study, the whole budget. Of what was used, nothing can."""
    present, budget = statement.present, statement.budget
    if statement.planned and not any(event.no_privacy for event in statement.planned):
        planned = [Charge(present.digest, event, present.delta) for event in statement.planned]
        at_its_end = study_cost(planned)
        yield AttackCase(f"{present.label} to its end", at_its_end, _attacks(statement.planned))
    if math.isinf(statement.epsilon):
        yield AttackCase(
            "what left without noise", statement.epsilon, _at(statement.epsilon, statement.delta)
        )
    yield AttackCase("the whole budget", budget, _at(budget, statement.budget_delta))


def _attacks(events: Sequence[Event]) -> tuple[Attack, ...]:
    return tuple(tradeoff(events, FALSE_POSITIVES))


def _at(epsilon: float, delta: float) -> tuple[Attack, ...]:
    return tuple(tradeoff_at(epsilon, delta, FALSE_POSITIVES))


def _several(statement: Statement, mode: Mode) -> dict[int, float]:
    """Epsilon of the present study, used to its end, for a person with several records.

    "local": at as many hospitals, each with its noise. "pooled": in one sum, under one noise.
    """
    planned = statement.planned
    if len(set(planned)) != 1 or planned[0].no_privacy:
        return {}
    whole = planned[0].times(len(planned))
    delta = statement.present.delta
    return {
        records: epsilon_known_to(records, whole, delta, mode, discretization=_COARSE)
        for records in SEVERAL
    }


def _figures(of: dict[int, float], known: str) -> str:
    return ", ".join(
        f"ε {value:.2f} for a patient {known} {number}" for number, value in of.items()
    )


def _table(cases: Sequence[AttackCase], width: int) -> Table:
    table = Table(title="Recognised at most, of those whose tiles were used", width=width)
    table.add_column("wrongly accused,\nof the others", justify="right")
    for case in cases:
        table.add_column(f"{case.name}\n(ε = {epsilon_text(case.epsilon)})", justify="right")
    for row, rate in enumerate(FALSE_POSITIVES):
        table.add_row(percent(rate), *(percent(case.attacks[row].tpr) for case in cases))
    return table


def _example(case: AttackCase) -> str:
    attack = case.attacks[FALSE_POSITIVES.index(0.01)]
    found = min(100.0, 100 * attack.tpr)
    return (
        f"For instance ({case.name}): if they accept accusing 1 of 100 people wrongly, they "
        f"recognise at most {math.ceil(found)} of 100 people whose tiles were used; the others "
        "stay unrecognised."
    )


def percent(share: float) -> str:
    """One decimal, rounded up: a bound stays a bound."""
    return f"{min(100.0, math.ceil(share * 1000 - 1e-9) / 10):.1f} %"


def _width(console: Console) -> int:
    return min(_WIDTH, console.width)


def _item(console: Console, text: str) -> None:
    if console.soft_wrap:  # a pipe, where a Padding would cut the line at its width
        console.print(f"  - {text}", highlight=False, markup=False)
    else:
        console.print(Padding(f"- {text}", (0, 0, 0, 2)), width=_width(console), highlight=False)


def _paragraph(console: Console, text: str) -> None:
    console.print(text, width=_width(console), highlight=False, markup=False)
    console.print()
