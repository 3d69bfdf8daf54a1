"""`craftsfl demo --references`: the arms that no federation is, trained once on the demo's tiles.

The simulator's arms on the very patients of the demo's hospitals, measured on the very tiles and
captions on which a live run is: so the two may stand beside each other. A measurement that was
stopped goes on after the last finished step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from client.data import load_site_data
from client.training import EncodedTiles, encode_site
from craftsfl.demo.figures import (
    JUDGE,
    MEASURED_IMAGES,
    MEASURED_TILES,
    DemoReferences,
    MeasuredArm,
    PublicFigure,
    referred_study,
    setting_of,
)
from craftsfl.demo.tiles import TileMaker, data_folder, held_out_folder
from craftsfl.demo.workspace import LOGS, MARK, check_ours
from craftsfl.rounds.public_tiles import CaptionJudge, PublicTiles
from craftsfl.simulation.config import Arm, SimulationConfig, no_progress
from craftsfl.simulation.folder import SimulationFolder
from craftsfl.simulation.references import reference_arm, run_reference
from craftsfl.simulation.studies import simulated_study
from craftsfl.simulation.tissue import SimulatedTiles
from craftsfl.simulation.trainers import SharedModel, single_thread
from model.adapters import attach
from model.arrays import Doubles, Groups
from model.base import Pipeline, load_base
from model.cache import find_base
from model.layout import initial_vector
from model.quality.denoising import loss_change
from privacy.study.manifest import Study
from privacy.wire.codec import Vector

_FOLDER: Final = "references"
_SEED: Final = 0
# Learning rates of each arm, as shares of the demo's own: the best of them counts. Chosen before
# the arms were measured; a site alone has more noise, and so needs a smaller one.
_RATES: Final[Mapping[Arm, tuple[float, ...]]] = {
    "noise-off": (0.5, 1.0),
    "central": (1.0,),
    "alone": (0.3, 1.0),
}
_Say = Callable[[str], None]


def measure_references(folder: Path, file: Path, base_digest: str, say: _Say) -> DemoReferences:
    """Measure all arms in `folder`, a demo's or a new one, and write `file`.

    Raises `ConfigError` for a folder that is something else or a file that cannot be written.
    """
    folder = tiles_made(folder, say)
    study = referred_study(base_digest)
    with single_thread():
        measurement = DemoMeasurement.begin(folder, study)  # encodes all tiles, for workers too
        say("training the reference arms")
        trained = _all_trained(folder, study, say)
        arms = dict(measurement.all_arms(trained, say))
    found = DemoReferences(
        command=f"craftsfl demo --references {file}",
        date=datetime.now(UTC).date().isoformat(),
        seed=_SEED,
        setting=setting_of(study),
        arms=arms,
    )
    found.write(file)
    return found


def tiles_made(folder: Path, say: _Say) -> Path:
    """The demo's tiles in `folder`, a demo's or a new one; returns it, absolute.

    Raises `ConfigError` for a folder that is something else.
    """
    check_ours(folder)
    folder = folder.resolve()
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    say("making the hospitals' synthetic tiles")
    with closing(TileMaker(folder, folder / LOGS)) as maker:
        maker.wait(lambda: None)
    return folder


@dataclass(frozen=True, slots=True)
class _Training:
    """One arm at one rate, for a process of its own."""

    folder: Path
    study: Study
    arm: Arm
    rate: float

    def run(self) -> Vector:
        """Train it, or find what was trained before."""
        with single_thread():
            pipeline = load_base(find_base(self.study.base))
            own, study = SimulationFolder(self.folder / _FOLDER), self.at_rate()
            sites = encoded_hospitals(pipeline, self.folder, study)
            config = SimulationConfig(study=study, folder=own.folder, arm=self.arm, seed=_SEED)
            sizes = {site.name: site.declared_patients for site in study.sites}
            simulated = simulated_study(config, study, own.folder, sizes)
            model = SharedModel(simulated.study, pipeline, None, no_progress)
            place = own.arm(self.arm, f"{self.rate:g} {simulated.study.digest().hex()[:12]}")
            # No arm looks at held-out tiles: those are measured on afterwards.
            tiles = SimulatedTiles(sites, next(iter(sites.values())))
            steps = reference_arm(config, simulated, model, tiles)
            return run_reference(steps, simulated.study, place, model).adapter

    def at_rate(self) -> Study:
        """The study with this learning rate."""
        aggregation = self.study.aggregation.model_copy(update={"learning_rate": self.rate})
        return self.study.model_copy(update={"aggregation": aggregation})


def _all_trained(folder: Path, study: Study, say: _Say) -> dict[Arm, dict[float, Vector]]:
    """The adapters of all arms by rate, trained in as many processes as there are cores."""
    own = study.aggregation.learning_rate
    asked = [
        _Training(folder, study, arm, float(f"{share * own:.3g}"))
        for arm, shares in _RATES.items()
        for share in shares
    ]
    found: dict[Arm, dict[float, Vector]] = {arm: {} for arm in _RATES}
    workers = min(len(asked), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(training.run): training for training in asked}
        for done, future in enumerate(as_completed(futures), start=1):
            training = futures[future]
            found[training.arm][training.rate] = future.result()
            say(f"{done} of {len(asked)} trained: {training.arm} at a rate of {training.rate:g}")
    return found


def encoded_hospitals(pipeline: Pipeline, folder: Path, study: Study) -> dict[str, EncodedTiles]:
    """What the demo's hospitals in `folder` train on, encoded once and kept there; by name."""
    cache = SimulationFolder(folder / _FOLDER).encoded
    return {
        site.name: encode_site(
            pipeline,
            load_site_data(data_folder(folder, site.name)),
            base_digest=study.base.digest,
            cache=cache / site.name,
        )
        for site in study.sites
    }


