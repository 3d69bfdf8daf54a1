"""The arms that are federations: real agents, ledgers, messages and a real coordinator.

What is simulated is the machine room: one process, one model in memory, a clock of its own that
moves only once all sites have trained, and keys that all lie side by side.
"""

# Why: docs/adr/0048-simulator.md

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from hashlib import shake_256
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.agent.site_agent import AgentParts, SiteAgent
from client.policy import SiteRules
from client.settings import ANY, Policy
from craftsfl.simulation.clock import SteppedClock
from craftsfl.simulation.config import ArmRun, SimulationConfig
from craftsfl.simulation.consortium import SimulatedConsortium
from craftsfl.simulation.folder import ArmFolder
from craftsfl.simulation.studies import SimulatedStudy
from craftsfl.simulation.tissue import SimulatedTiles
from craftsfl.simulation.trainers import SharedModel, SimulatedTrainer
from model.layout import Layout, initial_vector
from privacy.accounting import epsilon
from privacy.ledger import SqliteLedger, State
from privacy.secagg.client import Effects
from privacy.study.manifest import Study
from server.clock import Timing
from server.events import ROUND, STEP
from server.inprocess import NodeHandler
from server.round_parts import Tracker
from server.rounds import Federation, ServerModel, Trackers, run_federation
from server.status import RunStatus
from strategies import make_strategy

_RUN: Final = 1
_FIRST_NODE: Final = 1001
_LOOK_SECONDS: Final = 1.0  # of waiting for a training, before somebody looks whether it failed
_EPSILON: Final = 1e9  # no simulated site refuses a study for its cost
_MOST: Final = 100_000
_LARGEST: Final = 1e9
_LEAST_NOISE: Final = 1e-9
# Nobody has to be waited for: sites answer at once or never.
_TIMING: Final = Timing(join=30.0, poll=0.1, silence=3600.0, fresh=3600.0)


class SimulatedSites:
    """The agents of all sites, each with a ledger of its own in `folder`. Close it."""

    def __init__(
        self,
        simulated: SimulatedStudy,
        model: SharedModel,
        tiles: SimulatedTiles,
        folder: Path,
        clock: SteppedClock,
    ) -> None:
        """`clock` is everybody's. Keys and noise are the system's, as at a real site."""
        self._simulated, self._model, self._clock = simulated, model, clock
        self._agents: dict[str, SiteAgent] = {}
        self._ledgers: dict[str, SqliteLedger] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for name in simulated.names:
            key = _ledger_key(name)
            path = folder / f"{name}.sqlite"
            self._ledgers[name] = SqliteLedger(path, key, site=name, clock=clock.time)
            trainer = SimulatedTrainer(model, simulated.study, name, tiles.sites[name])
            rules = SiteRules(name, simulated.study, boundless_policy(simulated.study))
            rules.check()
            rules.check_budget()
            parts = AgentParts(rules, self._ledgers[name], trainer, clock=clock.monotonic)
            self._agents[name] = simulated.members.agent(name, parts, Effects(clock.time))

    @property
    def handlers(self) -> Mapping[int, NodeHandler]:
        """What each node answers."""
        return {_FIRST_NODE + i: agent.handle for i, agent in enumerate(self._agents.values())}

    def settle(self) -> None:
        """Wait until no site trains. Raises whatever went wrong in a training."""
        for agent in self._agents.values():
            while not agent.wait(_LOOK_SECONDS):
                self._model.check()
        self._model.check()

    def epsilon(self) -> float:
        """What the first site's ledger has charged, at the study's delta."""
        entries = next(iter(self._ledgers.values())).entries()
        events = [entry.charge.event for entry in entries if entry.state is State.COMMITTED]
        return epsilon(events, self._simulated.study.privacy.delta) if events else 0.0

    def close(self) -> None:
        """End all trainings, and close all ledgers."""
        for agent in self._agents.values():
            agent.stop(_LOOK_SECONDS)
        for ledger in self._ledgers.values():
            ledger.close()


