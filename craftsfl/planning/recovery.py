"""How much of what noise-off training would teach a plan recovers, as rehearsals measured it.

Near its start, training that moves the adapter by a times an opened mean gains

    a g^2 - a^2 (b rho^2 + c g^2) / 2,    s = g / rho

what points along the gradient teaches, what does not costs by its length, and too long a way costs
both. With the best a the share of the noise-off gain is

    s^2 / (s^2 + h^2),    h^2 = b / c,    and a is this share of the best a without noise.

That is one direction. A gradient has many, the strong ones are learnt through more noise than the
weak ones, and the sum of such curves is flatter: s^p / (s^p + h^p) with p below 2.

"adam" divides by sqrt(g^2 + k T rho^2), where k is what its floor leaves of a step's noise; so its
learning rate is a times that. h, p, how far single runs are from this curve, the best a and k are
fitted to the rehearsals of an adapter, each adapter by itself: a small one is learnt more slowly.
"""

# Why: docs/adr/0047-a-plan-before-a-study.md, docs/adr/0085-a-curve-for-each-adapter.md

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from craftsfl.planning.rehearsed import RehearsalTable, RehearsedLayout, RehearsedRun

Lesson = Literal["nothing", "part", "most"]
"""What is learnt: nothing that rehearsals could tell from nothing; part; or half and more."""

MOST: Final = 0.5
_NORMAL: Final = 1.96  # standard deviations of a 95 % interval
# Among these h and p are looked for.
_HALVES: Final = np.geomspace(0.3, 30, 301)
_POWERS: Final = np.linspace(0.5, 2.5, 41)
_LEFTS: Final = np.linspace(0, 1, 51)  # and k
_FEWEST: Final = 4  # runs of an adapter from which its own curve is fitted
_SMALLEST: Final = 0.02  # of the deviation of a run: no interval over patients is the whole of it


@dataclass(frozen=True, slots=True)
class RecoveredShare:
    """A recovered share, with the interval in which 95 of 100 rehearsals would lie."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """The fitted curve of one adapter. `half`: h; `power`: p.

    `spread`: deviation of one rehearsal from the curve. `pace`: a g T sqrt(P), `left`: k; see
    `rate`.
    """

    half: float
    power: float
    spread: float
    pace: float
    left: float

    def share(self, snr: float) -> RecoveredShare:
        """What a plan with g / rho = `snr` recovers."""
        middle = _curve(snr, self.half, self.power)
        off = _NORMAL * self.spread
        return RecoveredShare(middle, max(0.0, middle - off), min(1.0, middle + off))

    def lesson(self, share: float) -> Lesson:
        """What to call a recovered `share`."""
        if share >= MOST:
            return "most"
        return "part" if share >= self.least else "nothing"

    def agrees(self, lesson: Lesson, found: RecoveredShare) -> bool:
        """Whether a rehearsal that `found` a share agrees with a verdict.

        It does if it would be called the same, or the next better or worse where the border between
        the two lies within its own interval: then it cannot tell them apart itself.
        """
        own = self.lesson(found.middle)
        if own == lesson:
            return True
        if {own, lesson} == {"nothing", "most"}:
            return False
        border = MOST if "most" in (own, lesson) else self.least
        return found.low <= border <= found.high

    @property
    def least(self) -> float:
        """The least share that a rehearsal tells from none at all."""
        return min(MOST, _NORMAL * self.spread)

    def snr_for(self, share: float) -> float:
        """The g / rho that recovers `share`, 0 to below 1."""
        return float(self.half * (share / (1 - share)) ** (1 / self.power))

    def rate(self, snr: float, coherence: float, steps: int, parameters: int) -> float:
        """The learning rate of "adam" at g / rho = `snr`, to two digits."""
        share = self.share(snr).middle
        divided = _divided(snr, steps, self.left)
        found = self.pace * share * coherence * divided / (steps * math.sqrt(parameters))
        return float(f"{found:.1e}")


def rehearsals_of(table: RehearsalTable, layout: RehearsedLayout) -> Sequence[RehearsedRun]:
    """Those that the curve of `layout` is fitted to: its own, or all if these are under four."""
    own = [run for run in table.runs if run.layout == layout.name]
    return own if len(own) >= _FEWEST else table.runs


def fitted(table: RehearsalTable, layout: RehearsedLayout) -> Recovery:
    """The curve that is nearest to the runs of `layout`, weighed by how well each is known."""
    runs = rehearsals_of(table, layout)
    found, deviations = [run.recovered for run in runs], [_deviation(run) for run in runs]

    def errors(half: float, power: float) -> list[float]:
        pairs = zip(runs, found, strict=True)
        return [_curve(run.snr, half, power) - share for run, share in pairs]

    def misfit(at: tuple[float, float]) -> float:
        return sum((off / own) ** 2 for off, own in zip(errors(*at), deviations, strict=True))

    half, power = min(product(_HALVES.tolist(), _POWERS.tolist()), key=misfit)
    # Few runs may lie on the curve by chance, and are known no better for it.
    known = math.sqrt(sum(own**2 for own in deviations) / len(runs))
    off = math.sqrt(sum(one**2 for one in errors(half, power)) / max(1, len(runs) - 2))
    spread = max(known, off)
    return Recovery(half, power, spread, *_pace(table, runs, half, power))


@lru_cache(maxsize=8)
def recovery_of(table: RehearsalTable, layout: RehearsedLayout) -> Recovery:
    """`fitted`, once for each adapter of a table."""
    return fitted(table, layout)


def _deviation(run: RehearsedRun) -> float:
    return max(_SMALLEST, (run.high - run.low) / (2 * _NORMAL))


def _pace(
    table: RehearsalTable, runs: Sequence[RehearsedRun], half: float, power: float
) -> tuple[float, float]:
    """The pace, and k, with which the rates are nearest to what would have been best (in logs)."""
    layouts = {layout.name: layout for layout in table.layouts}

    def paces(left: float) -> NDArray[np.float64]:
        found = []
        for run in runs:
            layout = layouts[run.layout]
            way = _curve(run.snr, half, power) * layout.coherence_at(layout.small_clip())
            unit = way * _divided(run.snr, run.steps, left)
            best = run.rate * run.best_scale * run.steps * math.sqrt(layout.parameters)
            found.append(math.log(best / unit))
        return np.array(found)

    left = min(_LEFTS.tolist(), key=lambda left: float(paces(left).std()))
    return math.exp(float(np.median(paces(left)))), left


def _divided(snr: float, steps: int, left: float) -> float:
    """What "adam" divides by, over g: sqrt(1 + k T / s^2)."""
    return math.sqrt(1 + left * steps / snr**2)


def _curve(snr: float, half: float, power: float) -> float:
    """s^p / (s^p + h^p)."""
    return float(1 / (1 + (half / snr) ** power))
