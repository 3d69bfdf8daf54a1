"""A federation run from the first greeting to the last adapter, on any Flower `Grid`.

Guarantees, each with a test: every round's adapter is durable before the next round starts; a
run that was killed continues at its round with its last adapter; an interrupted attempt counts: a
plain one is resumed, a masked one is lost, because the next one needs new keys; a site that fails
costs only its own update, as long as enough others remain; an attempt begins only when enough
sites are there and the operator wants it, and until then none is used up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from model.layout import Layout
from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from privacy.study.agreement import terms_of
from privacy.wire.codec import Vector
from server.attempt import run_attempt
from server.attendance import Attendance
from server.checkpoint import load_checkpoint, save_checkpoint
from server.cohort import AttemptGate, check_quorum, too_few
from server.context import RunContext
from server.events import RoundFailed, RoundFinished, RoundStarted, RunStarted
from server.life import RunStopped
from server.nodes import Attendee
from server.participants import AttemptOutcome, TrainingOrder
from server.spending import Spending
from server.status import RunStatus
from server.tables import AttemptState, RunState
from strategies.base import Mean, Strategy


@dataclass(frozen=True)
class ServerModel:
    """What the server needs to know about the model: the adapter's layout and start, [P]."""

    layout: Layout
    initial: Vector


class Tracker(Protocol):
    """Follows a run, round by round."""

    def round_finished(self, status: RunStatus) -> None:
        """`status` holds everything up to this round. Must neither raise nor block."""


class NoTracker:
    """Follows nothing."""

    def round_finished(self, status: RunStatus) -> None:
        """Does nothing."""


