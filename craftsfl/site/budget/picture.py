"""Spending over time as a picture, SVG or PNG."""

from __future__ import annotations

import importlib
import itertools
import math
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from craftsfl.site.budget.statement import Point, Statement
from privacy.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SUFFIXES: Final = (".svg", ".png")
# Okabe and Ito's palette, which colour-blind people can tell apart too.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_SIZE = (8.0, 4.5)  # inches
_STYLE: Any = {
    "svg.hashsalt": "craftsfl",  # the same figures give the same file
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and copied
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}


def check_picture_path(path: Path) -> None:
    """Raise `ConfigError` unless `path` names an SVG or PNG file in a folder that exists."""
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"{path} is neither SVG nor PNG.", "Name a file such as budget.svg or budget.png."
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"The folder of {path} does not exist.", "Make it first.")


def draw_picture(statement: Statement, path: Path) -> None:
    """Write the picture to `path`. Raises `ConfigError` where it cannot be written."""
    check_picture_path(path)
    import matplotlib  # half a second: only for those who ask for a picture
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        _draw(statement, figure.add_subplot())
        kind = path.suffix.lower()[1:]
        metadata = {"Date": None} if kind == "svg" else None
        try:
            figure.savefig(path, format=kind, dpi=150, metadata=metadata)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}.", "Choose another file."
            ) from None


def _draw(statement: Statement, axes: Axes) -> None:
    axes.set_title(
        f"Privacy budget used, of one patient at {statement.site}", loc="left", weight="bold"
    )
    axes.set_ylabel("ε used of the budget")
    _limit(axes, statement.budget, " lifetime budget", "--")
    axes.set_ylim(0, 1.12 * max([statement.budget, *(p.lifetime for p in _finite(statement))]))
    if statement.present.budget < statement.budget:
        _limit(axes, statement.present.budget, " of a study", ":")
    if statement.points:
        _draw_spending(statement, axes)
    else:
        axes.text(0.5, 0.5, "nothing was charged yet", ha="center", transform=axes.transAxes)
        axes.set_xticks([])


def _limit(axes: Axes, budget: float, label: str, line: str) -> None:
    axes.axhline(budget, color="#D55E00", linestyle=line, linewidth=1.2)
    axes.text(0.005, budget, label, va="bottom", transform=axes.get_yaxis_transform())


def _draw_spending(statement: Statement, axes: Axes) -> None:
    dates = importlib.import_module("matplotlib.dates")
    began = statement.points[0].time if statement.began is None else statement.began
    locator = dates.AutoDateLocator(tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC))
    axes.set_xlabel("UTC")
    points = _finite(statement)
    total = [(began, 0.0), *((point.time, point.lifetime) for point in points)]
    labels = list(dict.fromkeys(point.study for point in points))
    if len(labels) > 1:
        for label, colour in zip(labels, itertools.cycle(COLOURS), strict=False):
            mine = [(point.time, point.epsilon) for point in points if point.study == label]
            whole = [(began, 0.0), *mine, (total[-1][0], mine[-1][1])]
            _steps(axes, whole, label=label, color=colour, linewidth=1.2)
    name = labels[0] if len(labels) == 1 else "all studies"
    _steps(axes, total, label=name, color="black", linewidth=2)
    if len(points) < len(statement.points):
        axes.text(0.5, 0.9, "then: no noise, no bound", ha="center", transform=axes.transAxes)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0.9), frameon=False)


def _steps(
    axes: Axes, points: list[tuple[float, float]], *, label: str, color: str, linewidth: float
) -> None:
    # Matplotlib counts dates in days since 1970.
    days, values = [time / 86400 for time, _ in points], [value for _, value in points]
    axes.step(days, values, where="post", marker=".", label=label, color=color, linewidth=linewidth)


def _finite(statement: Statement) -> list[Point]:
    return [point for point in statement.points if math.isfinite(point.lifetime)]
