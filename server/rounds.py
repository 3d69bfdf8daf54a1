"""A federation run from the first greeting to the last adapter, on any Flower `Grid`.

Guarantees, each with a test: every round's adapter is durable before the next round starts; a
run that was killed goes on at its round with its last adapter; an attempt that was interrupted
counts, and is taken up again rather than paid for twice; a site that fails costs its own update
only, while `min_sites` others remain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from model.layout import Layout
from privacy.errors import FederationError
from privacy.manifest import Study
from server.attempt import Attempt, Order, Outcome, Post
from server.checkpoint import load_checkpoint, save_checkpoint
from server.clock import Clock, SystemClock, Timing
from server.events import EventLog
from server.messages import Exchange
from server.phases import Phases
from server.roster import Desk, Roster
from server.status import RunStatus
from server.store import Store
from server.tables import AttemptState, RunState
from strategies.base import Strategy
from strategies.cohort import weights

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class ServerModel:
    """What the server has to know of the model: the adapter's layout and where it starts, [P]."""

    layout: Layout
    initial: Vector


class Tracker(Protocol):
    """Somebody who is told after each round; must not raise, must not wait."""

    def round_finished(self, status: RunStatus) -> None:
        """`status` holds everything up to this round."""


class NoTracker:
    """Nobody."""

    def round_finished(self, status: RunStatus) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Federation:
    """A run and everything it works with.

    `model` may still be loading while the sites are greeted.
    `strategy` makes the strategy for P parameters. `folder` takes one file a round.
    """

    study: Study
    run: int
    grid: Grid
    store: Store
    events: EventLog
    model: Future[ServerModel]
    strategy: Callable[[int], Strategy]
    folder: Path
    tracker: Tracker = field(default_factory=NoTracker)
    clock: Clock = field(default_factory=SystemClock)
    timing: Timing = field(default_factory=Timing)


def run_federation(federation: Federation) -> Vector:
    """Run all rounds that are left; returns the last adapter, float32 [P].

    Raises `FederationError` when a round cannot be finished. The store then still says "running":
    whoever catches the error decides whether that was the end.
    """
    return _Run(federation).run()


