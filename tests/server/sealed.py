"""A pooled study in one process: a whole coordinator, and the agents of its hospitals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from craftsfl.simulation.consortium import SimulatedConsortium
from craftsfl.simulation.members import SimulatedMembers
from privacy.ledger import State
from privacy.secagg.sealed.server import SealedServer
from privacy.study.manifest import Study
from privacy.wire.envelope import open_envelope
from privacy.wire.sealed import OpenedSum, Sealed
from server.clock import Timing
from server.inprocess import FaultHook
from server.round_parts import Tracker
from server.rounds import Federation
from server.status import RunStatus
from server.store import Store
from tests.client.sealed import LAYOUT, MEMBERS, NAMES, SealedSites, sealed_values
from tests.pooled_study import COORDINATOR
from tests.server.fakes import RUN, ImpatientClock

LARGE = 10_000_000  # bytes


@dataclass
class TrainedInTime(ImpatientClock):
    """A clock that lets all training end before time passes."""

    sites: SealedSites | None = None
    watch: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        for agent in () if self.sites is None else self.sites.agents.values():
            if agent._attempt is not None:
                assert agent._attempt.work.wait(20)
        super().sleep(seconds)
        self.watch()


@dataclass
class SealedWorld:
    """Sites on nodes 1001, 1002, ... with one clock for all, and any number of starts of a run."""

    folder: Path
    values: Mapping[str, Any]
    members: SimulatedMembers = MEMBERS
    log: bool = False  # whether the consortium's log is kept
    policy: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = TrainedInTime()
        self.released: dict[tuple[int, int, int], set[bytes]] = {}  # site, step, attempt
        self.study = Study.model_validate(dict(self.values))
        self.sites = SealedSites(
            *(self.folder, self.study, self.members, self.policy),
            unix=self.clock,
            elapsed=self.clock,
            witnesses=self.log,
        )
        self.clock.sites = self.sites
        self.nodes = {name: 1001 + place for place, name in enumerate(NAMES[: self.count])}
        self.handlers = {
            node: self.handler(place + 1) for place, node in enumerate(self.nodes.values())
        }
        self.faults: FaultHook | None = None

    @property
    def count(self) -> int:
        return len(self.study.sites)

    def handler(self, site: int) -> Callable[[bytes], bytes]:
        """What the newest agent of the site answers; `released` has the vectors that left it."""

        def handle(data: bytes) -> bytes:
            answer = self.sites.agents[site].handle(data)
            envelope = open_envelope(answer, limit=LARGE)
            if isinstance(envelope.body, Sealed):
                key = (site, envelope.round, envelope.attempt)
                self.released.setdefault(key, set()).add(answer)
            return answer

        return handle

    def simulated(self) -> SimulatedConsortium:
        return SimulatedConsortium(
            self.folder,
            self.study,
            LAYOUT,
            self.handlers,
            self.sites.members.roster,
            self.clock,
            Timing(join=30.0),
            COORDINATOR,
            self.members.signed if self.log else None,
        )

    @property
    def url(self) -> str:
        return self.simulated().url

    def store(self, run: int = RUN) -> Store:
        return self.simulated().store(run)

    def federation(self, tracker: Tracker | None = None, run: int = RUN) -> Federation:
        return self.simulated().federation(run, faults=self.faults, tracker=tracker)


REQUIRED = {"log": "required"}


def after(world: SealedWorld, step: int, act: Callable[[], None]) -> Any:
    """A tracker that acts once after a step."""

    class Acting:
        def round_finished(self, status: Any) -> None:
            if status.rounds_done == step:
                act()

    return Acting()


def forging(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """The coordinator opens another sum than the sites have sent, in the last step."""
    right, wrong = SealedServer.result, []

    def result(server: SealedServer) -> OpenedSum:
        opened = right(server)
        if opened.step == 3 and len(wrong) < times:
            wrong.append(opened.attempt)
            lanes = opened.lanes.copy()
            lanes[0] ^= np.uint64(1)
            return replace(opened, lanes=lanes)
        return opened

    monkeypatch.setattr(SealedServer, "result", result)
    return wrong


FOUR = SimulatedMembers.seeded(NAMES[:4], consortium="pooled")


def four(make: Callable[..., SealedWorld], rounds: int = 4, **changes: Any) -> SealedWorld:
    """Four sites, of which one may be missing."""
    values = sealed_values(FOUR, rounds=rounds, sites=4)
    return make(members=FOUR, **{**values, **changes})


def outcomes(status: RunStatus) -> list[tuple[int, int, str, int]]:
    """(step, attempt, state, sites that have sent a vector)."""
    return [
        (item.round, item.attempt, item.state.value, sum(p.state == "finished" for p in item.sites))
        for item in status.history
    ]


def charges(world: SealedWorld) -> list[int]:
    """How many attempts each site has charged."""
    return [
        sum(entry.state is State.COMMITTED for entry in ledger.entries())
        for ledger in world.sites.ledgers.values()
    ]
