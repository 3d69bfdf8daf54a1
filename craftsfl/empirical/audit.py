"""The whole audit of one mechanism: releases, their curve, direct checks, and the one-run bound.

Everything is decided before it is looked at: canaries and who is present from a seed, thresholds
from the claim. The noise is the system's, as at every site.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from craftsfl.empirical.bounds import Judgement, OneRunBound, judged, one_run_bound
from craftsfl.empirical.checks import DirectCheck, direct_checks
from craftsfl.empirical.cohort import AUDIT_DELTA, Audited, stand_in
from craftsfl.empirical.releases import AuditedSite

CANARIES: Final = 48
# So many that a curve sees half the noise in 99 audits of 100: where only half of those who take
# part are drawn, a score says half as much.
RELEASES: Final[Mapping[Audited, int]] = MappingProxyType({"local": 40, "pooled": 24})
ONE_RUN_CANARIES: Final = 1000

AUDITED_MECHANISMS: Final[tuple[Audited, ...]] = ("local", "pooled")

_AWAY: Final = (-1.5, -0.9, -0.3, 0.3, 0.9, 1.5)  # from the middle of the two, in deviations


@dataclass(frozen=True, slots=True)
class MechanismAudit:
    """What was found of one mechanism."""

    kind: Audited
    seed: int
    canaries: int
    releases: int
    parameters: int
    curve: Judgement
    checks: tuple[DirectCheck, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing contradicts the claim."""
        return not self.curve.broken and all(check.passed for check in self.checks)


def audit_mechanism(
    kind: Audited,
    seed: int,
    *,
    releases: int | None = None,
    canaries: int = CANARIES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MechanismAudit:
    """Audit `kind` by so many releases (None: `RELEASES`) of so many canaries.

    Raises `ModelError` where the shipped base is not installed.
    """
    began = time.perf_counter()
    releases = RELEASES[kind] if releases is None else releases
    site = AuditedSite.of(kind, canaries, seed)
    random = np.random.default_rng([seed, 62])
    steps = []
    for done in range(releases):
        steps.append(site.release(random.random(canaries) < 0.5))
        progress(done + 1, releases)
    present = np.concatenate([step.present for step in steps])
    scores = np.concatenate([step.scores for step in steps])
    curve = judged(scores[present], scores[~present], [site.claim], thresholds_at(site.share))
    checks = direct_checks(site, steps)
    took, size = time.perf_counter() - began, len(steps[0].noise)
    return MechanismAudit(kind, seed, canaries, releases, size, curve, checks, took)


def thresholds_at(deviation: float) -> list[float]:
    """Scores above and below which canaries are accused, under noise of `deviation`, over C."""
    return [0.5 + away * deviation for away in _AWAY]


@dataclass(frozen=True, slots=True)
class OneRunAudit:
    """The bound of one release, beside the epsilon that it was accounted with."""

    kind: Audited
    bound: OneRunBound
    claimed: float
    seconds: float


def audit_one_run(seed: int, canaries: int = ONE_RUN_CANARIES) -> OneRunAudit:
    """One release of a pooled step in which each of so many canaries is or is not."""
    from privacy.accounting import epsilon

    began = time.perf_counter()
    site = AuditedSite(stand_in("pooled", canaries, seed, tiles_each=1), "pooled")
    step = site.release(np.random.default_rng([seed, 63]).random(canaries) < 0.5)
    bound = one_run_bound(step.scores, step.present, AUDIT_DELTA)
    return OneRunAudit(
        "pooled", bound, epsilon([site.claim], AUDIT_DELTA), time.perf_counter() - began
    )
