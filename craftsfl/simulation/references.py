"""The arms that are no federation: what the same patients would teach by other noise.

No agent, no ledger, no message: nothing here could be charged, or protects anybody. The patients'
clipped gradients are the trainers' own, so an arm differs from the federation in its noise alone.
Of a study of updates "central" is one site that has all patients, and trains as each of them would.

| arm | who trains | noise of the sum, in units of C |
|---|---|---|
| noise-off | everybody | none |
| central | everybody, as one data set | what opens: sigma sqrt(n / (n - n_c)), or as local |
| local | everybody | sigma sqrt(n): each site adds all of its own |
| alone | one site | sigma |
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from craftsfl.simulation.config import Arm, ArmRun, SimulationConfig
from craftsfl.simulation.folder import ArmFolder
from craftsfl.simulation.studies import SimulatedStudy
from craftsfl.simulation.tissue import SimulatedTiles, joined_tiles
from craftsfl.simulation.trainers import (
    KnownNoise,
    SharedModel,
    SimulatedTrainer,
    known_numbers,
)
from model.layout import initial_vector
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.study.agreement import shares_of
from privacy.study.manifest import Site, Study
from privacy.wire.codec import Vector
from server.events import ROUND, STEP
from strategies import make_strategy
from strategies.base import Strategy
from strategies.descent import Descent
from strategies.mean import weighted_mean
from strategies.pooled import rule_of

_Arrays = Mapping[str, NDArray[Any]]
_CENTRAL: Final = "central"
_STATE: Final = "strategy."


class ReferenceArm(Protocol):
    """One arm's steps, and what has to be kept of it after each."""

    sites: int  # that train in a step

    @property
    def published(self) -> Vector:
        """What a run that ends here publishes, float32 [P]."""

    def step(self, number: int) -> None:
        """The step `number`, from 1."""

    def state(self) -> _Arrays:
        """Everything that the next step needs."""

    def restore(self, done: int, state: _Arrays) -> None:
        """Go on after `done` steps with `state()`'s result."""


def reference_arm(
    config: SimulationConfig, simulated: SimulatedStudy, model: SharedModel, tiles: SimulatedTiles
) -> ReferenceArm:
    """The arm that `simulated` names, before its first step."""
    names = simulated.names
    if simulated.arm == "alone":
        names = (config.alone or names[0],)
    if simulated.study.pools_noise:
        return _OpenedSteps(simulated, names, model, tiles, config.seed)
    strategy = config.strategy or (
        lambda parameters: make_strategy(simulated.study.aggregation, parameters)
    )
    return _MeanRounds(simulated, names, model, tiles, config.seed, strategy(_size(model)))


def run_reference(arm: ReferenceArm, study: Study, place: ArmFolder, model: SharedModel) -> ArmRun:
    """All steps of `arm` that are left; what was kept in `place` is not repeated."""
    kept = place.restore()
    meta: dict[str, Any] = {"done": 0, "seconds": 0.0} if kept is None else kept[0]
    if kept is not None:
        arm.restore(meta["done"], kept[1])
    began = time.perf_counter() - meta["seconds"]
    for number in range(meta["done"] + 1, study.rounds + 1):
        unit = STEP if study.pools_noise else ROUND
        model.expect(f"{unit} {number} of {study.rounds}", arm.sites)
        arm.step(number)
        place.keep({"done": number, "seconds": time.perf_counter() - began}, arm.state())
    return ArmRun(arm.published, None, time.perf_counter() - began)


def noise_of(arm: Arm, study: Study) -> float:
    """The noise of an arm's sum over patients, per number, in units of C."""
    sites, colluders = len(study.sites), study.privacy.noise_colluders
    opened = sites / (sites - colluders) if study.pools_noise else sites
    shares = {"noise-off": 0.0, "central": opened, "local": sites, "alone": 1.0}
    return study.training.noise_multiplier * math.sqrt(shares[arm])


