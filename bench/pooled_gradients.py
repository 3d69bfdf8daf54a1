"""Clipped gradients of the same patients at several adapters: what their runs' steps sum up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.pooled_prefix import same_rows
from craftsfl.planning.gradients import PatientRows, StepOf
from model.adapters import parameters, write_vector
from model.arrays import Doubles
from privacy.dpsgd.engine import PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine

_ROWS: Final = 32  # that go through the UNet at once, at most


@dataclass(frozen=True, eq=False)
class GradientsAt:
    """Where gradients are taken, and how long a patient's may be."""

    adapter: NDArray[np.float32]  # [P]
    clipping_norm: float


class SharedRows(PatientRows):
    """`PatientRows` for arms that are trained side by side.

    What a pass computes before the adapter is the same for all arms, and computed once: to the last
    bit, no arm's gradients depend on others.
    """

    def clipped_sums(
        self, wanted: Sequence[GradientsAt], step: StepOf, patients: Sequence[int]
    ) -> list[Doubles]:
        """For each of `wanted`, the sum [P] of clipped gradients of `patients`, in units of C."""
        totals = [np.zeros(self.parameters) for _ in wanted]
        with LoraEngine(self._unet, parameters(self._unet, self._layout)) as engine:
            for batch in self._batches(patients, step):
                with same_rows(self._unet):
                    for at, total in zip(wanted, totals, strict=True):
                        write_vector(self._unet, self._layout, at.adapter)
                        found = engine.clipped_sum([batch], at.clipping_norm)
                        total += found.total.numpy() / at.clipping_norm
        return totals

    def _batches(self, patients: Sequence[int], step: StepOf) -> Iterator[PhysicalBatch]:
        # A small group is one batch without blanks.
        places = max(1, min(_ROWS // self._draws, len(patients)))
        for start in range(0, len(patients), places):
            yield self._batch(patients[start : start + places], places, step)
