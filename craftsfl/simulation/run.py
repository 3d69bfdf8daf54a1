"""A whole simulation: tissue, one arm, the gain on patients that it never saw."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from client.training import TileReference, reference_of
from craftsfl.simulation.config import (
    ArmRun,
    Gain,
    SimulationConfig,
    SimulationProgress,
    SimulationResult,
    no_progress,
)
from craftsfl.simulation.federated import run_federated
from craftsfl.simulation.folder import ArmFolder, SimulationFolder
from craftsfl.simulation.references import reference_arm, run_reference
from craftsfl.simulation.studies import SimulatedStudy, read_study, simulated_study, site_sizes
from craftsfl.simulation.tissue import (
    SimulatedTiles,
    TileEncoder,
    drawn_tiles,
    given_sizes,
    given_tiles,
)
from craftsfl.simulation.tracked import NewestStatus, track_arm
from craftsfl.simulation.trainers import SharedModel, check_rows_apart, single_thread
from craftsfl.terminal import say
from model.adapters import save_adapter
from model.base import Pipeline, load_base
from model.cache import find_base
from model.devices import pick_device
from model.layout import initial_vector
from model.origin import Origin, encoders_of
from model.quality.denoising import held_out_loss, loss_change
from privacy.errors import ConfigError, DeploymentError
from privacy.secagg.offer import SMALLEST_COHORT
from privacy.study.manifest import Study

_EVALUATION_SEED: Final = 7
_SIMULATED: Final = "simulation"  # in the place of a run's number: no run has released it


def simulate(
    config: SimulationConfig, progress: SimulationProgress = no_progress
) -> SimulationResult:
    """Simulate one arm; where it has finished in the folder before, its result.

    `progress` is told what is done. Raises `CraftsflError`: for what cannot be simulated, before
    anything is written; and for whatever ends the arm.
    """
    plan = _planned(config)
    own = SimulationFolder(config.folder)
    with own.held(plan.what):
        place = own.arm(plan.simulated.arm, config.own)
        found = place.result()
        if found is None:
            with single_thread():
                found = _Simulation(config, plan, own, place, progress).run()
            place.finish(found)
        return found


def simulated_results(config: SimulationConfig) -> list[SimulationResult]:
    """Of all arms that have finished in the folder of `config`."""
    return SimulationFolder(config.folder).results()


@dataclass(frozen=True)
class _Plan:
    """What is simulated, and what the folder is of: everything that its arms have in common."""

    simulated: SimulatedStudy
    what: dict[str, object]


def _planned(config: SimulationConfig) -> _Plan:
    study, root = read_study(config)
    sizes, tissue = site_sizes(config, study), f"drawn, {config.held_out} held out"
    if config.data is not None:
        sizes, tissue = given_sizes(config.data)
        if len(sizes) < SMALLEST_COHORT:
            raise ConfigError(
                f"{config.data} has {len(sizes)} sub-folders, and a sum needs {SMALLEST_COHORT} "
                "sites or more.",
                "Make a sub-folder of tiles for each site, or leave --data out: drawn tissue.",
            )
        if config.sites not in (None, len(sizes)):
            raise ConfigError(
                f"{config.data} has {len(sizes)} sub-folders, and {config.sites} sites are asked "
                "for.",
                "Leave out --sites, or make as many sub-folders.",
            )
    simulated = simulated_study(config, study, root, sizes)
    what = {
        "study": simulated.study.name,
        "digest": simulated.study.digest().hex(),
        "sites": len(sizes),
        "patients": sum(sizes.values()),
        "seed": config.seed,
        "tissue": tissue,
    }
    return _Plan(simulated, what)


@dataclass(frozen=True)
class _Simulation:
    config: SimulationConfig
    plan: _Plan
    own: SimulationFolder
    place: ArmFolder
    progress: SimulationProgress

    @property
    def simulated(self) -> SimulatedStudy:
        return self.plan.simulated

    @property
    def study(self) -> Study:
        return self.simulated.study

    def run(self) -> SimulationResult:
        config, simulated = self.config, self.simulated
        self.progress("the base", 0, 1)
        folder = find_base(self.study.base, root=simulated.root)
        pipeline = load_base(folder, pick_device(config.device))
        # A layout that the base lacks is found out here, before the folder is taken.
        model = SharedModel(self.study, pipeline, config.loss, self.progress)
        self.own.claim(self.plan.what)
        tiles = self._tiles(pipeline)
        if config.loss is not None:
            check_rows_apart(pipeline, config.loss, tiles.held_out)
        newest = NewestStatus()
        if simulated.federated:
            done = run_federated(config, simulated, model, tiles, self.place, newest)
        else:
            arm = reference_arm(config, simulated, model, tiles)
            done = run_reference(arm, self.study, self.place, model)
        result = self._measured(model, tiles, done)
        self._track(result, newest)
        return result

    def _tiles(self, pipeline: Pipeline) -> SimulatedTiles:
        config, own, reference = self.config, self.own, self._reference(pipeline)
        kind = "plain" if reference is None else reference.digest[-12:]
        encoder = TileEncoder(pipeline, self.study.base.digest, reference, own.encoded / kind)
        if config.data is not None:
            return given_tiles(config.data, config.seed, encoder, self.progress)
        sizes = {site.name: site.declared_patients for site in self.study.sites}
        return drawn_tiles(own.tissue, sizes, config.held_out, config.seed, encoder, self.progress)

    def _reference(self, pipeline: Pipeline) -> TileReference | None:
        """What the study's loss compares tiles with, by the encoder that was given if any."""
        found = reference_of(self.study, pipeline, root=self.simulated.root)
        own = self.config.encoder
        if own is None:
            return found
        if found is None:
            raise ConfigError(
                "The study's loss compares with no encoder: one of your own would change nothing.",
                "Use a study with a stage-two loss that has one.",
            )
        return replace(found, digest=own.digest, load=lambda: own)

    def _measured(
        self, model: SharedModel, tiles: SimulatedTiles, done: ArmRun
    ) -> SimulationResult:
        """The adapter as a file, and its gain on the held-out patients."""
        study, place, held_out = self.study, self.place, tiles.held_out
        self.progress("the gain", 0, 1)
        start = initial_vector(model.layout, study.digest())
        before, after = (
            held_out_loss(model.pipeline, study.adapter, vector, held_out, seed=_EVALUATION_SEED)
            for vector in (start, done.adapter)
        )
        change = loss_change(before, after, held_out.patient_of.numpy())
        base = loss_change(0 * before, before, held_out.patient_of.numpy()).mean
        save_adapter(place.adapter, model.layout, done.adapter, study.adapter, _origin(study))
        names = [self.config.alone or self.simulated.names[0]]
        trained = [s for s in study.sites if self.simulated.arm != "alone" or s.name in names]
        return SimulationResult(
            arm=self.simulated.arm,
            study=study.name,
            digest=study.digest().hex(),
            own=self.config.own,
            sites=len(trained),
            patients=sum(site.declared_patients for site in trained),
            steps=study.rounds,
            parameters=model.layout.parameters,
            epsilon=done.epsilon,
            delta=study.privacy.delta,
            base_loss=base,
            gain=Gain(
                -change.mean / base, -change.high / base, -change.low / base, change.patients
            ),
            adapter=place.adapter,
            seconds=done.seconds,
        )

    def _track(self, result: SimulationResult, newest: NewestStatus) -> None:
        if self.config.mlflow is None:
            return
        try:
            track_arm(
                self.config.mlflow, self.own.folder / "mlflow", self.study, result, newest.status
            )
        except DeploymentError as error:
            say(f"Not logged: {error}", logging.WARNING)


def _origin(study: Study) -> Origin:
    """Of an adapter about which nothing is promised: all keys and all noise were in one process."""
    return Origin(
        base=study.base.digest,
        study=study.name,
        study_digest=study.digest().hex(),
        run=_SIMULATED,
        rounds=study.rounds,
        epsilon=None,
        delta=study.privacy.delta,
        encoders=encoders_of(study),
    )
