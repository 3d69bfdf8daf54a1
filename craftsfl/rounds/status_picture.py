"""A run as a picture of rounds by sites: who was in which sum, in one line for each site.

Pure: from a run's status to text. Long runs share columns, so that the picture fits the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from statistics import median
from typing import Final

from rich.text import Text

from server.status import PartStatus, RoundStatus, RunStatus
from server.tables import AttemptState, PartState

MOST_NAMED: Final = 5  # failed attempts that are told in words
UNFILLED: Final = "-"  # what a cell holds that nobody filled


class Mark(Enum):
    """What a site did in a round, as a character and a colour; the values are unique."""

    IN = ("●", "green")  # its update is in the sum
    OUT = ("○", "yellow")  # it dropped out, and the round went on without it
    FAILED = ("x", "red")  # the round's last attempt failed
    OPEN = ("…", "cyan")
    AWAY = (UNFILLED, "dim")  # it was not asked
    AHEAD = ("·", "dim")  # not begun
    MIXED = ("◐", "yellow")  # of several rounds in one column: in some sums, out of others


# The same for terminals whose encoding has no such signs: all of them would be one question mark.
_PLAIN: Final = {
    Mark.IN: "#",
    Mark.OUT: "o",
    Mark.FAILED: "x",
    Mark.OPEN: "~",
    Mark.AWAY: UNFILLED,
    Mark.AHEAD: ".",
    Mark.MIXED: "+",
}

_LEGEND: Final = {
    Mark.IN: "in the sum",
    Mark.MIXED: "in some of these sums",
    Mark.OUT: "dropped out",
    Mark.FAILED: "the attempt failed",
    Mark.OPEN: "under way",
    Mark.AWAY: "not asked",
    Mark.AHEAD: "to come",
}


def picture_lines(status: RunStatus, width: int, *, plain: bool = False) -> Iterator[Text]:
    """The picture, at most `width` columns wide, with its ruler and legend; `plain`: in ASCII."""
    signs = _PLAIN if plain else {mark: mark.value[0] for mark in Mark}
    names = [site.name for site in status.sites if " " not in site.name]  # no nodes without a name
    if not names:
        return
    longest = max(map(len, names))
    room = max(10, width - longest - 2)
    each = -(-status.rounds // room)  # rounds in one column
    last = {item.round: item for item in status.history}  # the last attempt at each
    rows = {name: _row(name, last, status.rounds, each) for name in names}
    yield Text(" " * (longest + 2) + _ruler(status.rounds, each), style="dim")
    for name, marks in rows.items():
        line = Text(f"{name:<{longest}}  ")
        for mark in marks:
            line.append(signs[mark], mark.value[1])
        yield line
    used = {mark for marks in rows.values() for mark in marks}
    legend = ", ".join(f"{signs[m]} {words}" for m, words in _LEGEND.items() if m in used)
    shared = f"; each column is {each} {status.unit}s" if each > 1 else ""
    yield Text(f"{legend}{shared}", style="dim")


def _row(name: str, last: dict[int, RoundStatus], rounds: int, each: int) -> list[Mark]:
    marks = [_mark(name, last.get(number)) for number in range(1, rounds + 1)]
    return [_shared(marks[start : start + each]) for start in range(0, rounds, each)]


def _mark(name: str, item: RoundStatus | None) -> Mark:
    if item is None:
        return Mark.AHEAD
    part = next((part for part in item.sites if part.name == name), None)
    if part is None:
        return Mark.AWAY
    if item.state is AttemptState.OPEN:
        return Mark.OUT if part.state is PartState.DROPPED else Mark.OPEN
    if item.state is AttemptState.FAILED:
        return Mark.FAILED
    return Mark.IN if part.state is PartState.FINISHED else Mark.OUT


def _shared(marks: Sequence[Mark]) -> Mark:
    """One mark for several rounds."""
    known = [mark for mark in marks if mark is not Mark.AHEAD]
    if not known:
        return Mark.AHEAD
    return known[0] if len(set(known)) == 1 else Mark.MIXED


def _ruler(rounds: int, each: int) -> str:
    """The numbers of the rounds above every tenth column."""
    columns = -(-rounds // each)
    text = ""
    for column in range(0, columns, 10):
        number = str(column * each + 1)
        text += number[: columns - column].ljust(min(10, columns - column))
    return text


def figures_text(status: RunStatus) -> str:
    """How long rounds take, in words; "" before the first has ended."""
    seconds = [
        item.seconds
        for item in status.history
        if item.state is AttemptState.FINISHED and item.seconds is not None
    ]
    if not seconds:
        return ""
    unit = status.unit
    return f"A {unit} took {median(seconds):.0f} s in the middle, the last one {seconds[-1]:.0f} s."


def failed_lines(status: RunStatus) -> Iterator[str]:
    """The newest attempts in which somebody was out, in words; the newest first."""
    told = [item for item in status.history if any(site.reason for site in item.sites)]
    told += [item for item in status.history if item.reason and item not in told]
    told.sort(key=lambda item: (item.round, item.attempt), reverse=True)
    for item in told[:MOST_NAMED]:
        # What the attempt's own reason says of a site is not said twice.
        left = [site for site in item.sites if site.reason and not _is_said(site, item.reason)]
        out = ", ".join(dropped_text(site) for site in left)
        what = f"{item.state}: {item.reason}" if item.reason else f"{item.state} without:"
        yield f"{status.unit} {item.round}, attempt {item.attempt} {what} {out}".rstrip()
    if len(told) > MOST_NAMED:
        yield f"and {len(told) - MOST_NAMED} earlier ones: craftsfl rounds status --all"


def _is_said(site: PartStatus, reason: str) -> bool:
    return f"{site.name}: {site.reason}" in reason


def dropped_text(site: PartStatus) -> str:
    """Who dropped out, at which exchange, and why."""
    where = f" at {site.exchange}" if site.exchange else ""
    kept = "; its update is in the sum" if site.state == "finished" else ""
    return f"{site.name}{where} ({site.reason}{kept})"
