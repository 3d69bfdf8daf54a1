"""Clipped gradients of patients under any loss: what a step of `bench.stage_two` sums up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from client.training import EncodedTiles
from client.training.precision import Precision
from model.adapters import Unet, attach, detach, parameters, write_vector
from model.arrays import Doubles
from model.base import Pipeline
from model.losses import Loss, NoiseSchedule
from model.losses.draws import draw_rows
from model.mixed_precision import MixedPrecision
from privacy.dpsgd.engine import BLANK, PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.study.manifest import Adapter

_ROWS: Final = 32  # that go through the UNet at once


class KnownPasses:
    """What the base says of rows, kept: losses of a seed that ask it the same get the same answer.

    In a step only the base's passes are without gradient. What is kept is what was computed, bit
    for bit; rows, timesteps, captions and precision are what it depends on.
    """

    def __init__(self) -> None:
        self._said: dict[bytes, torch.Tensor] = {}

    def __len__(self) -> int:
        """How many passes are kept."""
        return len(self._said)

    @contextmanager
    def used(self, unet: Unet, precision: Precision) -> Iterator[None]:
        """Inside, a pass without gradient is made once."""
        original = unet.forward

        def forward(
            noised: torch.Tensor,
            timesteps: torch.Tensor,
            text: torch.Tensor,
            **settings: Any,  # noqa: ANN401 - as the UNet's own
        ) -> Any:  # noqa: ANN401
            if torch.is_grad_enabled():
                return original(noised, timesteps, text, **settings)
            key = _digest(precision, noised, timesteps, text)
            if key not in self._said:
                self._said[key] = original(noised, timesteps, text, **settings)[0]
            return (self._said[key],)

        unet.forward = forward
        try:
            yield
        finally:
            del unet.forward


def _digest(precision: str, *tensors: torch.Tensor) -> bytes:
    found = hashlib.blake2b(precision.encode("ascii"), digest_size=16)
    for tensor in tensors:
        found.update(str(tuple(tensor.shape)).encode("ascii"))
        found.update(tensor.contiguous().numpy().tobytes())
    return found.digest()


class LossRows:
    """A model, a loss, and patients whose gradients are taken one step after the other.

    Every loss of a seed meets the same (tile, t, noise) of a patient in the same step, one row for
    each, so that losses differ in nothing but what is compared.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        adapter: Adapter,
        tiles: EncodedTiles,
        loss: Loss,
        seed: int,
        precision: Precision = "float32",
        known: KnownPasses | None = None,
    ) -> None:
        """Takes off any other adapter that `pipeline` carries.

        `precision`: of the frozen layers, as a site trains; `known`: the base's passes of this seed
        and these patients so far.
        """
        detach(pipeline.unet)
        self._unet, self._loss, self._seed = pipeline.unet, loss, seed
        self._layout = attach(pipeline.unet, adapter)
        self._schedule = NoiseSchedule.of(pipeline.scheduler)
        self._tiles, self._of_patient = tiles, tiles.by_patient()
        self._precision = precision
        self._mixed = MixedPrecision(pipeline.unet) if precision == "bfloat16" else None
        self._known = known

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
        with self._clipping() as engine:
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
        with self._clipping() as engine:
            batches = self._batches(patients, step)
            parts = [part.double() for part in engine.contributions(batches, clipping_norm)]
        return np.asarray(torch.cat(parts)[: len(patients)].numpy() * 2.0**-CONTRIBUTION_BITS)

    @contextmanager
    def _clipping(self) -> Iterator[LoraEngine]:
        with ExitStack() as stack:
            if self._mixed is not None:
                stack.enter_context(self._mixed.active())
            if self._known is not None:
                stack.enter_context(self._known.used(self._unet, self._precision))
            trained = parameters(self._unet, self._layout)
            yield stack.enter_context(LoraEngine(self._unet, trained))

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
