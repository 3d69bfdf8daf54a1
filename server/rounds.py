"""A federation run from the first greeting to the last adapter, on any Flower `Grid`.

Guarantees, each with a test: every round's adapter is durable before the next round starts; a
run that was killed goes on at its round with its last adapter; an attempt that was interrupted
counts: a plain one is taken up again, a masked one is lost, because the next one needs new keys;
a site that fails costs its own update only, while enough others remain.
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
from privacy.secagg.roster import Roster as Consortium
from privacy.study.agreement import terms_of
from privacy.study.manifest import Study
from server.attempt import known, run_attempt
from server.checkpoint import load_checkpoint, save_checkpoint
from server.clock import Clock, SystemClock, Timing
from server.events import EventLog
from server.messages import Exchange
from server.parts import Mean, Order, Outcome, Post
from server.phases import Phases
from server.roster import Desk, Member, Roster
from server.spending import Spending
from server.status import RunStatus
from server.store import Store
from server.tables import AttemptState, RunState
from strategies.base import Strategy

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
    `consortium` is the roster that the study pins, None for a plain study.
    """

    study: Study
    run: int
    grid: Grid
    store: Store
    events: EventLog
    model: Future[ServerModel]
    strategy: Callable[[int], Strategy]
    folder: Path
    consortium: Consortium | None = None
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
        if federation.study.masked:
            known(federation.consortium)
        self._exchange = Exchange(federation.grid)
        self._spending = Spending(federation.study)
        self._phases = Phases(federation.store, federation.events, federation.clock)
        self._roster = Roster(
            Desk(
                study=federation.study,
                consortium=federation.consortium,
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
            if it.study.masked:
                terms_of(it.study, model.layout.parameters)  # refuses bits that cannot hold the sum
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
        key, mean, sites = self._attempts(number, adapter, layout)
        it = self._it
        with self._phases.measure("aggregation"):
            adapter = strategy.aggregate(adapter, mean)
            layout.check(adapter)
            norm = float(np.linalg.norm(adapter.astype(np.float64)))
            kept = save_checkpoint(self._file(number), adapter, strategy.state())
            it.store.round_finished(key, len(sites), norm, kept)
        status = it.store.status()
        it.events.emit(
            "round-finished",
            round=number,
            rounds=it.study.rounds,
            attempt=key[1],
            updates=len(sites),
            adapter_norm=norm,
            seconds=status.history[-1].seconds,
            sites=sites,
            masked=it.study.masked,
        )
        it.tracker.round_finished(status)
        return adapter

    def _attempts(
        self, number: int, adapter: Vector, layout: Layout
    ) -> tuple[tuple[int, int], Mean, tuple[str, ...]]:
        """Try round `number` until it has a mean update, or the study's attempts are used up.

        Gives the attempt that had one, the mean, and the sites that are in it.
        """
        study = self._it.study
        reason = "It was interrupted."
        for attempt in self._attempt_numbers(number):
            order = Order(number, attempt, adapter)
            with self._phases.measure("training"):
                outcome = self._attempt(order, layout)
            if outcome.mean is not None:
                return order.key, outcome.mean, outcome.sites
            reason = _why(outcome, study.smallest_cohort)
            self._failed(order.key, reason)
        raise FederationError(
            f"Round {number} of {study.rounds} failed after {study.privacy.attempts} attempt(s). "
            f"{reason}",
            "Mend the sites named above, then start a new run: craftsfl rounds start",
        )

    def _failed(self, key: tuple[int, int], reason: str) -> None:
        self._it.store.attempt_failed(key, reason)
        self._it.events.emit("round-failed", round=key[0], attempt=key[1], reason=reason)

    def _attempt_numbers(self, number: int) -> Iterator[int]:
        """The attempts that are left: first a plain one that was interrupted, if any.

        Taking that up again costs the sites nothing: they know the message, and either still
        train or have the update ready. A masked one cannot be taken up: what the sites sent for
        it was in this process's memory, and no site masks an update twice.
        """
        before = self._it.store.attempts(number)
        last, state = before[-1] if before else (0, AttemptState.FAILED)
        taken_up = state is AttemptState.OPEN and not self._it.study.masked
        if state is AttemptState.OPEN and not taken_up:
            self._failed((number, last), "The coordinator was interrupted.")
        yield from range(last if taken_up else last + 1, self._it.study.privacy.attempts + 1)

    def _attempt(self, order: Order, layout: Layout) -> Outcome:
        it = self._it
        self._roster.check_layout(layout)
        members = self._members(order.round)
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
            spending=self._spending,
        )
        it.events.emit(
            "round-started",
            round=order.round,
            rounds=it.study.rounds,
            attempt=order.attempt,
            sites=[member.name for member in members],
        )
        self._roster.greet_newcomers()
        return run_attempt(post, order, members, it.consortium)

    def _members(self, round: int) -> list[Member]:
        """Who is asked to train; a masked attempt waits until its smallest cohort is there.

        Masked cohorts of one round only shrink, so that no two sums differ by whom one chooses: a
        site that was left out once stays out of the round, and would be refused by the others.
        """
        clock, study = self._it.clock, self._it.study
        if not study.masked:
            return self._roster.members()
        allowed = self._it.store.cohort(study, round)
        end = clock.monotonic() + self._it.timing.patience
        while (
            len(_within(self._roster.present(), allowed)) < study.smallest_cohort
            and clock.monotonic() < end
        ):
            self._roster.greet_newcomers()
            for reply in self._exchange.receive():
                self._roster.note(reply)
            clock.sleep(self._it.timing.poll)
        members = self._roster.members()
        chosen = _within(members, allowed)
        for member in members:
            if member not in chosen:
                reason = f"It was not in the first cohort of round {round}, which may only shrink."
                self._it.events.emit("site-left-out", site=member.name, round=round, reason=reason)
        return chosen

    def _check_quorum(self, layout: Layout) -> None:
        self._roster.check_layout(layout)
        self._roster.report_missing()
        members, needed = self._roster.members(), self._it.study.smallest_cohort
        if len(members) < needed:
            raise FederationError(
                _too_few(len(members), needed, self._roster.absentees()),
                "Mend these sites, then start a new run: craftsfl rounds start",
            )

    def _file(self, number: int) -> Path:
        return self._it.folder / str(self._it.run) / f"round-{number:03d}.npz"


def _within(members: list[Member], allowed: frozenset[str] | None) -> list[Member]:
    """Those of `members` whose names are `allowed`; all of them where there is no list yet."""
    return [member for member in members if allowed is None or member.name in allowed]


def _why(outcome: Outcome, needed: int) -> str:
    if not outcome.reason:
        return _too_few(len(outcome.sites), needed, outcome.dropped)
    dropped = " ".join(f"{name}: {why}" for name, why in sorted(outcome.dropped.items()))
    return f"{outcome.reason} {dropped}".strip()


def _too_few(have: int, needed: int, without: Mapping[str, str]) -> str:
    reasons = " ".join(f"{name}: {reason}" for name, reason in sorted(without.items()))
    return f"{have} site(s) of the {needed} that are needed. {reasons}".strip()