class _OpenedSteps:
    """Steps of a pooled study: exact sums, noise in one place, the study's own optimiser."""

    def __init__(
        self,
        simulated: SimulatedStudy,
        names: Sequence[str],
        model: SharedModel,
        tiles: SimulatedTiles,
        seed: int,
    ) -> None:
        study = simulated.study
        self.sites = len(names)
        self._trainers = [
            SimulatedTrainer(model, study, name, tiles.sites[name], KnownNoise(f"{seed} {name}"))
            for name in names
        ]
        declared = {site.name: site.declared_patients for site in study.sites}
        self._patients = sum(declared[name] for name in names)
        self._noise = noise_of(simulated.arm, study) / self._patients
        self._seed, self._rule = seed, rule_of(study)
        self._descent = Descent.begin(self._rule, initial_vector(model.layout, study.digest()))

    @property
    def published(self) -> Vector:
        """See `ReferenceArm`."""
        return self._descent.published

    def step(self, number: int) -> None:
        """See `ReferenceArm`."""
        descent = self._descent
        total = np.zeros(descent.adapter.size, np.int64)
        for trainer in self._trainers:
            total += trainer.clipped_sum(
                descent.adapter, number, progress=_quiet, should_stop=_never
            )
        mean = total / (2.0**CONTRIBUTION_BITS * self._patients)
        normal = known_numbers(f"{self._seed} step {number}").standard_normal(mean.size)
        self._descent = descent.after(mean + self._noise * normal, self._noise**2)

    def state(self) -> _Arrays:
        """See `ReferenceArm`."""
        found = self._descent
        names = ("adapter", "first", "second", "average")
        return {**{k: getattr(found, k) for k in names}, "noise": np.array(found.noise)}

    def restore(self, done: int, state: _Arrays) -> None:
        """See `ReferenceArm`."""
        arrays = {name: state[name] for name in ("adapter", "first", "second", "average")}
        self._descent = Descent(rule=self._rule, steps=done, noise=float(state["noise"]), **arrays)


class _MeanRounds:
    """Rounds of a study of updates, whose mean moves the adapter."""

    def __init__(
        self,
        simulated: SimulatedStudy,
        names: Sequence[str],
        model: SharedModel,
        tiles: SimulatedTiles,
        seed: int,
        strategy: Strategy,
    ) -> None:
        study = _with_noise(simulated.study, simulated.arm)
        parts = {name: tiles.sites[name] for name in names}
        if simulated.arm == "central":
            patients = sum(site.declared_patients for site in study.sites)
            site = Site(name=_CENTRAL, declared_patients=patients)
            study = study.model_copy(update={"sites": (site,)})
            parts = {_CENTRAL: joined_tiles(list(parts.values()))}
        self.sites = len(parts)
        self._model, self._study, self._parts = model, study, parts
        self._seed, self._strategy = seed, strategy
        self._adapter = initial_vector(model.layout, simulated.study.digest())

    @property
    def published(self) -> Vector:
        """See `ReferenceArm`."""
        return self._adapter

    def step(self, number: int) -> None:
        """See `ReferenceArm`."""
        updates = {}
        for name, tiles in self._parts.items():
            noise = KnownNoise(f"{self._seed} {name} {number}")  # the same after a kill
            trainer = SimulatedTrainer(self._model, self._study, name, tiles, noise)
            updates[name] = trainer.train(self._adapter, progress=_quiet, should_stop=_never)
        mean = weighted_mean(updates, shares_of(self._study))
        self._adapter = self._strategy.aggregate(self._adapter, mean)

    def state(self) -> _Arrays:
        """See `ReferenceArm`."""
        own = {_STATE + name: values for name, values in self._strategy.state().items()}
        return {"adapter": self._adapter, **own}

    def restore(self, done: int, state: _Arrays) -> None:
        """See `ReferenceArm`."""
        own = {k.removeprefix(_STATE): v for k, v in state.items() if k.startswith(_STATE)}
        self._strategy.restore(own)
        self._adapter = state["adapter"]


def _with_noise(study: Study, arm: Arm) -> Study:
    """`study` with the noise multiplier of an arm: never one that a ledger could be charged for."""
    training = study.training.model_copy(update={"noise_multiplier": noise_of(arm, study)})
    return study.model_copy(update={"training": training})


def _size(model: SharedModel) -> int:
    return model.layout.parameters


def _quiet(done: int, total: int) -> None:
    pass


def _never() -> bool:
    return False
