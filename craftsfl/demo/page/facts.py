"""What the page shows: a frozen value, made anew whenever something has happened.

Public facts only: the demo's patients are synthetic, and of a hospital's own figures the page shows
what its ledger has charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class PageState(StrEnum):
    """Where the run is; a page whose run goes on loads itself again."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DeskFacts:
    """One hospital: `epsilon` is what its own ledger has charged so far, of `budget`."""

    name: str
    patients: int
    epsilon: float | None
    budget: float
    state: str


@dataclass(frozen=True, slots=True)
class Change:
    """A public figure's change since the base after `step`, with its 95 % interval."""

    step: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """How a public figure changes over the steps, and where other ways of training ended.

    `explained` says in a sentence what is measured, on what, and which direction is better.
    `share`: whether changes are shares of the base's figure, to be shown in percent. `before`: the
    base's figure, where that says something by itself.
    """

    title: str
    explained: str
    points: tuple[Change, ...]
    references: Mapping[str, Change]
    share: bool = True
    before: float | None = None


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures of the study's public prompts: a row each, a column for each moment.

    `columns` maps a heading ("base", "step 10", "a real tile") to one file per prompt, relative to
    the page; a picture that does not exist yet is "".
    """

    prompts: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Wire:
    """What the coordinator received from one hospital in `step`, and what the sum opened.

    `seen` and `opened` are pictures, relative to the page, of the same numbers of the adapter.
    `correlation` is that of the vector as it was seen with the opened sum. `seen_beyond` and
    `opened_beyond` are how many numbers lie more than three standard deviations from 0, and
    `chance_beyond` how many of as many would by chance.
    """

    step: int
    hospital: str
    seen: str
    opened: str
    numbers: int
    correlation: float
    seen_beyond: int
    opened_beyond: int
    chance_beyond: float


@dataclass(frozen=True, slots=True)
class AttackTried:
    """One thing that a hostile coordinator tried, and what came of it."""

    tried: str
    answer: str
    charged: bool
    refused: bool


@dataclass(frozen=True, slots=True)
class PageFacts:
    """The whole page. `note`: what just happened, or why the run has failed."""

    state: PageState
    note: str
    step: int
    steps: int
    seconds: float
    desks: tuple[DeskFacts, ...] = ()
    curves: tuple[Curve, ...] = ()
    compared: str = ""  # where the curves' references come from, or why there are none
    gallery: Gallery | None = None
    wire: Wire | None = None
    attacks: tuple[AttackTried, ...] = ()
    verdict: str = ""  # of the whole run, in a sentence
    next_command: str = ""
