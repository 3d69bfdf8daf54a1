"""A study without a model, and sites without agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from craftsfl.simulation.clock import SteppedClock
from craftsfl.simulation.consortium import SimulatedConsortium
from model.layout import Layout, LayoutEntry
from privacy.secagg.roster import Roster
from privacy.study.manifest import Study
from privacy.wire.bodies import Refusal, SiteFacts
from privacy.wire.envelope import Envelope
from privacy.wire.reasons import Reason
from server.clock import Timing
from server.inprocess import FaultHook
from server.round_parts import Tracker
from server.rounds import Federation
from server.store import Store

LAYOUT = Layout((LayoutEntry("block.lora_A.weight", (1, 4), "float32"),))
RUN = 5
FLOWER_RUN = 2**63 + 5  # Flower's ids do not fit into signed 64 bits
NODES = {"north": 2**64 - 1, "harbour": 22, "hillside": 33, "lakeside": 77}


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
    """What a site agent without data says: each round moves every number by `step`.

    `running` is how often it says Running first.
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
    left: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def site_facts(self) -> SiteFacts:
        site = self.study.site(self.name)
        values: dict[str, Any] = {
            "name": self.name,
            "declared_patients": site.declared_patients if site else 7,
            "study_digest": self.study.digest(),
            "base_digest": bytes.fromhex(self.study.base.digest.removeprefix("sha256:")),
            "layout_fingerprint": self.layout.fingerprint(),
            "parameters": self.layout.parameters,
            "epsilon_spent": 0.0,
            "epsilon_budget": 8.0,
            "delta": 1e-5,
            "roster_digest": bytes(32),
            "noise_multiplier": self.study.training.noise_multiplier,
            "epsilon_schedule": 6.0,
            "newest_run": 0,
            "release": (0, 1, 0),
        }
        return SiteFacts(**{**values, **self.facts})


class World:
    """A folder, a clock, what answers on nodes, and any number of server starts."""

    def __init__(self, folder: Path, study: Study, consortium: Roster) -> None:
        self.folder = folder
        self.study = study
        self.consortium = consortium
        self.clock = ImpatientClock()
        self.handlers: dict[int, Callable[[bytes], bytes]] = {}
        self.faults: FaultHook | None = None

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
