"""Patient-level DP-SGD on the site's tiles, with a resident model.

A step draws patients (as the study's mechanism says; no more than a public capacity), k tiles of
each and m (t, noise) draws of every tile. It assigns each patient a place in a physical batch of
one public shape, clips each patient's mean gradient, and releases their sum with noise from a
cryptographic source. The optimiser sees only noised gradients, so what it does costs no budget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from client.training.encoding import EncodedTiles
from client.training.proof import SHARPENINGS, Cards, large_vector
from client.training.rows import by_place, generators_of, no_rows
from client.training.step_sum import StepSum, step_label
from client.training.trainer import ShouldStop, StepProgress, TrainingStopped
from model.adapters import Unet, attach, parameters, read_vector, write_vector
from model.base import Pipeline
from model.layout import Layout
from model.losses import NoiseSchedule, Rows, check_adapted, loss_of
from model.losses.draws import default_rows, draw_rows
from privacy.dpsgd.assignment import Assign, fixed, packed, reserved
from privacy.dpsgd.choice import choose_engine
from privacy.dpsgd.engine import BLANK, ClippingEngine, PhysicalBatch
from privacy.dpsgd.isolation import Isolation, finite_share, isolation_of
from privacy.dpsgd.noise import NoiseSource, SystemNoise
from privacy.dpsgd.sampling import choose_tiles
from privacy.dpsgd.substreams import Substreams, stream_secret
from privacy.errors import AccountingError, ConfigError, ModelError
from privacy.mechanisms.base import Mechanism
from privacy.study.manifest import Study, Training
from privacy.study.terms import mechanism_of

EngineFactory = Callable[
    [Unet, Sequence[torch.nn.Parameter]], AbstractContextManager[ClippingEngine]
]

_OTHER_DEVICE = (
    'Set agent.device = "cpu" in site.toml, or try another version of torch or of the driver.'
)
_TELLING = 0.5  # share of finite gradients above which a test of the device is meaningful


@dataclass(frozen=True, slots=True)
class _Resident:
    """The tiles in memory, and which of them are each patient's."""

    tiles: EncodedTiles = field(repr=False)
    numbers: NDArray[np.int64] = field(repr=False)  # of the patients; never renumbered
    tiles_of: Mapping[int, NDArray[np.int64]] = field(repr=False)

    @classmethod
    def of(cls, tiles: EncodedTiles) -> _Resident:
        numbers = np.unique(tiles.patient_of.numpy())
        return cls(tiles, numbers, dict(zip(numbers.tolist(), tiles.by_patient(), strict=True)))


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
        assign: Assign = packed,
        mechanism: Mechanism | None = None,
    ) -> None:
        """Attach the study's adapter to `pipeline`.

        `physical_rows` bounds the rows that go through the UNet at once, but is at least one
        patient's (memory and speed; up to rounding the result does not depend on it). `assign` says
        where patients stand: `packed` needs a device on which `prove_isolation` finds that places
        do not matter. `mechanism` makes the steps; it is the study's own unless one is given.
        Raises `ConfigError` where `site` is no member, and
        `ModelError` where the study's loss does not fit to model or tiles.
        """
        member = study.site(site)
        if member is None:
            raise ConfigError(
                f"Study {study.name!r} has no site {site!r}.", "Use the name in its study.toml."
            )
        self._training = study.training
        self._slots = member.declared_patients
        self._step = (mechanism or mechanism_of(study)).at_site(member.declared_patients)
        self._unet: Unet = pipeline.unet
        self._layout = attach(pipeline.unet, study.adapter)
        _check_loss(study, pipeline, tiles)
        self._loss = loss_of(study, pipeline)
        self._schedule = NoiseSchedule.of(pipeline.scheduler, pipeline.device)
        self._resident = _Resident.of(tiles)
        self._noise = noise or SystemNoise()
        self._rows_each = study.training.tiles_per_patient * study.training.draws_per_tile
        rows = physical_rows or default_rows(tiles, pipeline.device)
        self._places = max(1, min(rows // self._rows_each, self._step.capacity))
        self._engine = engine
        self._assign = assign
        self._kept: StepSum | None = None
        self._drawing = b""  # the secret of all draws for steps in which everybody is
        self._lock = threading.Lock()  # of residents and what is kept of them

    @property
    def layout(self) -> Layout:
        """See `RoundTrainer.layout`."""
        return self._layout

    @property
    def assign(self) -> Assign:
        """How patients are assigned their places."""
        return self._assign

    def train(
        self, adapter: NDArray[np.float32], *, progress: StepProgress, should_stop: ShouldStop
    ) -> NDArray[np.float32]:
        """See `RoundTrainer.train`."""
        write_vector(self._unet, self._layout, adapter)
        # One flat parameter: the noised gradient is a vector, and SGD and Adam act on each number
        # alone, so this is the same as an optimiser over the layers.
        flat = torch.nn.Parameter(torch.tensor(adapter))
        optimizer = make_optimizer(self._training, flat)
        steps = self._training.steps
        with self._engine(self._unet, parameters(self._unet, self._layout)) as engine:
            for step in range(steps):
                batches = self._batches(should_stop)
                gradient = self._step.release(engine, batches, self._noise)
                flat.grad = gradient.cpu()
                optimizer.step()
                write_vector(self._unet, self._layout, flat.detach().numpy())
                progress(step + 1, steps)
        delta: NDArray[np.float32] = flat.detach().numpy() - adapter
        return delta

    def clipped_sum(
        self,
        adapter: NDArray[np.float32],
        step: int,
        *,
        progress: StepProgress,
        should_stop: ShouldStop,
    ) -> NDArray[np.int64]:
        """See `RoundTrainer.clipped_sum`."""
        if self._training.sampling_rate != 1:
            raise AccountingError(
                f"The study draws patients at rate {self._training.sampling_rate:g}; a sum of all "
                "of them is not what it accounts for.",
                "Set training.sampling_rate = 1.",
            )
        label = step_label(adapter, step)
        with self._lock:
            if self._kept is not None and self._kept.label == label:
                return self._kept.total.copy()
            self._kept = None  # its memory is free before the next one's is taken
        return self._add_up(adapter, label, progress, should_stop)

    def _add_up(
        self,
        adapter: NDArray[np.float32],
        label: bytes,
        progress: StepProgress,
        should_stop: ShouldStop,
    ) -> NDArray[np.int64]:
        write_vector(self._unet, self._layout, adapter)
        self._drawing = self._drawing or stream_secret(self._noise)
        found = StepSum(label, self._slots, self._layout.parameters)
        resident = self._resident
        standing = reserved(resident.numbers, self._places, self._slots).batches
        streams = Substreams.named(self._drawing, label)
        batches = self._filled(resident, standing, streams, should_stop)
        with self._engine(self._unet, parameters(self._unet, self._layout)) as engine:
            sums = engine.contributions(batches, self._training.clipping_norm)
            for done in range(len(standing)):
                found.add(next(sums))
                progress(done + 1, len(standing))
        with self._lock:
            gone = np.setdiff1d(resident.numbers, self._resident.numbers).tolist()
            self._kept = found if not gone or found.take_out(gone) else None
        return found.total.copy()

    def prove_isolation(self) -> None:
        """Test on this device, before any patient's row is used, that rows do not affect others.

        About ten batches of made-up rows at a large adapter (`privacy.dpsgd.isolation`). Where a
        gradient also depends on its place, patients get fixed places from now on. Raises
        `ModelError` where it depends on what other places hold, because clipping would then bound
        nothing, and where the test is inconclusive.
        """
        found = self.isolation()
        if not found.in_place:
            raise ModelError(
                f"On the device {self._unet.device}, one patient's rows change the gradients of "
                "others: clipping would not bound what is revealed of a patient.",
                _OTHER_DEVICE,
            )
        if not found.permuted:
            self._assign = fixed

    def isolation(self) -> Isolation:
        """What such a test finds on this device. The adapter is unchanged afterwards."""
        with self._engine(self._unet, parameters(self._unet, self._layout)) as engine:
            return self._isolation(engine)

    def _isolation(self, engine: ClippingEngine) -> Isolation:
        before = read_vector(self._unet, self._layout)
        like = no_rows(self._resident.tiles)
        cards = Cards(like, self._places, self._rows_each, len(self._schedule))

        def deal(standing: NDArray[np.int64]) -> PhysicalBatch:
            return self._physical(cards.dealt(standing), torch.arange(len(standing)))

        try:
            for sharpened in SHARPENINGS:
                vector = large_vector(self._layout, sharpened=sharpened)
                write_vector(self._unet, self._layout, vector)
                if finite_share(engine, deal, self._places) >= _TELLING:
                    return isolation_of(engine, deal, self._places)
            raise ModelError(
                f"On the device {self._unet.device}, hardly any gradient of made-up rows is finite"
                ": nothing can be said about what patients' rows would do there.",
                _OTHER_DEVICE,
            )
        except RuntimeError as error:  # torch's, for instance for an operation that may vary
            raise ModelError(
                f"On the device {self._unet.device}, a gradient cannot be taken in one fixed "
                f"order: {error}",
                _OTHER_DEVICE,
            ) from None
        finally:
            write_vector(self._unet, self._layout, before)

    def withdraw(self, patients: Collection[int]) -> None:
        """See `ResidentTrainer.withdraw`."""
        with self._lock:
            self._resident = _Resident.of(self._resident.tiles.without(patients))
            if self._kept is not None and not self._kept.take_out(patients):
                self._kept = None

    def _batches(self, should_stop: ShouldStop) -> Iterator[PhysicalBatch]:
        """The physical batches of one step, with fresh draws."""
        streams = Substreams.fresh(self._noise)
        resident = self._resident  # one state for the whole step, even if somebody withdraws
        drawn = self._step.draw(resident.numbers, streams)
        if should_stop():  # also where nobody was drawn
            raise TrainingStopped
        standing = self._assign(drawn, self._places, streams).batches
        yield from self._filled(resident, standing, streams, should_stop)

    def _filled(
        self,
        resident: _Resident,
        standing: Iterable[NDArray[np.int64]],
        streams: Substreams,
        should_stop: ShouldStop,
    ) -> Iterator[PhysicalBatch]:
        """The batches in which patients stand like that."""
        for patients in standing:
            if should_stop():
                raise TrainingStopped
            yield self._batch(resident, patients, streams)

    def _batch(
        self, resident: _Resident, patients: NDArray[np.int64], streams: Substreams
    ) -> PhysicalBatch:
        """The batch of `patients`, int64 [places]: numbers, or `BLANK`."""
        k, draws = self._training.tiles_per_patient, self._training.draws_per_tile
        present = patients[patients != BLANK]
        chosen = []
        for number in present.tolist():
            own = resident.tiles_of[number]
            chosen.append(own[choose_tiles(number, len(own), k, streams)])
        generators = generators_of(present, streams)
        rows = (
            draw_rows(resident.tiles, chosen, draws, len(self._schedule), generators)
            if chosen
            else no_rows(resident.tiles)
        )
        rows = by_place(rows, torch.from_numpy(patients != BLANK), self._rows_each)
        return self._physical(rows, torch.from_numpy(patients))

    def _physical(self, rows: Rows, patients: torch.Tensor) -> PhysicalBatch:
        on_device = rows.to(self._unet.device)
        return PhysicalBatch(
            patients=patients,
            losses=lambda: self._loss(self._unet, on_device, self._schedule),
            rows_each=self._rows_each,
        )


def _check_loss(study: Study, pipeline: Pipeline, tiles: EncodedTiles) -> None:
    """Raise `ModelError` where correlation regulation lacks its reference, or has no effect."""
    if study.stage_two is None or study.stage_two.correlation is None:
        return
    check_adapted(pipeline.unet, study.stage_two.correlation.block)
    if tiles.reference is None:
        raise ModelError(
            "The tiles were encoded without the reference of the study's loss.",
            "Give `encode_site` the study's reference.",
        )


def make_optimizer(training: Training, flat: torch.nn.Parameter) -> torch.optim.Optimizer:
    """A round's local optimiser over the flat adapter; its state starts fresh every round."""
    rate = training.learning_rate
    match training.optimizer:
        case "sgd" if rate is not None:
            return torch.optim.SGD([flat], lr=rate)
        case "adam" if rate is not None:
            return torch.optim.Adam([flat], lr=rate)
    raise ModelError(
        "The study has no local optimiser: its rounds are sums of clipped gradients.",
        "Ask the trainer for the clipped sum.",
    )
