"""Sites and a coordinator in one process, joined by the in-process grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from craftsfl.simulation.clock import SteppedClock
from model.layout import Layout
from privacy.identity import Identity
from privacy.log.entries import EntryKind, LogFacts
from privacy.log.store import LogStore
from privacy.secagg.roster import Roster, SignedRoster
from privacy.study.manifest import Study
from server.clock import RunClock, Timing
from server.context import RunContext
from server.event_log import EventLog
from server.inprocess import FaultHook, InProcessGrid, NodeHandler
from server.log_keeper import LogKeeper
from server.messages import Exchange
from server.round_parts import Tracker
from server.rounds import Federation, NoTracker, ServerModel
from server.run_name import RunName
from server.store import Store
from strategies import make_strategy


@dataclass(frozen=True)
class SimulatedConsortium:
    """A study, what its sites answer, and a folder for what the coordinator keeps.

    `handlers`: what the site on each node answers; nodes may come and go during a run. `roster`:
    the one that the study pins. The adapter, of this `layout`, starts at
    zero, or where a pooled study says, whose coordinator has the `key`, and with the `signed`
    roster keeps the consortium's log. The same value serves any number of runs, and several starts
    of one run.
    """

    folder: Path
    study: Study
    layout: Layout
    handlers: Mapping[int, NodeHandler]
    roster: Roster
    clock: RunClock = field(default_factory=SteppedClock)
    timing: Timing = field(default_factory=Timing)
    key: Identity | None = None
    signed: SignedRoster | None = None

    @property
    def url(self) -> str:
        """Of the coordinator's database."""
        return f"sqlite:///{self.folder / 'rounds.db'}"

    def store(self, run: int) -> Store:
        """The coordinator's record of the study's run of this number."""
        return Store(self.url, RunName(self.study.digest(), run), self.clock)

    def grid(self, faults: FaultHook | None = None) -> InProcessGrid:
        """The way to the sites; `faults` says what goes wrong on it."""
        clock = self.clock.monotonic
        return InProcessGrid(self.handlers, faults=faults, clock=clock)

    def federation(
        self, run: int, *, faults: FaultHook | None = None, tracker: Tracker | None = None
    ) -> Federation:
        """A start of a run, for `server.rounds.run_federation`."""
        model: Future[ServerModel] = Future()
        model.set_result(ServerModel(self.layout, np.zeros(self.layout.parameters, np.float32)))
        return Federation(
            context=RunContext(
                study=self.study,
                run=run,
                exchange=Exchange(self.grid(faults)),
                store=self.store(run),
                events=EventLog(self.folder / "events.jsonl", self.clock, run=str(run)),
                clock=self.clock,
                timing=self.timing,
                consortium=self.roster,
            ),
            model=model,
            strategy=lambda parameters: make_strategy(self.study.aggregation, parameters),
            folder=self.folder / "adapters",
            tracker=tracker or NoTracker(),
            key=self.key,
            log=self.log(),
        )

    def log(
        self, waiting: Callable[[], Iterable[tuple[EntryKind, LogFacts]]] = tuple
    ) -> LogKeeper | None:
        """The consortium's log, in a file of the folder; `waiting` as `LogKeeper` has it."""
        if self.key is None or self.signed is None:
            return None
        store, signed = LogStore(self.folder / "transparency.db"), self.signed
        return LogKeeper(store, self.key, lambda: [signed], self.study, self.clock.time, waiting)
