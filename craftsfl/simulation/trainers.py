"""One model in memory for the trainers of all simulated sites: whoever has the turn trains."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray

from client.training import EncodedTiles, LocalTrainer, ShouldStop, StepProgress, TrainingStopped
from craftsfl.simulation.config import SimulationProgress
from model.adapters import attach
from model.base import Pipeline
from model.layout import Layout
from model.losses import Loss, NoiseSchedule, loss_of
from model.losses.draws import draw_rows
from privacy.dpsgd.noise import NoiseSource
from privacy.errors import ModelError
from privacy.study.losses import UNCOUPLED_HINT
from privacy.study.manifest import Study
from strategies.pooled import begin_chain

_TOLERANCE = 1e-3  # of a loss: what the place of other rows may change by rounding


class KnownNoise:
    """A repeatable `NoiseSource`, whose numbers follow from its name. Protects nobody."""

    def __init__(self, name: str) -> None:
        self._random = known_numbers(name)

    def uniform(self, n: int) -> NDArray[np.float64]:
        """See `NoiseSource.uniform`."""
        return self._random.random(n)


def known_numbers(name: str) -> np.random.Generator:
    """Ordinary random numbers that follow from `name`."""
    return np.random.default_rng(np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4"))


class SharedModel:
    """A base with the study's adapter and its loss, made once; one site trains at a time."""

    def __init__(
        self, study: Study, pipeline: Pipeline, loss: Loss | None, progress: SimulationProgress
    ) -> None:
        """Raises `ModelError` for a layout that the base lacks, or a loss that does not fit."""
        self.pipeline = pipeline
        self.layout = attach(pipeline.unet, study.adapter)
        if study.pools_noise:
            begin_chain(study, self.layout)  # refuses another number of parameters
        self.loss = loss or loss_of(study, pipeline)
        self.fault: BaseException | None = None
        self._progress = progress
        self._turn = threading.Lock()
        self._words, self._done, self._sites = "", 0, 0

    def expect(self, words: str, sites: int) -> None:
        """So many sites train now, for what `words` say; told as each is done."""
        self._words, self._done, self._sites = words, 0, sites
        self._progress(words, 0, sites)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Train in this thread, and no other one; what goes wrong is remembered in `fault`."""
        with self._turn, _Noted(self):
            with single_thread():
                yield
            self._done += 1
            self._progress(self._words, self._done, self._sites)

    def check(self) -> None:
        """Raise what has gone wrong in a training since the last look."""
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault


@contextmanager
def single_thread() -> Iterator[None]:
    """Inside, torch computes in this thread alone.

    Threads of its own that share two cores with other processes wait for each other: tenfold.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Noted:
    """Remembers what ends its block, and lets it pass."""

    def __init__(self, model: SharedModel) -> None:
        self._model = model

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, TrainingStopped):
            self._model.fault = error


class SimulatedTrainer:
    """A `ResidentTrainer` of one site on the shared model."""

    def __init__(
        self,
        model: SharedModel,
        study: Study,
        site: str,
        tiles: EncodedTiles,
        noise: NoiseSource | None = None,
    ) -> None:
        """`noise`: None is the system's."""
        self._model = model
        self._own = LocalTrainer(study, site, model.pipeline, tiles, noise=noise, loss=model.loss)

    @property
    def layout(self) -> Layout:
        """See `RoundTrainer.layout`."""
        return self._own.layout

    def train(
        self, adapter: NDArray[np.float32], *, progress: StepProgress, should_stop: ShouldStop
    ) -> NDArray[np.float32]:
        """See `RoundTrainer.train`."""
        with self._model.turn():
            return self._own.train(adapter, progress=progress, should_stop=should_stop)

    def clipped_sum(
        self,
        adapter: NDArray[np.float32],
        step: int,
        *,
        progress: StepProgress,
        should_stop: ShouldStop,
    ) -> NDArray[np.int64]:
        """See `RoundTrainer.clipped_sum`."""
        with self._model.turn():
            return self._own.clipped_sum(adapter, step, progress=progress, should_stop=should_stop)

    def withdraw(self, patients: Collection[int]) -> None:
        """See `ResidentTrainer.withdraw`."""
        self._own.withdraw(patients)


def check_rows_apart(pipeline: Pipeline, loss: Loss, tiles: EncodedTiles) -> None:
    """Raise `ModelError` for a loss of one's own that couples rows, or has another shape.

    Two rows beside one row, and beside another: the first one's loss must be the same. It shows
    what is tried here, no more; docs/research.md says how a loss is tested for good.
    """
    random = np.random.default_rng(0)
    places = [np.array([i % len(tiles)]) for i in range(4)]
    schedule = NoiseSchedule.of(pipeline.scheduler, pipeline.device)
    generators = [np.random.default_rng(i) for i in range(4)]
    rows = draw_rows(tiles, places, 1, len(schedule), generators).to(pipeline.device)
    other = torch.tensor([0, 3, 2, 1])
    moved = type(rows)(
        rows.latents[other],
        rows.timesteps[other],
        rows.noise[other] + float(random.standard_normal()),
        rows.text[other],
        None if rows.reference is None else rows.reference[other],
    )
    moved.noise[0].copy_(rows.noise[0])
    with torch.no_grad():
        here, there = loss(pipeline.unet, rows, schedule), loss(pipeline.unet, moved, schedule)
    if here.shape != (4,):
        raise ModelError(
            f"The loss returns {tuple(here.shape)} for 4 rows.", "Return one number for each row."
        )
    if not torch.allclose(here[0], there[0], rtol=_TOLERANCE):
        raise ModelError(
            "The loss couples patients: other rows in the batch change a row's own loss.",
            f"Clipping would bound nothing. {UNCOUPLED_HINT}",
        )