@dataclass(frozen=True)
class DemoMeasurement:
    """On what every arm of the demo is measured, and by whom: as a live run is."""

    study: Study
    pipeline: Pipeline
    public: PublicTiles
    judge: CaptionJudge

    @classmethod
    def begin(cls, folder: Path, study: Study) -> DemoMeasurement:
        """Load and encode everything; `folder` holds the demo's tiles."""
        pipeline = load_base(find_base(study.base))
        encoded_hospitals(pipeline, folder, study)
        others = [held_out_folder(folder, site.name) for site in study.sites]
        cache = SimulationFolder(folder / _FOLDER).encoded / "public"
        public = PublicTiles.read(pipeline, study, others, cache=cache, most=MEASURED_TILES)
        return cls(
            study, pipeline, public, CaptionJudge.load(JUDGE, study, public, MEASURED_IMAGES)
        )

    def all_arms(
        self, trained: Mapping[Arm, Mapping[float, Vector]], say: _Say
    ) -> Iterator[tuple[str, MeasuredArm]]:
        """Each arm at the best of its rates."""
        sizes = [site.declared_patients for site in self.study.sites]
        for arm, by_rate in trained.items():
            say(f"measuring: {arm}")
            losses = {rate: self.loss(by_rate[rate]) for rate in sorted(by_rate)}
            best = min(losses, key=lambda rate: losses[rate].change)
            yield (
                arm,
                MeasuredArm(
                    rate=best,
                    tried={f"{rate:g}": loss.change / loss.base for rate, loss in losses.items()},
                    patients=sizes[0] if arm == "alone" else sum(sizes),
                    loss=losses[best],
                    obedience=self.obedience(by_rate[best]),
                ),
            )

    def loss(self, adapter: Vector) -> PublicFigure:
        """The denoising loss of held-out tiles, and what `adapter` [P] changes."""

        def measured(vector: Vector) -> Doubles:
            return self.public.losses(self.pipeline, self.study, vector)

        return self._figure(measured, adapter, self.public.patients)

    def obedience(self, adapter: Vector) -> PublicFigure:
        """By how much pictures agree better with their captions, and what `adapter` changes."""

        def measured(vector: Vector) -> Doubles:
            return self.judge.gains(self.pipeline, self.study, vector)

        return self._figure(measured, adapter, self.judge.patients)

    def _figure(
        self, measured: Callable[[Vector], Doubles], adapter: Vector, patients: Groups
    ) -> PublicFigure:
        start = initial_vector(attach(self.pipeline.unet, self.study.adapter), self.study.digest())
        before = measured(start)
        change = loss_change(before, measured(adapter), patients)
        base = float(before.mean())
        return PublicFigure(base, change.mean, change.low, change.high, change.patients)
