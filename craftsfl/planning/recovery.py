"""How much of what noise-off training would teach a plan recovers, as rehearsals measured it.

Near its start, training that moves the adapter by a times an opened mean gains

    a g^2 - a^2 (b rho^2 + c g^2) / 2,    s = g / rho

what points along the gradient teaches, what does not costs by its length, and too long a way costs
both. With the best a the share of the noise-off gain is

    s^2 / (s^2 + h^2),    h^2 = b / c,    and a is this share of the best a without noise.

That is one direction. A gradient has many, the strong ones are learnt through more noise than the
weak ones, and the sum of such curves is flatter: s^p / (s^p + h^p) with p below 2.

"adam" divides by sqrt(g^2 + k T rho^2), where k is what its floor leaves of a step's noise; so its
learning rate is a times that. h, p, how far single runs are from this curve, and the best a of each
adapter are fitted to the rehearsals that ship.
"""

# Why: docs/adr/0047-a-plan-before-a-study.md

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final, Literal

import numpy as np

from craftsfl.planning.rehearsed import RehearsalTable, RehearsedRun

Lesson = Literal["nothing", "part", "most"]
"""What is learnt: nothing that rehearsals could tell from nothing; part; or half and more."""

MOST: Final = 0.5
_NORMAL: Final = 1.96  # standard deviations of a 95 % interval
# Among these h and p are looked for.
_HALVES: Final = np.geomspace(0.3, 30, 301)
_POWERS: Final = np.linspace(1.0, 2.5, 31)
_LEFT: Final = 0.3  # k: of a step's noise, what is left under the root where "adam" divides
_SMALLEST: Final = 0.02  # of the deviation of a run: no interval over patients is the whole of it


@dataclass(frozen=True, slots=True)
class RecoveredShare:
    """A recovered share, with the interval in which 95 of 100 rehearsals would lie."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """The fitted curve. `half`: h; `power`: p. `spread`: deviation of one rehearsal from the curve.

    `paces`: a g T sqrt(P) of each rehearsed layout, by name: see `rate`.
    """

    half: float
    power: float
    spread: float
    paces: Mapping[str, float]

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

    def rate(self, layout: str, snr: float, coherence: float, steps: int, parameters: int) -> float:
        """The learning rate of a plan with an adapter like `layout`, to two digits."""
        share = self.share(snr).middle
        found = self.paces[layout] * _per_pace(share, snr, coherence, steps, parameters)
        return float(f"{found:.1e}")


def fitted(table: RehearsalTable) -> Recovery:
    """The curve that is nearest to the table's runs, weighed by how well each is known."""
    runs = table.runs
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
    return Recovery(half, power, spread, _paces(table, half, power))


@lru_cache(maxsize=4)
def recovery_of(table: RehearsalTable) -> Recovery:
    """`fitted`, once for each table."""
    return fitted(table)


def _deviation(run: RehearsedRun) -> float:
    return max(_SMALLEST, (run.high - run.low) / (2 * _NORMAL))


def _paces(table: RehearsalTable, half: float, power: float) -> dict[str, float]:
    """Of each layout the median, over its runs, of the pace that would have been best."""
    paces = {}
    for layout in table.layouts:
        coherence, size = layout.coherence_at(layout.small_clip()), layout.parameters
        best = [
            run.rate * run.best_scale / _per_pace(share, run.snr, coherence, run.steps, size)
            for run in table.runs
            if run.layout == layout.name
            for share in (_curve(run.snr, half, power),)
        ]
        paces[layout.name] = float(np.median(best))
    return paces


def _per_pace(share: float, snr: float, coherence: float, steps: int, parameters: int) -> float:
    divided = math.sqrt(1 + _LEFT * steps / snr**2)
    return float(share * coherence * divided / (steps * math.sqrt(parameters)))


def _curve(snr: float, half: float, power: float) -> float:
    """s^p / (s^p + h^p)."""
    return float(1 / (1 + (half / snr) ** power))
