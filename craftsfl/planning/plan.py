"""A plan: noise, signal, cost and what would be learnt, together, apart and alone. Pure."""

# Why: docs/adr/0047-a-plan-before-a-study.md

from __future__ import annotations

import math
from dataclasses import dataclass

from craftsfl.planning.cost import PlannedCost, planned_cost
from craftsfl.planning.noise import PlanMode, PlannedNoise, planned_noise
from craftsfl.planning.recovery import Lesson, RecoveredShare, Recovery, recovery_of
from craftsfl.planning.rehearsed import RehearsalTable, RehearsedLayout
from craftsfl.planning.request import PlanRequest


@dataclass(frozen=True, slots=True)
class PlannedMode:
    """One way to train: its noise, its cost, and what it recovers."""

    noise: PlannedNoise
    cost: PlannedCost
    snr: float  # g / rho, of the mean of all steps
    step_snr: float  # the same of one step
    share: RecoveredShare
    lesson: Lesson


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about training the plan's adapter.

    `layout`: the rehearsed one that it is, or is nearest to. `rehearsed`: whether it is that one,
    on the rehearsed base. `clipping_norm`: C; `gradient_seconds` of one row here, None if unknown.
    """

    table: RehearsalTable
    layout: RehearsedLayout
    rehearsed: bool
    clipping_norm: float
    gradient_seconds: float | None

    @property
    def coherence(self) -> float:
        """g at C."""
        return self.layout.coherence_at(self.clipping_norm)

    @property
    def share_clipped(self) -> float:
        """Of patients, those whose gradient is longer than C at the start."""
        return self.layout.share_clipped(self.clipping_norm)

    @property
    def recovery(self) -> Recovery:
        """From signal to noise to what is learnt."""
        return recovery_of(self.table, self.layout)


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """Everything that follows from a request and from what is known."""

    asked: PlanRequest
    known: Known
    pooled: PlannedMode
    local: PlannedMode
    alone: PlannedMode

    @property
    def learning_rate(self) -> float:
        """Of the pooled study's "adam"."""
        return rate_of(self.known, self.pooled.snr, self.asked.steps, self.asked.parameters)

    @property
    def modes(self) -> tuple[PlannedMode, ...]:
        """Alone, local and pooled: from the least to the most."""
        return (self.alone, self.local, self.pooled)


def planned(asked: PlanRequest, known: Known) -> StudyPlan:
    """The plan. Raises `AccountingError` where no noise keeps the promise."""
    return StudyPlan(
        asked,
        known,
        pooled=_mode(asked, known, "pooled"),
        local=_mode(asked, known, "local"),
        alone=_mode(asked, known, "alone"),
    )


def rate_of(known: Known, snr: float, steps: int, parameters: int) -> float:
    """The learning rate of "adam" at g / rho = `snr`."""
    return known.recovery.rate(snr, known.coherence, steps, parameters)


def nearest_layout(
    table: RehearsalTable, targets: tuple[str, ...], rank: int, parameters: int
) -> tuple[RehearsedLayout, bool]:
    """The rehearsed layout that an adapter is, or is nearest to in size; and whether it is that."""
    for layout in table.layouts:
        same = set(layout.targets) == set(targets) and layout.rank == rank
        if same and layout.parameters == parameters:
            return layout, True
    return min(table.layouts, key=lambda own: abs(math.log(own.parameters / parameters))), False


def _mode(asked: PlanRequest, known: Known, mode: PlanMode) -> PlannedMode:
    noise = planned_noise(asked, mode, known.clipping_norm)
    snr = known.coherence / noise.rho
    share = known.recovery.share(snr)
    return PlannedMode(
        noise,
        planned_cost(asked, noise, known.gradient_seconds),
        snr,
        known.coherence / noise.of_a_step,
        share,
        known.recovery.lesson(share.middle),
    )
