"""Figures on public tiles in words: never without their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence

from server.events import QualityMeasured
from server.status import QualityStatus

_WORDS = {"denoising": "denoising loss"}


def quality_text(figure: QualityMeasured | QualityStatus, unit: str) -> str:
    """A figure in a line; `unit` is what the run counts, a round or a step."""
    what = f"public tiles, {_WORDS.get(figure.metric, figure.metric)}"
    if figure.round == 0:
        return f"{what} of the base: {figure.value:.4f} ({figure.patients} patients)"
    return (
        f"{what} after {unit} {figure.round}: {figure.value:.4f}, "
        f"{_change(figure)} against the base ({figure.patients} patients)"
    )


def quality_cell(figures: Sequence[QualityStatus], round: int) -> str:
    """What a table says of a round: each metric's change since the base."""
    found = [figure for figure in figures if figure.round == round]
    return ", ".join(f"{_WORDS.get(f.metric, f.metric)} {_change(f)}" for f in found)


def _change(figure: QualityMeasured | QualityStatus) -> str:
    """A loss changes by so little that only a share of the base's can be read."""
    low, high = (math.nan if value is None else value for value in (figure.low, figure.high))
    base = figure.value - figure.change
    if figure.metric not in _WORDS or base <= 0:
        return f"{figure.change:+.4f} (95 % interval {low:+.4f} to {high:+.4f})"
    change, low, high = (100 * value / base for value in (figure.change, low, high))
    return f"{change:+.2f}% (95 % interval {low:+.2f}% to {high:+.2f}%)"
