"""Runs of one seed, trained side by side: what their gradients have in common is computed once."""

from __future__ import annotations

import base64
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.pooled_arms import (
    ArmSteps,
    PatientGroup,
    PatientGroups,
    PooledArm,
    SameNoiseArm,
    begun,
)
from bench.pooled_gradients import GradientsAt
from bench.pooled_setting import SAME_NOISE, PooledSetting
from craftsfl.planning.gradients import StepOf
from model.arrays import Doubles

OnPooledStep = Callable[[int, int], None]


@dataclass(frozen=True)
class PooledPlan:
    """A run that is wanted. Plans that are trained together share seed, patients and adapter."""

    arm: str
    setting: PooledSetting
    seed: int

    @property
    def digest(self) -> str:
        """What a run depends on, but for its seed."""
        return self.setting.digest(self.arm)


class GradientSource(PatientGroups, Protocol):
    """Where sums come from: `SharedRows`."""

    def clipped_sums(
        self, wanted: Sequence[GradientsAt], step: StepOf, patients: Sequence[int]
    ) -> list[Doubles]:
        """See `SharedRows.clipped_sums`."""


@dataclass(frozen=True, eq=False)
class TrainedArm:
    """`adapter` [P] as published; `seconds` of a processor that its gradients took."""

    adapter: NDArray[np.float32]
    seconds: float


class SumsKept:
    """Clipped sums on disk, so that a run that was killed does not take its gradients again."""

    def __init__(self, path: Path) -> None:
        """A line of JSON for each sum in the file `path`; one that was cut short is left out."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._found: dict[tuple[str, int, int, int], tuple[Doubles, float]] = {}
        for line in path.read_text("ascii").splitlines() if path.exists() else ():
            try:
                digest, seed, number, group, seconds, text = json.loads(line)
            except ValueError:
                continue
            total = np.frombuffer(base64.b64decode(text), "<f8")
            self._found[digest, seed, number, group] = total, seconds

    def get(self, plan: PooledPlan, number: int, group: int) -> tuple[Doubles, float] | None:
        """The sum [P] of a group in step `number`, and the seconds that it took."""
        return self._found.get((plan.digest, plan.seed, number, group))

    def add(
        self, plan: PooledPlan, number: int, group: int, total: Doubles, seconds: float
    ) -> None:
        """Keep a sum."""
        key = plan.digest, plan.seed, number, group
        text = base64.b64encode(total.astype("<f8").tobytes()).decode("ascii")
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"\n{json.dumps([*key, seconds, text])}\n")
        self._found[key] = total, seconds


def train_together(
    plans: Sequence[PooledPlan], rows: GradientSource, kept: SumsKept, on_step: OnPooledStep
) -> dict[PooledPlan, TrainedArm]:
    """What each of `plans` publishes after all its steps.

    A run of one of SAME_NOISE gets that of the "pooled" run of its setting, which is trained along.
    """
    runs = _begun(plans, rows)
    seconds = dict.fromkeys(runs, 0.0)
    steps = max(plan.setting.steps for plan in runs)
    for number in range(steps):
        going = {plan: run for plan, run in runs.items() if number < plan.setting.steps}
        for plan, sums in _sums(going, number, rows, kept).items():
            going[plan].advance(number, [total for total, _ in sums])
            seconds[plan] += sum(own for _, own in sums)
        on_step(number + 1, steps)
    return {plan: TrainedArm(runs[plan].published, seconds[plan]) for plan in plans}


def _begun(plans: Iterable[PooledPlan], rows: PatientGroups) -> dict[PooledPlan, ArmSteps]:
    """The runs of `plans`, each one after that which it takes its noise from."""
    runs: dict[PooledPlan, ArmSteps] = {}
    for plan in plans:
        setting, seed = plan.setting, plan.seed
        if plan.arm not in SAME_NOISE:
            runs.setdefault(plan, begun(plan.arm, setting, rows, seed))
            continue
        source = PooledPlan("pooled", setting, seed)
        pooled = runs.setdefault(source, PooledArm("pooled", setting, rows, seed))
        if isinstance(pooled, PooledArm):
            runs[plan] = SameNoiseArm(plan.arm, pooled, setting, rows, seed)
    return runs


def _sums(
    going: dict[PooledPlan, ArmSteps], number: int, rows: GradientSource, kept: SumsKept
) -> dict[PooledPlan, list[tuple[Doubles, float]]]:
    """Of each run, the sums of its groups in step `number`, from disk where they are there."""
    places: dict[PatientGroup, list[tuple[PooledPlan, int]]] = defaultdict(list)
    for plan, run in going.items():
        for place, group in enumerate(run.groups(number)):
            if kept.get(plan, number, place) is None:
                places[group].append((plan, place))
    for group, wanted in places.items():
        start = time.process_time()
        at = [going[plan].at for plan, _ in wanted]
        totals = rows.clipped_sums(at, StepOf(wanted[0][0].seed, number), group)
        each = (time.process_time() - start) / len(wanted)
        for (plan, place), total in zip(wanted, totals, strict=True):
            kept.add(plan, number, place, total, each)
    return {
        plan: [
            found
            for place in range(len(run.groups(number)))
            if (found := kept.get(plan, number, place)) is not None
        ]
        for plan, run in going.items()
    }
