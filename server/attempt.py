"""One attempt at a round: every site is asked to train, then asked for its update until it has one.

Each site goes its own way through `starting -> training -> finished | dropped`; all transitions
are in this file. All messages are idempotent, so whatever got lost is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.layout import Layout
from privacy.manifest import Study
from privacy.wire.bodies import Body, Collect, Refusal, Running, Started, StartTraining, Update
from privacy.wire.envelope import Envelope, size_limit
from privacy.wire.reasons import Reason, explain
from server.clock import Clock, Timing
from server.events import EventLog
from server.messages import Exchange, Failure, Reply, Request
from server.roster import TRY_AGAIN, Member, Roster
from server.store import Store
from server.tables import PartState

Vector = NDArray[np.float32]
RESENDS = 2  # after failures of Flower's that may pass
BYTES_A_SECOND = 1_000_000  # slowest line that a large adapter is expected to take


@dataclass(frozen=True, slots=True)
class Order:
    """What the sites are asked: to train from `adapter` [P] in this round and attempt."""

    round: int
    attempt: int
    adapter: Vector

    @property
    def key(self) -> tuple[int, int]:
        """(round, attempt)."""
        return self.round, self.attempt


@dataclass(frozen=True)
class Post:
    """What an attempt needs from its surroundings."""

    study: Study
    run: int
    layout: Layout
    exchange: Exchange
    roster: Roster
    store: Store
    events: EventLog
    clock: Clock
    timing: Timing


@dataclass(slots=True)
class _Part:
    """A site on its way through the attempt. Times are monotonic."""

    member: Member
    pause: float
    state: PartState = PartState.STARTING
    due: float = 0.0  # when to send its next message
    failures: int = 0
    unreachable_since: float | None = None
    dropped: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: updates float32 [P] by site, and why other sites gave none."""

    updates: dict[str, Vector] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


