"""How a run of `bench.stage_two` trains: a trainer's gradients and clip, a pooled study's steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from bench.stage_two_gradients import KnownPasses, LossRows
from bench.stage_two_setting import SHUFFLED, SQUARED, StageTwoSetting, TrainingPlan
from client.training import EncodedTiles
from model.adapters import attach, initial_vector
from model.base import Pipeline
from model.losses import EffectTerm, Loss, denoising, squared_error, stage_two_loss
from strategies.descent import Descent

OnStep = Callable[[int, int], None]

_DRAWS: Final = 59_000
_NOISE: Final = 60_000


@dataclass(frozen=True)
class RunOf:
    """A half of the table, and a seed."""

    private: bool
    seed: int


@dataclass(frozen=True, slots=True)
class SquaredEffects(EffectTerm):
    """The control: |d - d*|^2 in place of the hinge, so that sizes of effects count too."""

    def missed(self, own: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """[n], in units of the denoising loss."""
        return squared_error(own, known)


def bench_loss(loss: str, setting: StageTwoSetting, pipeline: Pipeline, *, private: bool) -> Loss:
    """One of STAGE_TWO_LOSSES, as the trainer would make it."""
    terms = setting.terms(loss, private=private)
    if terms is None:
        return denoising
    made = stage_two_loss(terms, pipeline)
    if loss != SQUARED or made.effects is None:
        return made
    term = made.effects
    return replace(made, effects=SquaredEffects(term.constants, term.phrases, term.empty))


def bench_tiles(loss: str, tiles: EncodedTiles, plan: TrainingPlan, seed: int) -> EncodedTiles:
    """The plan's patients; for the control with the likeness of other captions.

    Every caption gets another one's: the phrases are as often used, and by the wrong captions.
    """
    over = range(plan.patients, int(tiles.patient_of.max()) + 1)
    tiles = tiles.without(over) if over else tiles
    if loss != SHUFFLED or tiles.likeness is None:
        return tiles
    shift = int(np.random.default_rng([_DRAWS, seed]).integers(1, max(2, len(tiles.likeness))))
    order = torch.randperm(len(tiles.likeness), generator=torch.Generator().manual_seed(seed))
    moved = torch.empty_like(tiles.likeness)
    moved[order] = tiles.likeness[order.roll(shift)]  # of nobody its own
    return replace(tiles, likeness=moved)


def loss_rows(
    loss: str,
    setting: StageTwoSetting,
    pipeline: Pipeline,
    tiles: EncodedTiles,
    where: RunOf,
    known: KnownPasses | None = None,
) -> LossRows:
    """The gradients of a run's patients, under the adapter of its half of the table.

    `known`: what the base has said in other runs of the same seed and half.
    """
    plan = setting.plan(private=where.private)
    own = bench_tiles(loss, tiles, plan, where.seed)
    made = bench_loss(loss, setting, pipeline, private=where.private)
    way = (setting.precision(loss, private=where.private), known)
    return LossRows(pipeline, plan.adapter, own, made, where.seed, *way)


def start_of(plan: TrainingPlan, pipeline: Pipeline, seed: int) -> NDArray[np.float32]:
    """Where every loss of a seed begins: the base."""
    layout = attach(pipeline.unet, plan.adapter)
    return initial_vector(layout, hashlib.sha256(b"%d" % seed).digest())


def trained_adapter(
    rows: LossRows,
    plan: TrainingPlan,
    start: NDArray[np.float32],
    seed: int,
    on_step: OnStep,
) -> NDArray[np.float32]:
    """The adapter [P] after all steps; every loss of a seed meets the same draws and noise."""
    noise = plan.added_deviation(rows.parameters)
    random = np.random.default_rng([_NOISE, seed])
    state = Descent.begin(plan.rule, start)
    for number in range(plan.steps):
        drawn = np.random.default_rng([_DRAWS, seed, number])
        entering = drawn.choice(plan.patients, min(plan.drawn, plan.patients), replace=False)
        total = rows.clipped_sum(state.adapter, number, plan.clipping_norm, entering.tolist())
        mean = total / len(entering) + noise * random.standard_normal(rows.parameters)
        state = state.after(mean, plan.opened_deviation**2)
        on_step(number + 1, plan.steps)
    return state.published
