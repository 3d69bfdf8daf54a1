"""A study without a model, sites without agents, a clock that only sleeping moves."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.layout import Layout, LayoutEntry
from privacy.secagg.roster import Roster
from privacy.study.manifest import Study
from privacy.wire.bodies import (
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
from server.context import RunContext
from server.event_log import EventLog
from server.inprocess import FaultHook, InProcessGrid
from server.messages import Exchange
from server.rounds import Federation, NoTracker, ServerModel, Tracker
from server.store import Store
from strategies import make_strategy

LAYOUT = Layout((LayoutEntry("block.lora_A.weight", (1, 4), "float32"),))
RUN = 2**63 + 5  # Flower's ids do not fit into signed 64 bits
NODES = {"north": 2**64 - 1, "harbour": 22, "hillside": 33}


def make_study(values: dict[str, Any], **changes: Any) -> Study:
    """The study of `values`; `cohort={"min_sites": 1}` changes single keys of a table."""
    merged = dict(values)
    for name, change in changes.items():
        merged[name] = {**values.get(name, {}), **change} if isinstance(change, dict) else change
    return Study.model_validate(merged)


@dataclass
class FakeClock:
    """Time passes only by sleeping."""

    now: float = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


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
    refusals: list[Reason] = field(default_factory=list)  # given first, whatever is asked
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
        }
        return SiteFacts(**{**values, **self.facts})


class World:
    """A folder, a clock, sites on nodes, and as many starts of the server as a test wants."""

    def __init__(self, folder: Path, study: Study) -> None:
        self.folder = folder
        self.study = study
        self.clock = FakeClock()
        self.url = f"sqlite:///{folder / 'rounds.db'}"
        self.sites = {site.name: FakeSite(site.name, study) for site in study.sites}
        self.handlers: dict[int, Callable[[bytes], bytes]] = {
            NODES[name]: site.handle for name, site in self.sites.items()
        }
        self.faults: FaultHook | None = None
        self.consortium: Roster | None = None

    def store(self, run: int = RUN) -> Store:
        return Store(self.url, run, self.clock)

    def federation(self, tracker: Tracker | None = None, run: int = RUN) -> Federation:
        model: Future[ServerModel] = Future()
        model.set_result(ServerModel(LAYOUT, np.zeros(LAYOUT.parameters, np.float32)))
        grid = InProcessGrid(
            self.handlers, run_id=run, faults=self.faults, clock=self.clock.monotonic
        )
        return Federation(
            context=RunContext(
                study=self.study,
                run=run,
                exchange=Exchange(grid),
                store=self.store(run),
                events=EventLog(self.folder / "events.jsonl", self.clock, run=str(run)),
                clock=self.clock,
                timing=Timing(join=30.0),
                consortium=self.consortium,
            ),
            model=model,
            strategy=lambda parameters: make_strategy(self.study.aggregation, parameters),
            folder=self.folder / "adapters",
            tracker=tracker or NoTracker(),
        )
