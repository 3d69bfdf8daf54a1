"""A plan in a terminal: the verdict, a bar for each way to train, and the figures behind it."""

from __future__ import annotations

from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from craftsfl.planning.plan import PlannedMode, StudyPlan
from craftsfl.planning.words import (
    bytes_words,
    grounds_words,
    mending_words,
    time_words,
    verdict_words,
)

_BAR: Final = 24  # characters for everything that noise-off training would teach
_NAMES: Final = {"alone": "largest site alone", "local": "each its own noise", "pooled": "together"}
_COLOURS: Final = {"nothing": "red", "part": "yellow", "most": "green"}


def show_plan(plan: StudyPlan, console: Console) -> None:
    """Everything that `craftsfl rounds plan` prints."""
    console.print(_asked(plan), highlight=False, markup=False)
    console.print(_bars(plan))
    say = Text(verdict_words(plan), style=f"bold {_COLOURS[plan.pooled.lesson]}")
    console.print(say)
    for text in (mending_words(plan), grounds_words(plan)):
        if text:
            console.print(text, highlight=False, markup=False)
    console.print(_figures(plan))
    for text in _notes(plan):
        console.print(text, highlight=False, markup=False)


def _asked(plan: StudyPlan) -> str:
    asked = plan.asked
    return (
        f"{len(asked.sites)} sites, {asked.patients} patients; {asked.parameters} numbers trained; "
        f"ε {asked.epsilon:g} at δ {asked.delta:g}; {asked.steps} steps, of which "
        f"{asked.spare_attempts} may be lost and tried again; noise withstands {asked.colluders} "
        f"colluding site{'' if asked.colluders == 1 else 's'}"
    )


def _bars(plan: StudyPlan) -> Table:
    """█ what is learnt at least, ▒ what may be, of what noise-off training would teach."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False, pad_edge=False)
    for mode in plan.modes:
        bar = _bar(mode)
        table.add_row(_NAMES[mode.noise.mode], bar, f"{mode.share.middle:.2f}")
    table.add_row("all data, no noise", Text("█" * _BAR, "dim"), "1.00")
    return table


def _bar(mode: PlannedMode) -> Text:
    low, high = (round(_BAR * share) for share in (mode.share.low, mode.share.high))
    colour = _COLOURS[mode.lesson]
    return Text.assemble(
        ("█" * low, colour), ("▒" * (high - low), colour), ("░" * (_BAR - high), "dim")
    )


def _figures(plan: StudyPlan) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for name in ("σ", "μ", "noise/signal of a step", "after all", "up, a step", "down", "time"):
        table.add_column(name, justify="right")
    for mode in plan.modes:
        alone = mode.noise.mode == "alone"
        table.add_row(
            _NAMES[mode.noise.mode],
            f"{mode.noise.sigma:.3f}",
            f"{mode.noise.mu:.3f}",
            f"{1 / mode.step_snr:.2f}",
            f"{1 / mode.snr:.2f}",
            "–" if alone else bytes_words(mode.cost.up),
            "–" if alone else bytes_words(mode.cost.down),
            time_words(mode.cost.whole),
        )
    return table


def _notes(plan: StudyPlan) -> tuple[str, ...]:
    known, cost = plan.known, plan.pooled.cost
    training = (
        "How long training takes with this base is not known: give --gradient-seconds."
        if cost.training is None
        else f"Training takes the largest site about {cost.training:.0f} s of a step, if its "
        "machine is as fast as this one is now."
    )
    return (
        f"C {known.clipping_norm:g}: at the start {known.share_clipped:.0%} of patients' gradients "
        f"are longer, and their mean is {known.coherence:.3f} C long. Adam's rate "
        f"{plan.learning_rate:g}.",
        f"{training} Slot {cost.slot:.0f} s. The coordinator keeps {bytes_words(cost.kept)}.",
    )
