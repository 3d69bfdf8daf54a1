"""Clipped gradients of patients at an adapter: what a step sums up before any noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from craftsfl.planning.tissue import PooledSites
from model.adapters import attach, parameters, write_vector
from model.arrays import Doubles
from model.base import Pipeline
from model.losses import NoiseSchedule, denoising
from model.losses.draws import draw_rows
from privacy.dpsgd.engine import BLANK, PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.study.manifest import Adapter

_ROWS: Final = 32  # that go through the UNet at once


@dataclass(frozen=True)
class StepOf:
    """Which rows are drawn: those of the run `seed` in its step `number`, from 0."""

    seed: int
    number: int


class PatientRows:
    """A model, and patients whose gradients are taken one step after the other.

    Every arm of a seed meets the same (tile, t, noise) of a patient in the same step, so that arms
    differ in nothing but what is compared.
    """

    def __init__(
        self, pipeline: Pipeline, adapter: Adapter, patients: PooledSites, draws: int
    ) -> None:
        self._unet = pipeline.unet
        self._layout = attach(pipeline.unet, adapter)
        self._schedule = NoiseSchedule.of(pipeline.scheduler)
        self._tiles, self._draws = patients.train, draws
        self._of_patient = patients.train.by_patient()
        ends = np.cumsum(patients.sizes).tolist()
        self._sites = tuple(map(range, [0, *ends], ends))

    @property
    def sites(self) -> tuple[range, ...]:
        """The numbers of each site's patients."""
        return self._sites

    @property
    def parameters(self) -> int:
        """P."""
        return self._layout.parameters

    def clipped_sum(
        self,
        vector: NDArray[np.float32],
        step: StepOf,
        clipping_norm: float,
        patients: Sequence[int],
    ) -> Doubles:
        """Sum [P] of the clipped gradients of `patients`, in units of the clipping norm."""
        write_vector(self._unet, self._layout, vector)
        with LoraEngine(self._unet, parameters(self._unet, self._layout)) as engine:
            found = engine.clipped_sum(self._batches(patients, step), clipping_norm)
        return np.asarray(found.total.numpy() / clipping_norm)

    def each(self, vector: NDArray[np.float32], step: StepOf, patients: Sequence[int]) -> Doubles:
        """The gradient of every one of `patients` before any clip, [patients, P]."""
        write_vector(self._unet, self._layout, vector)
        found = []
        with LoraEngine(self._unet, parameters(self._unet, self._layout)) as engine:
            for batch in self._batches(patients, step):
                taken = int((batch.patients != BLANK).sum())
                found.append(engine.gradients(batch).values[:taken].double().numpy().copy())
        return np.concatenate(found)

    def _batches(self, patients: Sequence[int], step: StepOf) -> Iterator[PhysicalBatch]:
        places = max(1, _ROWS // self._draws)
        for start in range(0, len(patients), places):
            yield self._batch(patients[start : start + places], places, step)

    def _batch(self, patients: Sequence[int], places: int, step: StepOf) -> PhysicalBatch:
        """`patients`, and blanks up to `places`."""
        generators = [np.random.default_rng([step.seed, step.number, p]) for p in patients]
        chosen = [
            generator.choice(self._of_patient[patient], 1)
            for patient, generator in zip(patients, generators, strict=True)
        ]
        drawn = draw_rows(self._tiles, chosen, self._draws, len(self._schedule), generators)
        rows = drawn.spread(torch.arange(len(drawn.latents)), places * self._draws)
        numbers = torch.full((places,), BLANK, dtype=torch.int64)
        numbers[: len(patients)] = torch.tensor(patients)
        return PhysicalBatch(
            numbers, lambda: denoising(self._unet, rows, self._schedule), self._draws
        )