def run_federated(
    config: SimulationConfig,
    simulated: SimulatedStudy,
    model: SharedModel,
    tiles: SimulatedTiles,
    place: ArmFolder,
    tracker: Tracker,
) -> ArmRun:
    """All steps that are left; what was kept in `place` is not repeated.

    Raises `CraftsflError`: of the coordinator, of a site, or of a training.
    """
    kept = place.restore()
    begun: dict[str, Any] = {"done": 0, "clock": SteppedClock().now, "seconds": 0.0}
    meta = begun if kept is None else kept[0]
    clock = SteppedClock(meta["clock"])
    with ExitStack() as stack:
        sites = SimulatedSites(simulated, model, tiles, place.live, clock)
        stack.callback(sites.close)
        clock.before = sites.settle
        course = _Course(place, clock, model, simulated.study, meta["seconds"])
        course.expect(meta["done"])
        federation = _federation(config, simulated, model.layout, sites, place, clock)
        tracked = replace(federation, tracker=Trackers(course, tracker))
        stack.callback(federation.context.store.close)
        _end_session(federation)
        adapter = run_federation(tracked)
        return ArmRun(adapter, sites.epsilon(), course.seconds)


class _Course:
    """After every step, keeps all that the next one needs, and says what is next."""

    def __init__(
        self,
        place: ArmFolder,
        clock: SteppedClock,
        model: SharedModel,
        study: Study,
        seconds: float,
    ) -> None:
        self._place, self._clock, self._model, self._study = place, clock, model, study
        self._began = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """That all steps so far took, over all processes."""
        return time.perf_counter() - self._began

    def round_finished(self, status: RunStatus) -> None:
        """See `Tracker`; raises where the disk is full, as the coordinator itself would."""
        done = status.rounds_done
        self._place.keep({"done": done, "clock": self._clock.now, "seconds": self.seconds}, {})
        self.expect(done)

    def expect(self, done: int) -> None:
        """Say what the sites train for next, after `done` steps."""
        study = self._study
        if done < study.rounds:
            unit = STEP if study.pools_noise else ROUND
            self._model.expect(f"{unit} {done + 1} of {study.rounds}", len(study.sites))


def _federation(
    config: SimulationConfig,
    simulated: SimulatedStudy,
    layout: Layout,
    sites: SimulatedSites,
    place: ArmFolder,
    clock: SteppedClock,
) -> Federation:
    consortium = SimulatedConsortium(
        place.live,
        simulated.study,
        layout,
        sites.handlers,
        simulated.members.roster,
        clock,
        _TIMING,
        simulated.coordinator if simulated.study.pools_noise else None,
    )
    model: Future[ServerModel] = Future()
    model.set_result(ServerModel(layout, initial_vector(layout, simulated.study.digest())))
    aggregation = simulated.study.aggregation
    make = config.strategy or (lambda parameters: make_strategy(aggregation, parameters))
    return replace(consortium.federation(_RUN), model=model, strategy=make, folder=place.adapters)


def _end_session(federation: Federation) -> None:
    """The agents that had the keys of an earlier process's session are gone with it."""
    steps = federation.context.store.steps
    session = steps.live_session()
    if session is not None:
        steps.end_session(session.number, "The simulation was interrupted.")


def boundless_policy(study: Study) -> Policy:
    """What allows exactly this study, whatever it costs: nobody is there to be protected."""
    return Policy(
        epsilon=_EPSILON,
        delta=study.privacy.delta,
        study_epsilon=_EPSILON,
        studies=(study.digest().hex(),),
        bases=(study.base.digest,),
        encoders=(ANY,),
        mechanisms=(study.privacy.mechanism,),
        roster=study.secure_aggregation.roster,
        max_absent=len(study.sites) - study.smallest_cohort,
        max_rounds=study.rounds,
        max_attempts=study.attempts_a_round,
        min_reply_slot=study.cohort.reply_slot,
        max_steps_per_round=study.training.steps,
        max_tiles_per_patient=study.training.tiles_per_patient,
        max_draws_per_tile=study.training.draws_per_tile,
        max_clipping_norm=study.training.clipping_norm,
        max_learning_rate=study.training.learning_rate or 1.0,
        max_rank=study.adapter.rank,
        max_adapter_norm=_LARGEST,
        min_noise_multiplier=_LEAST_NOISE,
        max_spare_attempts=_MOST,
    )


def _ledger_key(site: str) -> Ed25519PrivateKey:
    seed = shake_256(f"ledger of the simulated site {site}".encode()).digest(32)
    return Ed25519PrivateKey.from_private_bytes(seed)
