"""Direct checks of releases: each looks at what came out, not at how it was made.

They see in seconds what no count of guesses can: a tenth of the noise missing, noise used twice, a
patient who is in every draw. A check is a figure with the bounds that it has to lie in; a correct
site is outside of one once in about 10^11 runs (seven standard errors), or never.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from craftsfl.empirical.releases import AuditedSite, ObservedStep
from privacy.dpsgd.noise import SystemNoise
from privacy.dpsgd.substreams import Substreams
from privacy.study.terms import mechanism_of

ERRORS: Final = 7.0  # standard errors
_DRAWS: Final = 600  # beside those of the releases; each takes microseconds
_LEAST_NORM: Final = 0.999  # of a canary, all of which are clipped
_MOST_NORM: Final = 1 + 1e-12  # integers; only their conversion rounds


@dataclass(frozen=True, slots=True)
class DirectCheck:
    """`value` has to lie from `low` to `high`."""

    name: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Also False for what is no number."""
        return self.low <= self.value <= self.high


def direct_checks(site: AuditedSite, steps: Sequence[ObservedStep]) -> tuple[DirectCheck, ...]:
    """All checks of `steps`, at least two releases of `site`."""
    return (
        *_noise(steps, site.share),
        *_reuse(steps),
        *_clip(steps),
        *(_draws(site, steps) if site.study.training.sampling_rate < 1 else _everybody(steps)),
    )


def _noise(steps: Sequence[ObservedStep], share: float) -> tuple[DirectCheck, ...]:
    """What is left of the releases without all gradients: variance and mean of what was charged."""
    noise = np.concatenate([step.noise for step in steps]) / share
    spread = ERRORS * math.sqrt(2 / len(noise))
    middle = ERRORS / math.sqrt(len(noise))
    ratio = float(np.square(noise).mean())
    return (
        DirectCheck("noise variance over sigma^2", ratio, 1 - spread, 1 + spread),
        DirectCheck("mean of the noise", float(noise.mean()), -middle, middle),
    )


def _reuse(steps: Sequence[ObservedStep]) -> tuple[DirectCheck, ...]:
    """No two releases share noise, and no two halves of one."""
    halves = [half for step in steps for half in np.split(step.noise[: len(step.noise) & ~1], 2)]
    wide = np.array([half / (np.linalg.norm(half) or 1.0) for half in halves])
    most = float(np.abs(wide @ wide.T - np.diag(np.square(wide).sum(axis=1))).max())
    bound = ERRORS / math.sqrt(len(halves[0]))
    return (DirectCheck("correlation of two releases' noise", most, 0.0, bound),)


def _clip(steps: Sequence[ObservedStep]) -> tuple[DirectCheck, ...]:
    """Every canary's gradient is longer than C, so that it adds C: no more, and no less."""
    norms = np.concatenate([step.norms for step in steps])
    moved = sum(not step.kept for step in steps)
    return (
        DirectCheck("longest vector over C", float(norms.max()), _LEAST_NORM, _MOST_NORM),
        DirectCheck("shortest vector over C", float(norms.min()), _LEAST_NORM, _MOST_NORM),
        DirectCheck("releases in which others changed a patient's part", float(moved), 0.0, 0.0),
    )


def _everybody(steps: Sequence[ObservedStep]) -> tuple[DirectCheck, ...]:
    wrong = sum(not np.array_equal(step.present, step.entered) for step in steps)
    return (DirectCheck("steps without exactly those who are enrolled", float(wrong), 0.0, 0.0),)


def _draws(site: AuditedSite, steps: Sequence[ObservedStep]) -> tuple[DirectCheck, ...]:
    """Each patient enters each step on its own: rates, sizes, and no memory of the last step.

    Of the releases, and of many more draws by the site's own step.
    """
    rate = site.study.training.sampling_rate
    step, source = mechanism_of(site.study).at_site(site.canaries), SystemNoise()
    everybody = np.arange(site.canaries)
    drawn = np.zeros((_DRAWS, site.canaries), dtype=bool)
    for row in drawn:
        row[step.draw(everybody, Substreams.fresh(source))] = True
    absent = sum(int((each.entered & ~each.present).sum()) for each in steps)
    entered = sum(int(each.entered.sum()) for each in steps)
    enrolled = sum(int(each.present.sum()) for each in steps)
    sizes = drawn.sum(axis=1)
    variance = float(sizes.var() / (site.canaries * rate * (1 - rate)))
    wide = ERRORS * math.sqrt(2 / _DRAWS)
    return (
        _share("share who enter the releases", entered, enrolled, rate),
        _share("share who enter a draw", int(drawn.sum()), drawn.size, rate),
        _share("share whom a draw repeats", *_repeated(drawn), _alike(rate)),
        _share("share whom a release repeats", *_repeated_in(steps), _alike(rate)),
        DirectCheck("variance of a draw's size over q (1 - q) N", variance, 1 - wide, 1 + wide),
        DirectCheck("drawn without being enrolled", float(absent), 0.0, 0.0),
    )


def _alike(rate: float) -> float:
    """How often two draws agree on a patient."""
    return rate**2 + (1 - rate) ** 2


def _repeated(drawn: NDArray[np.bool_]) -> tuple[int, int]:
    """How many of those in two rows running the second treats as the first did; of how many."""
    return int((drawn[1:] == drawn[:-1]).sum()), drawn[1:].size


def _repeated_in(steps: Sequence[ObservedStep]) -> tuple[int, int]:
    pairs = list(pairwise(steps))
    both = [one.present & other.present for one, other in pairs]
    same = [one.entered == other.entered for one, other in pairs]
    alike = sum(int((b & s).sum()) for b, s in zip(both, same, strict=True))
    return alike, sum(int(b.sum()) for b in both)


def _share(name: str, hits: int, tries: int, rate: float) -> DirectCheck:
    wide = ERRORS * math.sqrt(rate * (1 - rate) / max(1, tries))
    return DirectCheck(name, hits / max(1, tries), rate - wide, rate + wide)
