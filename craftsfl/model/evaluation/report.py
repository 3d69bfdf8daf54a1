"""An evaluation's report for people and programs: text, a table, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from model.lab.evaluation import Answer, Figure, Reference

PRIVATE_FIGURES = (
    "Computed on patients' tiles, and not covered by the adapter's ε: these figures are not "
    "differentially private. They, and every file written with them, stay at this site. To "
    "publish figures, evaluate on public tiles (--public-data)."
)
_ARROWS = {"lower": "↓", "higher": "↑", "near": "→"}


@dataclass(frozen=True)
class EvaluationReport:
    """The answer and what it is about; `about` holds nothing about a patient."""

    answer: Answer
    about: Mapping[str, object]
    public: bool
    notes: tuple[str, ...] = field(default=())

    @property
    def warning(self) -> str | None:
        """The warning that nobody may miss; None if all tiles are public."""
        return None if self.public else PRIVATE_FIGURES

    def values(self) -> dict[str, object]:
        """What `--json` prints; non-finite numbers are null."""
        return {
            "warning": self.warning,
            "about": dict(self.about),
            "notes": list(self.notes),
            "figures": [_figure(figure) for figure in self.answer.figures],
            "unavailable": [asdict(gap) for gap in self.answer.unavailable],
        }


def _figure(figure: Figure) -> dict[str, object]:
    return {name: _finite(value) for name, value in asdict(figure).items()} | {
        "beside": [
            {name: _finite(value) for name, value in asdict(reference).items()}
            for reference in figure.beside
        ]
    }


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def report_json(report: EvaluationReport) -> str:
    """Indented JSON, without NaN."""
    return json.dumps(report.values(), indent=2, allow_nan=False, ensure_ascii=False)


def show_evaluation(report: EvaluationReport, console: Console) -> None:
    """The table, the gaps, the notes and the warning, which comes last so that it stays visible."""
    console.print(_table(report))
    for gap in report.answer.unavailable:
        where = "" if gap.encoder == "-" else f", {gap.encoder}"
        console.print(
            f"Not available: {gap.metric}{where}. {gap.reason}", highlight=False, markup=False
        )
    for note in (_READING, *report.notes):
        console.print(note, highlight=False, markup=False)
    if report.warning is not None:
        text = Text(report.warning, style="bold")
        console.print(Panel.fit(text, title="STAYS AT THE SITE", style="red"))


_READING = (
    "Intervals are central 95 % of a bootstrap over patients (over prompts for drift). The floor "
    "is the same distance between random halves of the real patients; compare it with the figure "
    "at the same size. Images: real | generated. ↓ less is better, ↑ more, → as the real tiles."
)


def _table(report: EvaluationReport) -> Table:
    """A row for each figure, and below it one for each of its references."""
    table = Table(title=str(report.about.get("title", "Evaluation")), title_justify="left")
    table.box, table.padding, table.pad_edge = SIMPLE_HEAD, (0, 1, 0, 0), False
    table.add_column("Figure", overflow="fold")
    table.add_column("Encoder", overflow="fold")
    for name in ("Value", "95 %", "Images"):
        table.add_column(name, justify="right", no_wrap=True)
    for figure in report.answer.figures:
        table.add_row(
            Text(f"{figure.metric} {_ARROWS[figure.better]}", style="bold"),
            Text(figure.encoder),
            Text(number(figure.value), style="bold"),
            f"{number(figure.low)} … {number(figure.high)}",
            counts(figure),
        )
        for reference in figure.beside:
            table.add_row(
                Text(f"  {reference.name}", style="dim"),
                "",
                number(reference.value),
                ends(reference),
                str(reference.n or ""),
            )
    return table


def counts(figure: Figure) -> str:
    """Real and generated images."""
    return f"{figure.n_real} | {figure.n_generated}" if figure.n_real else str(figure.n_generated)


def ends(reference: Reference) -> str:
    """The interval, if there is one."""
    if reference.low is None or reference.high is None:
        return ""
    return f"{number(reference.low)} … {number(reference.high)}"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}" if math.isfinite(value) else "–"


def beside_text(reference: Reference) -> str:
    """A reference in one line: name, value, interval, number of images."""
    text = f"{reference.name} {number(reference.value)}"
    if ends(reference):
        text += f" ({ends(reference)})"
    return text if reference.n is None else f"{text}, n {reference.n}"
