"""Patient-level DP-SGD on the site's tiles, with a resident model.

A step draws patients (as the study's mechanism says; no more than a public capacity), k tiles of
each and m (t, noise) draws of every tile. It assigns each patient a place in a physical batch of
one public shape, clips each patient's mean gradient, and releases their sum with noise from a
cryptographic source. The optimiser sees only noised gradients, so what it does costs no budget.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray

from client.training.batches import BatchMaker, Resident
from client.training.encoding import EncodedTiles
from client.training.kept_proof import KeptProof
from client.training.precision import Precision
from client.training.proof import Cards
from client.training.rows import no_rows
from client.training.step_sum import StepSum, step_label
from client.training.trainer import ShouldStop, StepProgress, TrainingStopped
from client.training.trial import OTHER_DEVICE, OTHER_PRECISION, DeviceTrial
from model.adapters import Unet, attach, parameters, read_vector, write_vector
from model.base import Pipeline
from model.layout import Layout
from model.losses import Loss, Rows, check_adapted
from model.losses.draws import default_rows
from model.mixed_precision import MixedPrecision
from privacy.dpsgd.assignment import Assign, all_places, fixed, packed
from privacy.dpsgd.choice import choose_engine
from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
from privacy.dpsgd.isolation import Deal, Isolation
from privacy.dpsgd.noise import NoiseSource, SystemNoise
from privacy.dpsgd.substreams import Substreams, stream_secret
from privacy.errors import AccountingError, ConfigError, ModelError
from privacy.mechanisms.base import Mechanism, SiteStep
from privacy.study.manifest import Study, Training
from privacy.study.terms import mechanism_of

EngineFactory = Callable[
    [Unet, Sequence[torch.nn.Parameter]], AbstractContextManager[ClippingEngine]
]


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
        loss: Loss | None = None,
        precision: Precision = "float32",
    ) -> None:
        """Attach the study's adapter to `pipeline`.

        `physical_rows` bounds the rows that go through the UNet at once, but is at least one
        patient's (memory and speed; up to rounding the result does not depend on it). `assign` says
        where patients stand: `packed` needs a device on which `prove_isolation` finds that places
        do not matter. `mechanism` makes the steps, `loss` is what is minimised; both are the
        study's own unless given, as in simulations. Raises `ConfigError` where `site` is no member,
        and `ModelError` where the study's loss does not fit to model or tiles.
        """
        member = study.site(site)
        if member is None:
            raise ConfigError(
                f"Study {study.name!r} has no site {site!r}.", "Use the name in its study.toml."
            )
        self._study = study
        self._training = study.training
        self._slots = member.declared_patients
        # Where the noise is pooled it is not added here.
        self._step: SiteStep | None = None
        if mechanism is not None or not study.pools_noise:
            self._step = (mechanism or mechanism_of(study)).at_site(self._slots)
        self._unet: Unet = pipeline.unet
        self._layout = attach(pipeline.unet, study.adapter)
        self._mixed = MixedPrecision(pipeline.unet) if precision == "bfloat16" else None
        _check_loss(study, pipeline, tiles)
        self._maker = BatchMaker(study, pipeline, loss)
        self._resident = Resident.of(tiles)
        self._noise = noise or SystemNoise()
        rows = physical_rows or default_rows(tiles, pipeline.device)
        self._places = places_of(rows // self._maker.rows_each, self._slots, self._step)
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
        if self._step is None:
            raise AccountingError(
                "The noise of this study is pooled: a site alone has no private update.",
                "Ask the trainer for the clipped sum.",
            )
        write_vector(self._unet, self._layout, adapter)
        # One flat parameter: the noised gradient is a vector, and SGD and Adam act on each number
        # alone, so this is the same as an optimiser over the layers.
        flat = torch.nn.Parameter(torch.tensor(adapter))
        optimizer = make_optimizer(self._training, flat)
        steps = self._training.steps
        with self._clipping() as engine:
            for step in range(steps):
                batches = self._batches(self._step, should_stop)
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
            resident = self._resident
            kept = self._kept if self._kept is not None and self._kept.label == label else None
            if kept is not None and kept.is_whole:
                return kept.total.copy()
            self._kept = None  # its memory is free before the next one's is taken
        standing = all_places(resident.numbers, self._places, self._slots).batches
        found = kept or StepSum(label, self._slots, self._layout.parameters, len(standing))
        try:
            self._add_up(adapter, found, resident, standing, (progress, should_stop))
        finally:
            self._keep(found, resident)
        return found.total.copy()

    @contextmanager
    def _clipping(self) -> Iterator[ClippingEngine]:
        """The engine, with the frozen layers in their precision."""
        with ExitStack() as stack:
            if self._mixed is not None:
                stack.enter_context(self._mixed.active())
            trained = parameters(self._unet, self._layout)
            yield stack.enter_context(self._engine(self._unet, trained))

    def _add_up(
        self,
        adapter: NDArray[np.float32],
        found: StepSum,
        resident: Resident,
        standing: NDArray[np.int64],
        hooks: tuple[StepProgress, ShouldStop],
    ) -> None:
        """Add the parts of those `standing` whom `found` does not hold yet."""
        progress, should_stop = hooks
        write_vector(self._unet, self._layout, adapter)
        self._drawing = self._drawing or stream_secret(self._noise)
        streams = Substreams.named(self._drawing, found.label)
        batches = self._maker.filled(resident, standing[found.done :], streams, should_stop)
        with self._clipping() as engine:
            for parts in engine.contributions(batches, self._training.clipping_norm):
                found.add(parts)
                progress(found.done, len(standing))

    def _keep(self, found: StepSum, resident: Resident) -> None:
        """Keep `found`, without those who have withdrawn since they were `resident`."""
        with self._lock:
            gone = np.setdiff1d(resident.numbers, self._resident.numbers).tolist()
            self._kept = found if not gone or found.take_out(gone) else None

    def prove_isolation(self, kept: KeptProof | None = None) -> None:
        """Test on this device, before any patient's row is used, that rows do not affect others.

        About ten batches of made-up rows at a large adapter (`privacy.dpsgd.isolation`), or one
        where an earlier start has proven it: see `KeptProof`, which keeps what is proven now. Where
        a gradient also depends on its place, patients get fixed places from now on. Raises
        `ModelError` where it depends on what other places hold, because clipping would then bound
        nothing, and where the test is inconclusive.
        """
        found = self.isolation(kept)
        if not found.in_place:
            raise ModelError(
                f"On the device {self._unet.device}, one patient's rows change the gradients of "
                "others: clipping would not bound what is revealed of a patient.",
                self._cure,
            )
        if not found.permuted:
            self._assign = fixed

    def isolation(self, kept: KeptProof | None = None) -> Isolation:
        """What such a test finds on this device. The adapter is unchanged afterwards."""
        with self._clipping() as engine:
            return self._isolation(engine, kept)

    def seconds_a_batch(self) -> float:
        """Wall seconds that a physical batch of made-up rows takes here; no tile is looked at."""
        deal, standing = self._dealer(no_rows(self._resident.tiles)), np.arange(self._places)
        bound = self._training.clipping_norm
        with self._clipping() as engine:
            for _ in engine.contributions([deal(standing)], bound):
                pass  # the first one is slower than all that follow
            began = time.perf_counter()
            for parts in engine.contributions([deal(standing)], bound):
                parts.cpu()
            return time.perf_counter() - began

    @property
    def _cure(self) -> str:
        """What to try where the trial fails: float32 first, then another device."""
        return OTHER_DEVICE if self._mixed is None else OTHER_PRECISION

    @property
    def batches_a_step(self) -> int:
        """The most physical batches that a step can have."""
        most = self._slots if self._step is None else min(self._slots, self._step.capacity)
        return -(-most // self._places)

    def _dealer(self, like: Rows) -> Deal:
        """What deals made-up rows in the shapes of `like` to places."""
        cards = Cards(like, self._places, self._maker.rows_each, self._maker.timesteps)

        def deal(standing: NDArray[np.int64]) -> PhysicalBatch:
            return self._maker.physical(cards.dealt(standing), torch.arange(len(standing)))

        return deal

    def _isolation(self, engine: ClippingEngine, kept: KeptProof | None) -> Isolation:
        before = read_vector(self._unet, self._layout)
        like = no_rows(self._resident.tiles)
        deal = self._dealer(like)
        tried = DeviceTrial(engine, self._unet, self._layout, deal, self._places, self._cure)
        try:
            return tried.run(kept, self._tried(engine, like))
        finally:
            write_vector(self._unet, self._layout, before)

    def _tried(self, engine: ClippingEngine, like: Rows) -> object:
        """Everything of the study that such a test depends on, apart from its circumstances."""
        kinds = [(f.name, getattr(like, f.name)) for f in fields(like)]
        study = self._study
        return {
            "engine": type(engine).__qualname__,
            "base": study.base.digest,
            "adapter": study.adapter.model_dump(mode="json"),
            "training": study.training.model_dump(mode="json"),
            "loss": study.stage_two and study.stage_two.model_dump(mode="json"),
            "layout": self._layout.fingerprint().hex(),
            "places": [self._places, self._maker.rows_each, self._maker.timesteps],
            "rows": [[n, *t.shape[1:], str(t.dtype)] for n, t in kinds if t is not None],
            "model": [str(self._unet.dtype), self._mixed is not None],
        }

    def withdraw(self, patients: Collection[int]) -> None:
        """See `ResidentTrainer.withdraw`."""
        with self._lock:
            self._resident = Resident.of(self._resident.tiles.without(patients))
            if self._kept is not None and not self._kept.take_out(patients):
                self._kept = None

    def _batches(self, step: SiteStep, should_stop: ShouldStop) -> Iterator[PhysicalBatch]:
        """The physical batches of one step, with fresh draws."""
        streams = Substreams.fresh(self._noise)
        resident = self._resident  # one state for the whole step, even if somebody withdraws
        drawn = step.draw(resident.numbers, streams)
        if should_stop():  # also where nobody was drawn
            raise TrainingStopped
        standing = self._assign(drawn, self._places, streams).batches
        yield from self._maker.filled(resident, standing, streams, should_stop)


def places_of(most: int, slots: int, step: SiteStep | None) -> int:
    """Patients of a physical batch, at least one: from public numbers and the device alone.

    `most` go through at once. A step that draws has room for its capacity; one that does not has
    `slots` places in as few batches as it takes, with as few blanks at the end as possible.
    """
    most = max(1, most)
    return min(most, step.capacity) if step is not None else -(-slots // -(-slots // most))


def _check_loss(study: Study, pipeline: Pipeline, tiles: EncodedTiles) -> None:
    """Raise `ModelError` where a term lacks what it compares with, or cannot teach anything."""
    if study.stage_two is None:
        return
    structure, effects = study.stage_two.structure, study.stage_two.effects
    if structure is not None:
        check_adapted(pipeline.unet, structure.block)
        if tiles.reference is None:
            raise ModelError(
                "The tiles were encoded without the reference of the study's loss.",
                "Give `encode_site` the study's reference.",
            )
    if effects is not None and tiles.likeness is None:
        raise ModelError(
            "The tiles were encoded without the likeness of captions to the study's phrases.",
            "Give `encode_site` the study's phrases.",
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
