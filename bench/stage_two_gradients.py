"""Clipped gradients of patients under any loss: what a step of `bench.stage_two` sums up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from client.training import EncodedTiles
from model.adapters import attach, detach, parameters, write_vector
from model.arrays import Doubles
from model.base import Pipeline
from model.losses import Loss, NoiseSchedule
from model.losses.draws import draw_rows
from privacy.dpsgd.engine import BLANK, PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.study.manifest import Adapter

_ROWS: Final = 32  # that go through the UNet at once


class LossRows:
    """A model, a loss, and patients whose gradients are taken one step after the other.

    Every loss of a seed meets the same (tile, t, noise) of a patient in the same step, one row for
    each, so that losses differ in nothing but what is compared.
    """

    def __init__(
        self, pipeline: Pipeline, adapter: Adapter, tiles: EncodedTiles, loss: Loss, seed: int
    ) -> None:
        """Takes off any other adapter that `pipeline` carries."""
        detach(pipeline.unet)
        self._unet, self._loss, self._seed = pipeline.unet, loss, seed
        self._layout = attach(pipeline.unet, adapter)
        self._schedule = NoiseSchedule.of(pipeline.scheduler)
        self._tiles, self._of_patient = tiles, tiles.by_patient()

    @property
    def parameters(self) -> int:
        """P."""
        return self._layout.parameters

    def clipped_sum(
        self,
        vector: NDArray[np.float32],
        step: int,
        clipping_norm: float,
        patients: Sequence[int],
    ) -> Doubles:
        """Sum [P] of the clipped gradients of `patients`, in units of the clipping norm."""
        write_vector(self._unet, self._layout, vector)
        with LoraEngine(self._unet, parameters(self._unet, self._layout)) as engine:
            found = engine.clipped_sum(self._batches(patients, step), clipping_norm)
        return np.asarray(found.total.numpy() / clipping_norm)

    def clipped_each(
        self,
        vector: NDArray[np.float32],
        step: int,
        clipping_norm: float,
        patients: Sequence[int],
    ) -> Doubles:
        """The clipped gradients [patients, P], in units of the clipping norm."""
        write_vector(self._unet, self._layout, vector)
        with LoraEngine(self._unet, parameters(self._unet, self._layout)) as engine:
            batches = self._batches(patients, step)
            parts = [part.double() for part in engine.contributions(batches, clipping_norm)]
        return np.asarray(torch.cat(parts)[: len(patients)].numpy() * 2.0**-CONTRIBUTION_BITS)

    def _batches(self, patients: Sequence[int], step: int) -> Iterator[PhysicalBatch]:
        for start in range(0, len(patients), _ROWS):
            yield self._batch(patients[start : start + _ROWS], step)

    def _batch(self, patients: Sequence[int], step: int) -> PhysicalBatch:
        """`patients`, and blanks up to the shape of all batches."""
        generators = [np.random.default_rng([self._seed, step, patient]) for patient in patients]
        chosen = [
            generator.choice(self._of_patient[patient], 1)
            for patient, generator in zip(patients, generators, strict=True)
        ]
        drawn = draw_rows(self._tiles, chosen, 1, len(self._schedule), generators)
        rows = drawn.spread(torch.arange(len(drawn.latents)), _ROWS)
        numbers = torch.full((_ROWS,), BLANK, dtype=torch.int64)
        numbers[: len(patients)] = torch.tensor(patients)
        return PhysicalBatch(numbers, lambda: self._loss(self._unet, rows, self._schedule))
