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
    late_words,
    mending_words,
    time_words,
    verdict_words,
)

_BAR: Final = 24  # characters for everything that noise-off training would teach
_FIGURE: Final = 10  # characters of a figure with its unit: "78 minutes"
# What is learnt at least, what may be, the rest; and the same for terminals that know no blocks.
_BLOCKS: Final = (("█", "▒", "░"), ("#", "=", "."))
_NAMES: Final = {"alone": "largest site alone", "local": "each its own noise", "pooled": "together"}
_COLOURS: Final = {"nothing": "red", "part": "yellow", "most": "green"}


def show_plan(plan: StudyPlan, console: Console) -> None:
    """Everything that `craftsfl rounds plan` prints."""
    console.print(_asked(plan), highlight=False, markup=False)
    console.print(_bars(plan, _BLOCKS[console.options.ascii_only]))
    say = Text(verdict_words(plan), style=f"bold {_COLOURS[plan.pooled.lesson]}")
    console.print(say)
    for text in (mending_words(plan), late_words(plan), grounds_words(plan)):
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


def _bars(plan: StudyPlan, blocks: tuple[str, str, str]) -> Table:
    """What is learnt at least, and what may be, of what noise-off training would teach."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False, pad_edge=False)
    for mode in plan.modes:
        bar = _bar(mode, blocks)
        table.add_row(_NAMES[mode.noise.mode], bar, f"{mode.share.middle:.2f}")
    table.add_row("all data, no noise", Text(blocks[0] * _BAR, "dim"), "1.00")
    return table


def _bar(mode: PlannedMode, blocks: tuple[str, str, str]) -> Text:
    low, high = (round(_BAR * share) for share in (mode.share.low, mode.share.high))
    colour = _COLOURS[mode.lesson]
    sure, perhaps, rest = blocks
    return Text.assemble(
        (sure * low, colour), (perhaps * (high - low), colour), (rest * (_BAR - high), "dim")
    )


def _figures(plan: StudyPlan) -> Table:
    """A column for each way to train: three fit into any terminal."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold")
    for mode in plan.modes:
        table.add_column(_NAMES[mode.noise.mode], justify="right", min_width=_FIGURE)
    columns = [_figures_of(mode) for mode in plan.modes]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def _figures_of(mode: PlannedMode) -> dict[str, str]:
    sends = mode.noise.mode != "alone"
    return {
        "σ": f"{mode.noise.sigma:.3f}",
        "μ": f"{mode.noise.mu:.3f}",
        "noise over signal, a step": f"{1 / mode.step_snr:.2f}",
        "after all steps": f"{1 / mode.snr:.2f}",
        "a site sends, a step": bytes_words(mode.cost.up) if sends else "nothing",
        "and gets": bytes_words(mode.cost.down) if sends else "nothing",
        "time": time_words(mode.cost.whole),
    }


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
