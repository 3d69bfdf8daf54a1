"""A federation run from the first greeting to the last adapter, on any Flower `Grid`.

Guarantees, each with a test: every round's adapter is durable before the next round starts; a
run that was killed continues at its round with its last adapter; an interrupted attempt counts: it
is lost, because the next one needs new keys; a site that fails costs only its own update, as long
as enough others remain; an attempt begins only when enough sites are there and the operator wants
it, and until then none is used up.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from model.layout import Layout
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError
from privacy.identity import Identity
from privacy.wire.codec import Vector
from server.attendance import Attendance
from server.cohort import AttemptGate, check_quorum
from server.context import RunContext
from server.events import RunStarted
from server.farewell import say_run_over
from server.life import RunStopped
from server.log_keeper import LogKeeper
from server.round_parts import RoundParts, Tracker
from server.sealed_rounds import SealedRounds
from server.spending import Spending
from server.status import RunStatus
from server.tables import RunState
from server.update_rounds import UpdateRounds
from strategies.base import Strategy


@dataclass(frozen=True)
class ServerModel:
    """What the server needs to know about the model: the adapter's layout and start, [P]."""

    layout: Layout
    initial: Vector


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
    parameters. `folder` receives one file per round. `key` is the coordinator's own, which signs
    the steps of a pooled study; `log` the consortium's, which it keeps.
    """

    context: RunContext
    model: Future[ServerModel]
    strategy: Callable[[int], Strategy]
    folder: Path
    tracker: Tracker = field(default_factory=NoTracker)
    key: Identity | None = None
    log: LogKeeper | None = None

    def signer(self) -> Identity:
        """The coordinator's own key. Raises `ConfigError` if there is none."""
        if self.key is None:
            raise ConfigError(
                f"The study {self.context.study.name} is pooled, and its coordinator has no key.",
                "Set `coordinator_key` in consortium.toml to the file: craftsfl rounds key",
                id=ErrorId.COORDINATOR_KEY,
            )
        return self.key


def run_federation(federation: Federation) -> Vector:
    """Run all remaining rounds; returns the last adapter, float32 [P].

    Raises `FederationError` if a round cannot be finished, also `RunStopped` or `RunInterrupted`
    (`server.life`). The store then still says "running": the caller decides what that means.
    """
    return _Rounds(federation).run()


class _KindOfRound(Protocol):
    """How the rounds of a study go, and how the adapter is worked out."""

    @property
    def adapter(self) -> Vector:
        """What a run that ends here publishes, float32 [P]."""

    def restore(self) -> int:
        """Go back to the last finished round; its number, 0 if there is none."""

    def check(self) -> None:
        """Raise `ConfigError` where the study does not fit its adapter."""

    def run(self, number: int) -> None:
        """One round."""

    def close(self) -> None:
        """What is left to do after the last round; once, also over restarts."""


class _Rounds:
    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._context = context = federation.context
        self._attendance = Attendance(context)
        self._parts = RoundParts(
            context=context,
            attendance=self._attendance,
            gate=AttemptGate(context, self._attendance, federation.folder),
            spending=Spending(context.study),
            folder=federation.folder,
            tracker=federation.tracker,
        )

    def run(self) -> Vector:
        try:
            return self._run()
        except RunStopped:
            say_run_over(self._context, self._attendance)
            raise

    def _run(self) -> Vector:
        context = self._context
        resumed = context.store.begin(context.study)
        names = tuple(site.name for site in context.study.sites)
        context.emit(RunStarted(context.study.rounds, names, resumed))
        if not self._all_done():
            with context.phase("joining"):
                if context.store.attempts(1):  # those who can be there are called in a moment
                    self._attendance.greet()
                else:
                    self._attendance.gather(self._check_model)
        with context.phase("loading"):
            model = self._federation.model.result()
        rounds = self._kind(model)
        done = rounds.restore()
        if done < context.study.rounds:
            rounds.check()
            self._attendance.check_layout(model.layout)
            if done == 0 and not context.store.attempts(1):
                check_quorum(context, self._attendance)  # later, a site may still be put right
        else:
            context.store.set_state(RunState.RUNNING)
        for number in range(done + 1, context.study.rounds + 1):
            rounds.run(number)
        rounds.close()
        return rounds.adapter

    def _all_done(self) -> bool:
        stored = self._context.store.last_adapter()
        return stored is not None and stored[0] >= self._context.study.rounds

    def _check_model(self) -> None:
        """Raise an error of loading the model at once, not only after all sites have answered."""
        if self._federation.model.done():
            self._federation.model.result()

    def _kind(self, model: ServerModel) -> _KindOfRound:
        if self._context.study.pools_noise:
            roster = self._context.consortium
            federation = self._federation
            signer, keeper = federation.signer(), federation.log
            return SealedRounds(self._parts, model.layout, roster, signer, keeper)
        return UpdateRounds(self._parts, model.layout, model.initial, self._federation.strategy)
