"""Where plans are rehearsed: a base, drawn patients to train on, and others to measure on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from craftsfl.planning.gradients import PatientRows, StepOf
from craftsfl.planning.plan import StudyPlan
from craftsfl.planning.recovery import RecoveredShare
from craftsfl.planning.rehearsal import OnRehearsedStep, RehearsedSteps, rehearsed_adapter
from craftsfl.planning.tissue import PooledSites
from model.adapters import attach, detach
from model.base import Pipeline
from model.quality.denoising import held_out_loss
from privacy.study.manifest import Adapter
from strategies.rule import UpdateRule

Gains = NDArray[np.float64]
"""Of each held-out patient: what an adapter takes off the base's mean loss, in per cent."""

HELD_OUT: Final = 120  # patients of each hospital,
_DRAWS: Final = 4  # and (t, noise) of each one's tile
_SCALES: Final = (0.5, 0.75, 1.0)  # of the noise-off adapter: the best of them is the reference
_TIMED: Final = 64
_RESAMPLES: Final = 2000
_LEVELS: Final = (2.5, 97.5)


@dataclass(frozen=True)
class RehearsedAdapter:
    """A private run. `best_scale`: its adapter times this would have gained most."""

    gains: Gains
    best_scale: float


class RehearsalStage:
    """One adapter on one base, and the patients of one seed. Leaves the base as it was."""

    def __init__(
        self,
        pipeline: Pipeline,
        adapter: Adapter,
        sites: PooledSites,
        seed: int,
        base: Gains | None = None,
    ) -> None:
        """`base`: `base_losses` of another stage for these patients, which saves measuring it."""
        detach(pipeline.unet)
        attach(pipeline.unet, adapter)
        self._pipeline, self._adapter, self._sites, self._seed = pipeline, adapter, sites, seed
        self._rows = PatientRows(pipeline, adapter, sites, 1)
        start = np.zeros(self._rows.parameters, np.float32)
        self._base = self._losses(start) if base is None else base

    @property
    def base_losses(self) -> Gains:
        """The base's loss of each held-out patient; the same under every adapter."""
        return self._base

    @property
    def parameters(self) -> int:
        """P."""
        return self._rows.parameters

    def noise_off(
        self, rate: float, clipping_norm: float, steps: int, on_step: OnRehearsedStep
    ) -> Gains:
        """Of the best of a run's adapters without noise: the last one, or a shorter one."""
        plan = RehearsedSteps(UpdateRule("adam", rate), clipping_norm, steps, noise=0.0)
        vector = rehearsed_adapter(plan, self._rows, self._seed, on_step)
        found = [self.gains(vector * np.float32(scale)) for scale in _SCALES]
        return max(found, key=lambda gains: float(gains.mean()))

    def private(self, plan: RehearsedSteps, on_step: OnRehearsedStep) -> RehearsedAdapter:
        """Of the adapter that a plan publishes."""
        vector = rehearsed_adapter(plan, self._rows, self._seed, on_step)
        whole, half = self.gains(vector), self.gains(vector * np.float32(0.5))
        return RehearsedAdapter(whole, best_scale(float(half.mean()), float(whole.mean())))

    def gains(self, vector: NDArray[np.float32]) -> Gains:
        """What the adapter `vector` [P] gains, by held-out patient."""
        return np.asarray(100 * (self._base - self._losses(vector)) / self._base.mean())

    def gradients(self) -> NDArray[np.float64]:
        """Of all patients at the adapter's start, before any clip: [patients, P]."""
        zero = np.zeros(self.parameters, np.float32)
        return self._rows.each(zero, StepOf(self._seed, 0), range(self._rows.sites[-1].stop))

    def row_seconds(self) -> float:
        """What one patient's gradient takes on this machine now, with one row."""
        zero = np.zeros(self.parameters, np.float32)
        patients = range(min(_TIMED, self._rows.sites[-1].stop))
        begun = time.perf_counter()
        self._rows.clipped_sum(zero, StepOf(self._seed, 0), 1.0, patients)
        return (time.perf_counter() - begun) / len(patients)

    def _losses(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        tiles = self._sites.held_out
        found = held_out_loss(
            self._pipeline, self._adapter, vector, tiles, seed=self._seed, draws=_DRAWS
        )
        return np.array([found[own].mean() for own in tiles.by_patient()])


def steps_of(plan: StudyPlan) -> RehearsedSteps:
    """What a plan's pooled study would do."""
    noise, rule = plan.pooled.noise, UpdateRule("adam", plan.learning_rate)
    of_a_mean = noise.of_a_sum / noise.patients
    return RehearsedSteps(rule, plan.known.clipping_norm, plan.asked.steps, of_a_mean)


def best_scale(half: float, whole: float) -> float:
    """Where a s - b s^2 through (1/2, `half`) and (1, `whole`) is largest; from 0.05 to 3."""
    slope = 4 * half - whole
    bend = slope - whole
    if slope <= 0:
        return 0.05
    return 3.0 if bend <= slope / 6 else max(0.05, slope / (2 * bend))


def recovered(private: Gains, reference: Gains) -> RecoveredShare:
    """Ratio of mean gains on the same patients, with a 95 % interval over them (bootstrap)."""
    random = np.random.default_rng(0)
    drawn = random.integers(len(private), size=(_RESAMPLES, len(private)))
    ratios = private[drawn].mean(axis=1) / reference[drawn].mean(axis=1)
    low, high = np.percentile(ratios, _LEVELS)
    return RecoveredShare(float(private.mean() / reference.mean()), float(low), float(high))


def coherence_of(gradients: NDArray[np.float64], clip: float) -> float:
    """g at `clip`: the length of the mean of clipped gradients over C, without chance's part.

    The mean of N independent vectors of square length v is longer than its expectation m by
    (v - m^2) / N, in squares.
    """
    lengths = np.linalg.norm(gradients, axis=1)
    clipped = gradients * np.minimum(1 / clip, 1 / np.maximum(lengths, 1e-300))[:, None]
    count = len(lengths)
    squared, each = float((clipped.mean(axis=0) ** 2).sum()), float((clipped**2).sum() / count)
    return float(np.sqrt(max(0.0, (count * squared - each) / (count - 1))))
