"""A study's epsilon as it is published: on the finest grid, confirmed by a second accountant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from craftsfl.budget.book import Book
from privacy.accounting import released_epsilon
from privacy.accounting.release import Released


@dataclass(frozen=True, slots=True)
class Published:
    """One study's figure."""

    study: str
    delta: float
    figure: Released


def published(book: Book) -> tuple[Published, ...]:
    """The figures of all studies of which something was charged, and all of it with noise.

    Raises `AccountingError` where the two accountants disagree, or the second is not installed.
    """
    return tuple(_published(book))


def _published(book: Book) -> Iterator[Published]:
    for line in book.lines:
        if line.events and math.isfinite(line.epsilon):
            figure = released_epsilon(line.events, line.delta)
            yield Published(line.label, line.delta, figure)


def show_published(figures: tuple[Published, ...], console: Console) -> None:
    """One line a study."""
    if not figures:
        console.print("There is nothing to publish: nothing was charged with noise.")
    for item in figures:
        figure = item.figure
        console.print(
            f"For publication, {item.study}: ε = {figure.epsilon:.4f} at δ = {item.delta:g} by "
            f"privacy-loss distributions, {figure.second:.4f} by opacus' PRV accountant; they "
            f"agree within {figure.tolerance:.4f}.",
            highlight=False,
            markup=False,
        )
