"""A study without a model, and sites without agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from craftsfl.simulation.clock import SteppedClock
from craftsfl.simulation.consortium import SimulatedConsortium
from model.layout import Layout, LayoutEntry
from privacy.secagg.roster import Roster
from privacy.study.manifest import Study
from privacy.wire.bodies import (
    NO_ROSTER,
    Body,
    Collect,
    Hello,
    Refusal,
    Running,
    SiteFacts,
    Started,
    StartTraining,
    Update,
)
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.reasons import Reason
from server.clock import Timing
from server.inprocess import FaultHook
from server.round_parts import Tracker
from server.rounds import Federation
from server.store import Store

LAYOUT = Layout((LayoutEntry("block.lora_A.weight", (1, 4), "float32"),))
RUN = 5
FLOWER_RUN = 2**63 + 5  # Flower's ids do not fit into signed 64 bits
NODES = {"north": 2**64 - 1, "harbour": 22, "hillside": 33}


def make_study(values: dict[str, Any], **changes: Any) -> Study:
    """The study of `values`; `cohort={"min_sites": 1}` changes single keys of a table."""
    merged = dict(values)
    for name, change in changes.items():
        merged[name] = {**values.get(name, {}), **change} if isinstance(change, dict) else change
    return Study.model_validate(merged)


class WaitsForEver(BaseException):
    """Half an hour has passed by a world's clock: somebody waits for what will not come."""


@dataclass
class ImpatientClock(SteppedClock):
    """A clock that ends an endless wait."""

    latest: float = 1000.0 + 1800.0

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.now > self.latest:
            raise WaitsForEver


@dataclass
class FakeSite:
    """A site agent without data: each round moves every number of the adapter by `step`.

    Attempts are remembered as an agent does; `running` is how often it says Running first.
    """

    name: str
    study: Study
    step: float = 1.0
    layout: Layout = LAYOUT
    running: int = 1
    facts: dict[str, Any] = field(default_factory=dict)
    refusals: list[Reason] = field(default_factory=list)  # returned first, whatever is asked
    start_refusal: Refusal | None = None
    asked: list[Envelope] = field(default_factory=list)
    epsilon: float = 0.0
    left: dict[tuple[int, int, int], int] = field(default_factory=dict)
    done: dict[tuple[int, int, int], Update] = field(default_factory=dict)

    def handle(self, data: bytes) -> bytes:
        envelope = open_envelope(data, limit=10_000)
        self.asked.append(envelope)
        return seal(replace(envelope, body=self.answer(envelope)))

    def answer(self, envelope: Envelope) -> Body:
        if self.refusals:
            return Refusal(self.refusals.pop(0))
        key = (envelope.run, envelope.round, envelope.attempt)
        match envelope.body:
            case Hello():
                return self.site_facts()
            case StartTraining():
                if self.start_refusal is not None:
                    return self.start_refusal
                self.left.setdefault(key, self.running)
                return Started()
            case Collect():
                return self.collect(key)
        return Refusal(Reason.UNKNOWN_KIND)

    def collect(self, key: tuple[int, int, int]) -> Body:
        if key not in self.left:
            return Refusal(Reason.NOT_STARTED)
        if self.left[key] > 0:
            self.left[key] -= 1
            return Running()
        if key not in self.done:
            self.epsilon += 0.5
            delta = np.full(self.layout.parameters, self.step, np.float32)
            self.done[key] = Update(self.layout.fingerprint(), delta, self.epsilon)
        return self.done[key]

    def site_facts(self) -> SiteFacts:
        site = self.study.site(self.name)
        values: dict[str, Any] = {
            "name": self.name,
            "declared_patients": site.declared_patients if site else 7,
            "study_digest": self.study.digest(),
            "base_digest": bytes.fromhex(self.study.base.digest.removeprefix("sha256:")),
            "layout_fingerprint": self.layout.fingerprint(),
            "parameters": self.layout.parameters,
            "epsilon_spent": self.epsilon,
            "epsilon_budget": 8.0,
            "delta": 1e-5,
            "masked": False,
            "roster_digest": NO_ROSTER,
            "noise_multiplier": self.study.training.noise_multiplier,
            "epsilon_schedule": 6.0,
            "newest_run": 0,
            "release": (0, 1, 0),
        }
        return SiteFacts(**{**values, **self.facts})


class World:
    """A folder, a clock, sites on nodes, and any number of server starts."""

    def __init__(self, folder: Path, study: Study) -> None:
        self.folder = folder
        self.study = study
        self.clock = ImpatientClock()
        self.consortium: Roster | None = None
        self.sites = {site.name: FakeSite(site.name, study) for site in study.sites}
        self.handlers: dict[int, Callable[[bytes], bytes]] = {
            NODES[name]: site.handle for name, site in self.sites.items()
        }
        self.faults: FaultHook | None = None
        self.consortium: Roster | None = None

    def simulated(self) -> SimulatedConsortium:
        return SimulatedConsortium(
            self.folder,
            self.study,
            LAYOUT,
            self.handlers,
            self.consortium,
            self.clock,
            Timing(join=30.0),
        )

    @property
    def url(self) -> str:
        return self.simulated().url

    def store(self, run: int = RUN) -> Store:
        return self.simulated().store(run)

    def federation(self, tracker: Tracker | None = None, run: int = RUN) -> Federation:
        return self.simulated().federation(run, faults=self.faults, tracker=tracker)
