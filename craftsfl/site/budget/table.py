"""The budget in a terminal: a table of studies, and the spending over time in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from craftsfl.privacy_words import epsilon_text
from craftsfl.site.budget.statement import Line, Statement
from privacy.accounting.fitting import MOST_ROUNDS
from privacy.events import Observer

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
HEIGHT, WIDTH = 8, 56  # of the curve, in characters
BAR: Final = 10
DAY: Final = 86_400.0  # seconds; a shorter curve is labelled to the second
_COMPOSED: Final = {
    "sum": "studies are added up",
    "rdp-filter": "studies are composed by the policy's Rényi filter",
    "gdp-filter": "studies are composed by the policy's Gaussian filter: the squares of mu add up",
}


def show_table(statement: Statement, console: Console) -> None:
    """The table, the curve where something was charged, and what the figures mean."""
    console.print(_table(statement))
    for row in curve(statement):
        console.print(row, style="cyan", highlight=False, markup=False)
    console.print(_whole(statement), highlight=False, markup=False)
    if statement.present.pooled:
        console.print(observers_text(statement), highlight=False, markup=False)
    console.print(_words(statement), highlight=False, markup=False)


def _table(statement: Statement) -> Table:
    table = Table(title=f"Privacy budget of one patient at {statement.site}", title_justify="left")
    table.box, table.padding, table.pad_edge = SIMPLE_HEAD, (0, 1, 0, 0), False
    table.add_column("Study", overflow="fold")
    steps = all(line.pooled for line in statement.lines)
    for name in ("Steps" if steps else "Rounds", "Charged", "Lost", "at δ", "ε used", "of budget"):
        table.add_column(name, justify="right")
    table.add_column("", no_wrap=True)
    table.add_column("Left", justify="right")
    for line in statement.lines:
        table.add_row(
            Text(line.label),
            *map(str, (line.rounds, line.attempts, line.lost)),
            f"{line.delta:.3g}",
            *_spent(line.epsilon, line.budget),
            rounds_text(line),
        )
    table.add_section()
    sums = zip(*((line.rounds, line.attempts, line.lost) for line in statement.lines), strict=True)
    left = f"ε {max(0.0, statement.budget - statement.epsilon):.2f}"
    table.add_row(
        "lifetime",
        *map(str, map(sum, sums)),
        f"{statement.delta or statement.budget_delta:.3g}",
        *_spent(statement.epsilon, statement.budget),
        left,
    )
    return table


def _spent(epsilon: float, budget: float) -> tuple[str, str, Text]:
    return epsilon_text(epsilon), f"{budget:g}", bar(epsilon, budget)


def rounds_text(line: Line) -> str:
    """What is left of a study, in rounds (or steps) of one attempt each."""
    unit = "step" if line.pooled else "round"
    if line.rounds_left >= MOST_ROUNDS:
        return f"{MOST_ROUNDS}+ {unit}s"
    return f"{line.rounds_left} {unit}{'' if line.rounds_left == 1 else 's'}"


def bar(spent: float, budget: float) -> Text:
    """How much of `budget` is spent, as `BAR` characters; full if nothing bounds it."""
    share = 1.0 if math.isinf(spent) else min(1.0, spent / budget)
    filled = math.ceil(share * BAR)  # even a little is visible
    colour = "red" if share > 0.9 else "green"
    return Text.assemble(("█" * filled, colour), ("░" * (BAR - filled), "dim"))


def curve(statement: Statement) -> Iterator[str]:
    """Lines of text: epsilon of everything that left, over time, against the lifetime budget."""
    if not statement.points or statement.began is None:
        return
    last = statement.points[-1].time
    span = max(last - statement.began, 1e-9)
    levels = [_level(statement, statement.began + span * (x + 1) / WIDTH) for x in range(WIDTH)]
    for row in reversed(range(HEIGHT)):
        cells = (BLOCKS[max(0, min(8, round(level * HEIGHT * 8) - row * 8))] for level in levels)
        label = f"ε {statement.budget * (row + 1) / HEIGHT:6.2f}" if row % 2 else ""
        yield f"{label:>9} ┤{''.join(cells)}"
    clock = "%H:%M" if span > DAY else "%H:%M:%S"
    began, ended = _when(statement.began, clock), _when(last, clock)
    yield f"{'0':>9} └{'─' * WIDTH}"
    yield f"{'':11}{began}{ended:>{WIDTH - len(began)}}"


def _level(statement: Statement, until: float) -> float:
    """The share of the lifetime budget, 0 to 1, that was spent by `until`."""
    spent = 0.0
    for point in statement.points:
        if point.time <= until + 1e-6:
            spent = point.lifetime
    return min(1.0, spent / statement.budget)


def _when(time: float, clock: str) -> str:
    return datetime.fromtimestamp(time, UTC).strftime(f"%Y-%m-%d {clock} UTC")


def _whole(statement: Statement) -> str:
    """Whether the present study can end within the budgets, and what follows where it cannot."""
    found = statement.at_its_end
    over = found.lifetime if found.study.fits else found.study
    which = "epsilon, of all studies together," if over is found.lifetime else "study_epsilon"
    end = (
        f"{statement.present.label} to its end, with all {len(statement.schedule)} attempts: "
        f"ε {epsilon_text(found.study.after)} of its budget {found.study.budget:g}, "
        f"ε {epsilon_text(found.lifetime.after)} of {found.lifetime.budget:g} with all studies."
    )
    if found.fit:
        return f"{end} It can end within both."
    if not statement.refused:
        return f"{end} It may begin, and ends where the budget does."
    return (
        f"{end} THE AGENT REFUSES IT AT THE FIRST GREETING: {which} in policy.toml is too small. "
        "Ask for a study that costs less, raise the budget, or set allow_partial = true; the study "
        "then ends where the budget does."
    )


def observers_text(statement: Statement) -> str:
    """Who would learn how much of a pooled study's patient, and what exact noise costs."""
    figures = {who: bound_text(value) for who, value in statement.against.items()}
    broken = "charged" if Observer.MASKS_BROKEN in statement.charged else "not charged"
    return (
        f"Its noise is the sum of the sites' shares. With all {statement.schedule_words}: "
        f"ε {figures[Observer.COALITION]} against the coordinator with as many sites as the study "
        f"names, {figures[Observer.SITE]} against one other site, {figures[Observer.SERVER]} "
        f"against the coordinator alone, {figures[Observer.PUBLIC]} against whoever gets the "
        f"adapter. Masks broken: ε {figures[Observer.MASKS_BROKEN]} against whoever undoes the "
        f"masks, a quantum computer or all other sites together ({broken} by this site's policy). "
        f"That the noise is drawn on integers costs K = {statement.log_factor:.1e}, which is in "
        "these figures."
    )


def bound_text(value: float) -> str:
    """An epsilon against one observer; in words where it bounds nothing."""
    return "without bound" if math.isinf(value) else f"{value:.2f}"


def _words(statement: Statement) -> str:
    over = _COMPOSED[statement.composition]
    return (
        "The budget bounds what everything that ever leaves this hospital says about one patient, "
        f"with all of their tiles; {over}. ε used is how much of it is gone, at the δ beside it: "
        "it never comes back, and it is not a claim by itself, since whether rounds go on may "
        "depend on what was seen. A study's own claim is its whole schedule's ε (--publish). "
        "Charged: attempts from which something may have left. Lost: attempts under way or cut "
        "off, from which nothing left. That the noise was really added rests on this hospital."
    )