class Trackers:
    """Several, one after the other."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def round_finished(self, status: RunStatus) -> None:
        """Tells each."""
        for tracker in self._trackers:
            tracker.round_finished(status)


@dataclass(frozen=True)
class Federation:
    """The rounds of a run, and what they need in addition to its context.

    `model` may still be loading while the sites are greeted. `strategy` makes the strategy for P
    parameters. `folder` receives one file per round.
    """

    context: RunContext
    model: Future[ServerModel]
    strategy: Callable[[int], Strategy]
    folder: Path
    tracker: Tracker = field(default_factory=NoTracker)


def run_federation(federation: Federation) -> Vector:
    """Run all remaining rounds; returns the last adapter, float32 [P].

    Raises `FederationError` if a round cannot be finished, also `RunStopped` or `RunInterrupted`
    (`server.life`). The store then still says "running": the caller decides what that means.
    """
    return _Rounds(federation).run()


class _Rounds:
    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._context = federation.context
        if self._context.study.masked:
            self._context.signed_roster()
        self._attendance = Attendance(self._context)
        self._spending = Spending(self._context.study)
        self._gate = AttemptGate(self._context, self._attendance, federation.folder)

    def run(self) -> Vector:
        context = self._context
        resumed = context.store.begin(context.study)
        names = tuple(site.name for site in context.study.sites)
        context.emit(RunStarted(context.study.rounds, names, resumed))
        stored = context.store.last_adapter()
        if stored is None or stored[0] < context.study.rounds:
            with context.phase("joining"):
                if context.store.attempts(1):  # those who can be there are called in a moment
                    self._attendance.greet()
                else:
                    self._attendance.gather(self._check_model)
        with context.phase("loading"):
            model = self._federation.model.result()
        strategy = self._federation.strategy(model.layout.parameters)
        done, adapter = self._last(model, strategy)
        if done < context.study.rounds:
            if context.study.masked:
                # Refuses bits that cannot hold the sum.
                terms_of(context.study, model.layout.parameters)
            self._attendance.check_layout(model.layout)
            if done == 0 and not context.store.attempts(1):
                check_quorum(context, self._attendance)  # later, a site may still be put right
        else:
            context.store.set_state(RunState.RUNNING)
        for number in range(done + 1, context.study.rounds + 1):
            adapter = self._round(number, adapter, model.layout, strategy)
        return adapter

    def _check_model(self) -> None:
        """Raise an error of loading the model at once, not only after all sites have answered."""
        if self._federation.model.done():
            self._federation.model.result()

    def _last(self, model: ServerModel, strategy: Strategy) -> tuple[int, Vector]:
        """The last finished round and its adapter; restores `strategy` to its state after it."""
        stored = self._context.store.last_adapter()
        if stored is None:
            kept = save_checkpoint(self._file(0), model.initial, strategy.state())
            self._context.store.keep_adapter(0, kept)
            return 0, model.initial
        number, path, digest = stored
        checkpoint = load_checkpoint(Path(path), digest)
        model.layout.check(checkpoint.adapter)
        strategy.restore(checkpoint.state)
        return number, checkpoint.adapter

    def _round(self, number: int, adapter: Vector, layout: Layout, strategy: Strategy) -> Vector:
        key, mean, sites = self._attempts(number, adapter, layout)
        context = self._context
        with context.phase("aggregation"):
            adapter = strategy.aggregate(adapter, mean)
            layout.check(adapter)
            norm = float(np.linalg.norm(adapter.astype(np.float64)))
            kept = save_checkpoint(self._file(number), adapter, strategy.state())
            context.store.round_finished(key, len(sites), norm, kept)
        status = context.store.status()
        context.emit(
            RoundFinished(
                round=number,
                rounds=context.study.rounds,
                attempt=key[1],
                updates=len(sites),
                adapter_norm=norm,
                seconds=status.history[-1].seconds,
                sites=sites,
                masked=context.study.masked,
            )
        )
        self._federation.tracker.round_finished(status)
        return adapter

    def _attempts(
        self, number: int, adapter: Vector, layout: Layout
    ) -> tuple[tuple[int, int], Mean, tuple[str, ...]]:
        """Attempt round `number` until there is a mean update, or no attempt is left.

        Returns the key of the successful attempt, the mean, and the sites in it.
        """
        context, study = self._context, self._context.study
        reason = "It was interrupted."
        for attempt in self._attempt_numbers(number):
            order = TrainingOrder(number, attempt, adapter, layout)
            attendees = self._gate.choose_cohort(number, layout)
            try:
                with context.phase("training"):
                    outcome = self._attempt(order, attendees)
            except RunStopped as stopped:
                self._failed(order.key, stopped.message)
                raise
            if outcome.mean is not None:
                return order.key, outcome.mean, outcome.sites
            reason = _why(outcome, study.smallest_cohort)
            self._failed(order.key, reason)
        raise FederationError(
            f"Round {number} of {study.rounds} failed after {study.privacy.attempts} attempt(s). "
            f"{reason}",
            "Fix the sites named above, then start a new run: craftsfl rounds start",
            id=ErrorId.ROUND_FAILED,
        )

    def _failed(self, key: tuple[int, int], reason: str) -> None:
        self._context.store.attempt_failed(key, reason)
        self._context.emit(RoundFailed(*key, reason))

    def _attempt_numbers(self, number: int) -> Iterator[int]:
        """The remaining attempts, beginning with an interrupted plain one, if there is one.

        Resuming that costs the sites nothing: they recognise the message, and are still training
        or have the update ready. A masked attempt cannot be resumed: what the sites had sent was
        in the memory of the process that ended, and no site masks an update twice.
        """
        before = self._context.store.attempts(number)
        last, state = before[-1] if before else (0, AttemptState.FAILED)
        resumed = state is AttemptState.OPEN and not self._context.study.masked
        if state is AttemptState.OPEN and not resumed:
            self._failed((number, last), "The coordinator was interrupted.")
        yield from range(last if resumed else last + 1, self._context.study.privacy.attempts + 1)

    def _attempt(self, order: TrainingOrder, attendees: Sequence[Attendee]) -> AttemptOutcome:
        context = self._context
        context.emit(
            RoundStarted(
                round=order.round,
                rounds=context.study.rounds,
                attempt=order.attempt,
                sites=tuple(attendee.name for attendee in attendees),
            )
        )
        return run_attempt(context, order, self._attendance, attendees, self._spending)

    def _file(self, number: int) -> Path:
        return self._federation.folder / self._context.label / f"round-{number:03d}.npz"


def _why(outcome: AttemptOutcome, needed: int) -> str:
    if not outcome.reason:
        return too_few(len(outcome.sites), needed, outcome.dropped)
    dropped = " ".join(f"{name}: {why}" for name, why in sorted(outcome.dropped.items()))
    return f"{outcome.reason} {dropped}".strip()
