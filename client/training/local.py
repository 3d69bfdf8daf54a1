"""Patient-level DP-SGD on the site's tiles, with a resident model.

A step draws patients (Poisson), at most k tiles of each and m (t, noise) draws of every tile,
clips each patient's mean gradient, adds noise from a cryptographic source and divides by q N with
the declared N. The optimiser sees noised gradients only: what it makes of them costs no budget.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from client.training.encoding import EncodedTiles
from client.training.rows import draw_rows, fresh_generator
from client.training.trainer import Progress, ShouldStop, TrainingStopped
from model.adapters import Unet, attach, parameters, write_vector
from model.base import Pipeline
from model.layout import Layout
from model.losses import NoiseSchedule, check_adapted, loss_of
from privacy.dpsgd.choice import choose_engine
from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
from privacy.dpsgd.noise import NoiseSource, SystemNoise
from privacy.dpsgd.sampling import choose_tiles, pack_patients, poisson_draw
from privacy.dpsgd.step import private_gradient, release_of
from privacy.errors import ConfigError, ModelError
from privacy.manifest import Study, Training

EngineFactory = Callable[
    [Unet, Sequence[torch.nn.Parameter]], AbstractContextManager[ClippingEngine]
]

_MOST_ROWS_CPU = 32  # more are no faster there, and take memory
_MOST_ROWS_GPU = 256
_MOST_NUMBERS = 2**17  # of latents in a physical batch: 128 rows at 16x16x4, 8 at 64x64x4


@dataclass(frozen=True, slots=True)
class _Resident:
    """The tiles that are in memory, and each patient's among them."""

    tiles: EncodedTiles = field(repr=False)
    patients: Sequence[NDArray[np.int64]] = field(repr=False)


class LocalTrainer:
    """A `ResidentTrainer` for one site of a study.

    Holds model and tiles; nothing is loaded between rounds.
    """

    def __init__(
        self,
        study: Study,
        site: str,
        pipeline: Pipeline,
        tiles: EncodedTiles,
        *,
        noise: NoiseSource | None = None,
        physical_rows: int | None = None,
        engine: EngineFactory = choose_engine,
    ) -> None:
        """Attach the study's adapter to `pipeline`.

        `physical_rows` bounds the rows that go through the UNet at once (memory and speed only:
        the result does not depend on it). Raises `ConfigError` where `site` is no member, and
        `ModelError` where the study's loss does not fit to model or tiles.
        """
        member = study.site(site)
        if member is None:
            raise ConfigError(
                f"Study {study.name!r} has no site {site!r}.", "Use the name in its study.toml."
            )
        self._training = study.training
        self._release = release_of(study.training, member.declared_patients)
        self._unet: Unet = pipeline.unet
        self._layout = attach(pipeline.unet, study.adapter)
        _check_loss(study, pipeline, tiles)
        self._loss = loss_of(study, pipeline)
        self._schedule = NoiseSchedule.of(pipeline.scheduler, pipeline.device)
        self._resident = _Resident(tiles, tiles.by_patient())
        self._noise = noise or SystemNoise()
        self._physical_rows = physical_rows or default_rows(tiles, pipeline.device)
        self._engine = engine

    @property
    def layout(self) -> Layout:
        """See `Trainer.layout`."""
        return self._layout

    def train(
        self, adapter: NDArray[np.float32], *, progress: Progress, should_stop: ShouldStop
    ) -> NDArray[np.float32]:
        """See `Trainer.train`."""
        write_vector(self._unet, self._layout, adapter)
        flat = torch.nn.Parameter(torch.tensor(adapter))
        optimizer = make_optimizer(self._training, flat)
        steps = self._training.steps
        with self._engine(self._unet, parameters(self._unet, self._layout)) as engine:
            for step in range(steps):
                batches = self._batches(should_stop)
                gradient = private_gradient(engine, batches, self._release, self._noise)
                flat.grad = gradient.cpu()
                optimizer.step()
                write_vector(self._unet, self._layout, flat.detach().numpy())
                progress(step + 1, steps)
        delta: NDArray[np.float32] = flat.detach().numpy() - adapter
        return delta

    def withdraw(self, patients: Collection[int]) -> None:
        """See `ResidentTrainer.withdraw`."""
        tiles = self._resident.tiles.without(patients)
        self._resident = _Resident(tiles, tiles.by_patient())

    def _batches(self, should_stop: ShouldStop) -> Iterator[PhysicalBatch]:
        """The physical batches of one step, of fresh draws; whole patients each."""
        training, noise = self._training, self._noise
        resident = self._resident  # the whole step sees one state, whoever withdraws meanwhile
        drawn = poisson_draw(len(resident.patients), training.sampling_rate, noise)
        chosen = [self._choose(resident.patients[patient]) for patient in drawn]
        generator = fresh_generator(noise)
        counts = [len(tiles) * training.draws_per_tile for tiles in chosen]
        if should_stop():  # also where nobody was drawn
            raise TrainingStopped
        for group in pack_patients(counts, self._physical_rows):
            if should_stop():
                raise TrainingStopped
            owners = np.repeat(drawn[group], [counts[position] for position in group])
            tiles = [chosen[position] for position in group]
            yield self._batch(resident.tiles, tiles, owners, generator)

    def _choose(self, tiles: NDArray[np.int64]) -> NDArray[np.int64]:
        return tiles[choose_tiles(len(tiles), self._training.tiles_per_patient, self._noise)]

    def _batch(
        self,
        tiles: EncodedTiles,
        chosen: Sequence[NDArray[np.int64]],
        owners: NDArray[np.int64],
        generator: torch.Generator,
    ) -> PhysicalBatch:
        draws, steps = self._training.draws_per_tile, len(self._schedule)
        rows = draw_rows(tiles, chosen, draws, steps, generator).to(self._unet.device)
        return PhysicalBatch(
            patients=torch.from_numpy(owners),
            losses=lambda: self._loss(self._unet, rows, self._schedule),
        )


def _check_loss(study: Study, pipeline: Pipeline, tiles: EncodedTiles) -> None:
    """Raise `ModelError` where correlation regulation lacks its reference, or teaches nothing."""
    if study.stage_two is None or study.stage_two.correlation is None:
        return
    check_adapted(pipeline.unet, study.stage_two.correlation.block)
    if tiles.reference is None:
        raise ModelError(
            "The tiles were encoded without the reference of the study's loss.",
            "Give `encode_site` the study's reference.",
        )


def default_rows(tiles: EncodedTiles, device: torch.device) -> int:
    """Rows of a physical batch for latents of this size on `device`: fewer for large ones."""
    most = _MOST_ROWS_CPU if device.type == "cpu" else _MOST_ROWS_GPU
    return int(np.clip(_MOST_NUMBERS // tiles.latents.shape[1:].numel(), 1, most))


def make_optimizer(training: Training, flat: torch.nn.Parameter) -> torch.optim.Optimizer:
    """A round's local optimiser over the flat adapter; its state begins afresh every round."""
    match training.optimizer:
        case "sgd":
            return torch.optim.SGD([flat], lr=training.learning_rate)
        case "adam":
            return torch.optim.Adam([flat], lr=training.learning_rate)
