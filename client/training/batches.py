"""From where patients stand to the physical batches that a clipping engine takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from client.training.encoding import EncodedTiles
from client.training.rows import by_place, generators_of, no_rows
from client.training.trainer import ShouldStop, TrainingStopped
from model.adapters import Unet
from model.base import Pipeline
from model.losses import Loss, NoiseSchedule, Rows, loss_of
from model.losses.draws import draw_rows
from privacy.dpsgd.engine import BLANK, PhysicalBatch
from privacy.dpsgd.sampling import choose_tiles
from privacy.dpsgd.substreams import Substreams
from privacy.study.manifest import Study


@dataclass(frozen=True, slots=True)
class Resident:
    """The tiles in memory, and which of them are each patient's."""

    tiles: EncodedTiles = field(repr=False)
    numbers: NDArray[np.int64] = field(repr=False)  # of the patients; never renumbered
    tiles_of: Mapping[int, NDArray[np.int64]] = field(repr=False)

    @classmethod
    def of(cls, tiles: EncodedTiles) -> Resident:
        """Those whose tiles these are."""
        numbers = np.unique(tiles.patient_of.numpy())
        return cls(tiles, numbers, dict(zip(numbers.tolist(), tiles.by_patient(), strict=True)))


class BatchMaker:
    """Makes the batches of a study: k tiles of each patient, m (t, noise) draws of every tile."""

    def __init__(self, study: Study, pipeline: Pipeline, loss: Loss | None = None) -> None:
        """`loss` takes the place of the study's own.

        Raises `ModelError` where the study's loss does not fit to the model.
        """
        self._unet: Unet = pipeline.unet
        self._loss = loss or loss_of(study, pipeline)
        self._schedule = NoiseSchedule.of(pipeline.scheduler, pipeline.device)
        self._tiles_each = study.training.tiles_per_patient
        self._draws = study.training.draws_per_tile

    @property
    def rows_each(self) -> int:
        """Rows of a patient's place."""
        return self._tiles_each * self._draws

    @property
    def timesteps(self) -> int:
        """Of the diffusion."""
        return len(self._schedule)

    def filled(
        self,
        resident: Resident,
        standing: Iterable[NDArray[np.int64]],
        streams: Substreams,
        should_stop: ShouldStop,
    ) -> Iterator[PhysicalBatch]:
        """A batch for each of `standing`, int64 [places]: numbers of patients, or `BLANK`.

        Raises `TrainingStopped` where `should_stop` says so before one of them.
        """
        for patients in standing:
            if should_stop():
                raise TrainingStopped
            yield self._batch(resident, patients, streams)

    def physical(self, rows: Rows, patients: torch.Tensor) -> PhysicalBatch:
        """`rows`, place after place, as a batch on the model's device."""
        on_device = rows.to(self._unet.device)
        return PhysicalBatch(
            patients=patients,
            losses=lambda: self._loss(self._unet, on_device, self._schedule),
            rows_each=self.rows_each,
        )

    def _batch(
        self, resident: Resident, patients: NDArray[np.int64], streams: Substreams
    ) -> PhysicalBatch:
        present = patients[patients != BLANK]
        rows = self._rows(resident, present, streams) if len(present) else no_rows(resident.tiles)
        rows = by_place(rows, torch.from_numpy(patients != BLANK), self.rows_each)
        return self.physical(rows, torch.from_numpy(patients))

    def _rows(self, resident: Resident, present: NDArray[np.int64], streams: Substreams) -> Rows:
        chosen = []
        for number in present.tolist():
            own = resident.tiles_of[number]
            chosen.append(own[choose_tiles(number, len(own), self._tiles_each, streams)])
        generators = generators_of(present, streams)
        return draw_rows(resident.tiles, chosen, self._draws, self.timesteps, generators)