class _Run:
    def __init__(self, federation: Federation) -> None:
        self._it = federation
        self._exchange = Exchange(federation.grid)
        self._phases = Phases(federation.store, federation.events, federation.clock)
        self._roster = Roster(
            Desk(
                study=federation.study,
                run=federation.run,
                grid=federation.grid,
                exchange=self._exchange,
                store=federation.store,
                events=federation.events,
                clock=federation.clock,
                timing=federation.timing,
            )
        )

    def run(self) -> Vector:
        it = self._it
        resumed = it.store.begin(it.study)
        names = [site.name for site in it.study.sites]
        it.events.emit("run-started", rounds=it.study.rounds, sites=names, resumed=resumed)
        stored = it.store.last_adapter()
        if stored is None or stored[0] < it.study.rounds:
            with self._phases.measure("joining"):
                self._roster.gather(self._check_model)
        with self._phases.measure("loading"):
            model = it.model.result()
        strategy = it.strategy(model.layout.parameters)
        done, adapter = self._last(model, strategy)
        if done < it.study.rounds:
            self._check_quorum(model.layout)
        it.store.set_state(RunState.RUNNING)
        for number in range(done + 1, it.study.rounds + 1):
            adapter = self._round(number, adapter, model.layout, strategy)
        return adapter

    def _check_model(self) -> None:
        """Raise what went wrong with the model at once, not after all sites have answered."""
        if self._it.model.done():
            self._it.model.result()

    def _last(self, model: ServerModel, strategy: Strategy) -> tuple[int, Vector]:
        """The last finished round and its adapter; brings `strategy` to where it was then."""
        stored = self._it.store.last_adapter()
        if stored is None:
            kept = save_checkpoint(self._file(0), model.initial, strategy.state())
            self._it.store.keep_adapter(0, kept)
            return 0, model.initial
        number, path, digest = stored
        checkpoint = load_checkpoint(Path(path), digest)
        model.layout.check(checkpoint.adapter)
        strategy.restore(checkpoint.state)
        return number, checkpoint.adapter

    def _round(self, number: int, adapter: Vector, layout: Layout, strategy: Strategy) -> Vector:
        key, outcome = self._attempts(number, adapter, layout)
        it = self._it
        with self._phases.measure("aggregation"):
            shares = weights(it.study, sorted(outcome.updates))
            adapter = strategy.aggregate(adapter, outcome.updates, shares)
            layout.check(adapter)
            norm = float(np.linalg.norm(adapter.astype(np.float64)))
            kept = save_checkpoint(self._file(number), adapter, strategy.state())
            it.store.round_finished(key, len(outcome.updates), norm, kept)
        status = it.store.status()
        it.events.emit(
            "round-finished",
            round=number,
            rounds=it.study.rounds,
            attempt=key[1],
            updates=len(outcome.updates),
            adapter_norm=norm,
            seconds=status.history[-1].seconds,
            sites=sorted(outcome.updates),
        )
        it.tracker.round_finished(status)
        return adapter

    def _attempts(
        self, number: int, adapter: Vector, layout: Layout
    ) -> tuple[tuple[int, int], Outcome]:
        """Try round `number` until enough updates are in, or the study's attempts are used up."""
        study = self._it.study
        reason = "It was interrupted."
        for attempt in self._attempt_numbers(number):
            order = Order(number, attempt, adapter)
            with self._phases.measure("training"):
                outcome = self._attempt(order, layout)
            if len(outcome.updates) >= study.cohort.min_sites:
                return order.key, outcome
            reason = _too_few(len(outcome.updates), study.cohort.min_sites, outcome.dropped)
            self._it.store.attempt_failed(order.key, reason)
            self._it.events.emit("round-failed", round=number, attempt=attempt, reason=reason)
        raise FederationError(
            f"Round {number} of {study.rounds} failed after {study.privacy.attempts} attempt(s). "
            f"{reason}",
            "Mend the sites named above, then start a new run: craftsfl rounds start",
        )

    def _attempt_numbers(self, number: int) -> Iterator[int]:
        """The attempts that are left: first the one that was interrupted, if any.

        Taking it up again costs the sites nothing: they know the message, and either still train
        or have the update ready. A new attempt would be paid for a second time.
        """
        before = self._it.store.attempts(number)
        last, state = before[-1] if before else (0, AttemptState.FAILED)
        first = last if state is AttemptState.OPEN else last + 1
        yield from range(first, self._it.study.privacy.attempts + 1)

    def _attempt(self, order: Order, layout: Layout) -> Outcome:
        it = self._it
        self._roster.check_layout(layout)
        members = self._roster.members()
        post = Post(
            study=it.study,
            run=it.run,
            layout=layout,
            exchange=self._exchange,
            roster=self._roster,
            store=it.store,
            events=it.events,
            clock=it.clock,
            timing=it.timing,
        )
        it.events.emit(
            "round-started",
            round=order.round,
            rounds=it.study.rounds,
            attempt=order.attempt,
            sites=[member.name for member in members],
        )
        self._roster.greet_newcomers()
        return Attempt(post, order, members).run()

    def _check_quorum(self, layout: Layout) -> None:
        self._roster.check_layout(layout)
        self._roster.report_missing()
        members, needed = self._roster.members(), self._it.study.cohort.min_sites
        if len(members) < needed:
            raise FederationError(
                _too_few(len(members), needed, self._roster.absentees()),
                "Mend these sites, then start a new run: craftsfl rounds start",
            )

    def _file(self, number: int) -> Path:
        return self._it.folder / str(self._it.run) / f"round-{number:03d}.npz"


def _too_few(have: int, needed: int, without: Mapping[str, str]) -> str:
    reasons = " ".join(f"{name}: {reason}" for name, reason in sorted(without.items()))
    return f"{have} site(s) of the {needed} that are needed. {reasons}".strip()