class Attempt:
    """Runs one order: to the deadline, until all sites have ended, or until too few remain."""

    def __init__(self, post: Post, order: Order, members: Sequence[Member]) -> None:
        self._post = post
        self._order = order
        first = post.timing.first_pause
        self._parts = {member.node: _Part(member, first) for member in members}
        self._updates: dict[str, Vector] = {}
        self._silence = post.timing.silence + 4 * order.adapter.size / BYTES_A_SECOND
        self._begin = post.clock.monotonic()

    def run(self) -> Outcome:
        """Ask, collect, and say what came of it."""
        post = self._post
        names = [part.member.name for part in self._parts.values()]
        post.store.open_attempt(*self._order.key, names)
        self._drop_the_absent()
        deadline = self._begin + post.study.cohort.round_deadline
        while self._worth_waiting():
            if post.clock.monotonic() >= deadline:
                self._drop_the_late()
                break
            self._send_due()
            for reply in post.exchange.receive():
                self._note(reply)
            post.clock.sleep(post.timing.poll)
        dropped = {part.member.name: part.dropped for part in self._parts.values() if part.dropped}
        return Outcome(self._updates, dropped)

    def _active(self) -> list[_Part]:
        going = (PartState.STARTING, PartState.TRAINING)
        return [part for part in self._parts.values() if part.state in going]

    def _worth_waiting(self) -> bool:
        active = len(self._active())
        return active > 0 and active + len(self._updates) >= self._post.study.cohort.min_sites

    def _send_due(self) -> None:
        now = self._post.clock.monotonic()
        due = [part for part in self._active() if part.due <= now]
        if not due:
            return
        for part in due:
            part.due = now + self._silence  # until a reply says otherwise
        self._post.exchange.send([self._request(part) for part in due])

    def _request(self, part: _Part) -> Request:
        if part.state is PartState.TRAINING:
            limit = size_limit(self._post.layout.parameters)
            return Request(part.member.node, self._envelope(Collect()), limit)
        body = StartTraining(
            self._post.study.digest(), self._post.layout.fingerprint(), self._order.adapter
        )
        return Request(part.member.node, self._envelope(body))

    def _envelope(self, body: Body) -> Envelope:
        return Envelope(self._post.run, *self._order.key, body)

    def _note(self, reply: Reply) -> None:
        envelope = reply.request.envelope
        part = self._parts.get(reply.request.node)
        if part is None or (envelope.round, envelope.attempt) != self._order.key:
            self._post.roster.note(reply)
            return
        if part not in self._active():
            return
        match reply.answer:
            case Started() if isinstance(envelope.body, StartTraining):
                self._on_started(part)
            case Running() if isinstance(envelope.body, Collect):
                self._on_running(part)
            case Update() as update if isinstance(envelope.body, Collect):
                self._on_update(part, update)
            case Refusal() as refusal:
                self._on_refusal(part, refusal)
            case Failure() as failure:
                self._on_failure(part, failure)
            case _:
                self._drop(part, "Its reply does not answer what it was asked.")

    def _on_started(self, part: _Part) -> None:
        if part.state is not PartState.STARTING:
            return  # the answer to a message that was sent twice
        self._post.store.part(self._order.key, part.member.name, PartState.TRAINING)
        self._emit("site-started", part, seconds=self._elapsed())
        part.state = PartState.TRAINING
        self._reached(part)
        self._ask_in_a_slot(part)

    def _on_running(self, part: _Part) -> None:
        self._reached(part)
        self._ask_in_a_slot(part)

    def _on_update(self, part: _Part, update: Update) -> None:
        layout = self._post.layout
        fits = update.layout_fingerprint == layout.fingerprint()
        if not fits or update.delta.size != layout.parameters:
            self._drop(part, explain(Reason.WRONG_LAYOUT))
            return
        name = part.member.name
        self._post.store.update_received(self._order.key, name, update.epsilon_spent)
        part.state = PartState.FINISHED
        self._updates[name] = update.delta
        self._emit("site-finished", part, epsilon=update.epsilon_spent, seconds=self._elapsed())

    def _on_refusal(self, part: _Part, refusal: Refusal) -> None:
        now = self._post.clock.monotonic()
        if refusal.reason in TRY_AGAIN:
            if part.unreachable_since is None:
                part.unreachable_since = now
            if now - part.unreachable_since < self._post.timing.patience:
                self._ask_later(part)
                return
        self._drop(part, _words(refusal))

    def _on_failure(self, part: _Part, failure: Failure) -> None:
        part.failures += 1
        if failure.final or part.failures > RESENDS:
            text = failure.explain()
            self._drop(part, text[0].upper() + text[1:] + ".")
        else:
            self._ask_later(part)

    def _drop_the_absent(self) -> None:
        online = {member.node for member in self._post.roster.present()}
        for part in self._active():
            if part.member.node not in online:
                self._drop(part, "Its SuperNode is not connected.")

    def _drop_the_late(self) -> None:
        seconds = self._post.study.cohort.round_deadline
        for part in self._active():
            self._drop(part, f"It missed the round's deadline of {seconds:g} s.")

    def _drop(self, part: _Part, reason: str) -> None:
        self._post.store.part(self._order.key, part.member.name, PartState.DROPPED, reason)
        part.state, part.dropped = PartState.DROPPED, reason
        self._emit("site-dropped", part, reason=reason)

    def _reached(self, part: _Part) -> None:
        part.failures, part.unreachable_since = 0, None

    def _ask_in_a_slot(self, part: _Part) -> None:
        """Updates leave at whole multiples of the slot; to ask in between is in vain."""
        part.due = self._post.clock.monotonic() + self._post.study.cohort.reply_slot

    def _ask_later(self, part: _Part) -> None:
        part.due = self._post.clock.monotonic() + part.pause
        part.pause = min(part.pause * 2, self._post.timing.longest_pause)

    def _elapsed(self) -> float:
        return round(self._post.clock.monotonic() - self._begin, 2)

    def _emit(self, event: str, part: _Part, **facts: str | float | None) -> None:
        round_, attempt = self._order.key
        self._post.events.emit(
            event,
            round=round_,
            rounds=self._post.study.rounds,
            attempt=attempt,
            site=part.member.name,
            **facts,
        )


def _words(refusal: Refusal) -> str:
    if refusal.reason is not Reason.BUDGET:
        return explain(refusal.reason)
    return (
        f"It has spent epsilon {refusal.spent:.3g} of {refusal.budget:.3g}; this round would make "
        f"it {refusal.would_be:.3g}. " + explain(Reason.BUDGET)
    )
