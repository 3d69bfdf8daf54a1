"""What a person sees of a simulation: a warning, a table of the folder's arms, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.table import Table

from craftsfl.simulation.config import SimulationResult
from craftsfl.terminal import errors, output, say

_NOBODY: Final = (
    "A SIMULATION PROTECTS NOBODY: all keys, all ledgers and all sums without noise are in one "
    "process, which may read everything. Give it drawn or public tissue only."
)
_GIVEN: Final = (
    "The tiles in {folder} have to be public. If they are patients', stop now: nothing here asks "
    "their hospital's policy or charges its ledger, and no epsilon that is shown is a promise to "
    "them."
)
_NOISE_OFF: Final = (
    "NOISE OFF: the adapter may have learned any patient by heart. It is a figure to compare with; "
    "no agent takes part, and no ledger could be charged for it."
)


def warn(noise_off: bool, data: Path | None) -> None:
    """Say, before anything is read, what a simulation is not."""
    texts = [_NOBODY]
    if data is not None:
        texts.append(_GIVEN.format(folder=data))
    if noise_off:
        texts.append(_NOISE_OFF)
    for text in texts:
        errors().print(text, style="bold yellow", highlight=False, markup=False)


def show(result: SimulationResult, arms: Sequence[SimulationResult], as_json: bool) -> None:
    """`result` as JSON, or the table of all `arms` and where the adapter is."""
    if as_json:
        output().print_json(data=result.row(), indent=None)
        return
    output().print(_table(arms))
    output().print(_in_words(result, arms), highlight=False, markup=False)
    say(f"The adapter, for craftsfl model sample --adapter: {result.adapter}")


def _table(arms: Sequence[SimulationResult]) -> Table:
    first = arms[0]
    table = Table(title=f"{first.study}: P = {first.parameters}, {first.steps} steps")
    for name in ("arm", "sites", "patients", "epsilon", "gain", "95 %", "seconds a step"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm in arms:
        gain = arm.gain
        table.add_row(
            f"{arm.arm} {arm.own}".strip(),
            str(arm.sites),
            str(arm.patients),
            "no promise" if arm.epsilon is None else f"{arm.epsilon:.2f}",
            f"{gain.mean:+.2%}",
            f"{gain.low:+.2%} to {gain.high:+.2%}",
            f"{arm.seconds / arm.steps:.2f}",
        )
    return table


def _in_words(result: SimulationResult, arms: Sequence[SimulationResult]) -> str:
    gain = result.gain
    if gain.low > 0:
        words = f"It learned: {gain.mean:.2%} of the base's held-out loss is gone."
    elif gain.high < 0:
        words = f"It did harm: the held-out loss is {-gain.mean:.2%} above the base's."
    else:
        words = "Nothing is shown: the interval contains 0. Simulate more patients or more steps."
    off = [arm for arm in arms if arm.arm == "noise-off" and arm.own == result.own]
    if result.arm != "noise-off" and off and off[0].gain.low > 0:
        words += f" Recovered of noise-off: {gain.mean / off[0].gain.mean:.0%}."
    return f"{words} ({gain.patients} patients whom no arm trained on.)"
