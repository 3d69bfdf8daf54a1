"""A study's steps on drawn patients: the planned noise, without the protocol around it.

What opens in a pooled step is the mean of all patients' clipped gradients and Gaussian noise of a
public size. So a rehearsal adds that noise in one place, and moves the adapter by the study's rule.
"""

# Why: docs/adr/0047-a-plan-before-a-study.md

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from craftsfl.planning.gradients import PatientRows, StepOf
from strategies.descent import Descent
from strategies.rule import UpdateRule

OnRehearsedStep = Callable[[int, int], None]

_NOISE: Final = 57_000
_DRAWS: Final = 58_000
_REPLACED: Final = 0.3  # of the variance of a step's noise
_LEAST_IN_A_STEP: Final = 32
# Without noise, so many are in a step; the rest of what more would teach is not worth the time.
_WITHOUT_NOISE: Final = 160


@dataclass(frozen=True)
class RehearsedSteps:
    """What is trained. `noise`: deviation of a number of the opened mean, in units of C; or 0."""

    rule: UpdateRule
    clipping_norm: float
    steps: int
    noise: float

    def in_a_step(self, patients: int, parameters: int) -> int:
        """How many of `patients` have to be in a step, so that a rehearsal is like the study.

        With m of N drawn anew, the mean varies by 1/m - 1/N more (a clipped gradient is about C
        long), and the noise is taken smaller by as much: by three tenths of its variance at most.
        """
        if not self.noise:
            return min(patients, _WITHOUT_NOISE)
        most = _REPLACED * self.noise**2 * parameters
        return min(patients, max(_LEAST_IN_A_STEP, math.ceil(1 / (1 / patients + most))))

    def without_noise(self, rate: float) -> RehearsedSteps:
        """The same without noise, at a learning rate of its own."""
        return replace(self, rule=UpdateRule("adam", rate), noise=0.0)

    def added(self, drawn: int, patients: int, parameters: int) -> float:
        """The noise that is added to a mean over `drawn` of `patients`, instead of `noise`."""
        replaced = (1 / drawn - 1 / patients) / parameters
        return math.sqrt(max(0.0, self.noise**2 - replaced)) if self.noise else 0.0


def rehearsed_adapter(
    plan: RehearsedSteps, rows: PatientRows, seed: int, on_step: OnRehearsedStep
) -> NDArray[np.float32]:
    """The adapter [P] that the plan's steps publish, on the patients of `rows`."""
    patients, parameters = rows.sites[-1].stop, rows.parameters
    drawn = plan.in_a_step(patients, parameters)
    added = plan.added(drawn, patients, parameters)
    random = np.random.default_rng([_NOISE, seed])
    state = Descent.begin(plan.rule, np.zeros(parameters, np.float32))
    for number in range(plan.steps):
        chances = np.random.default_rng([_DRAWS, seed, number])
        entering = np.sort(chances.permutation(patients)[:drawn]).tolist()
        step = StepOf(seed, number)
        total = rows.clipped_sum(state.adapter, step, plan.clipping_norm, entering)
        mean = total / drawn + added * random.standard_normal(parameters)
        state = state.after(mean, plan.noise**2)
        on_step(number + 1, plan.steps)
    return state.published
