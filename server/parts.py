"""The sites on their way through one attempt: who is asked what, who failed, who dropped out.

Both kinds of attempt (`server.masked`, `server.plain`) rest on this: messages are idempotent, so
whatever got lost is sent again; a site that is out of reach for long, or says no, is dropped, and
that is stored before anything follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.layout import Layout
from privacy.study.manifest import Study
from privacy.wire.bodies import Body, Refusal
from privacy.wire.envelope import Envelope
from privacy.wire.reasons import Reason, explain
from server.clock import Clock, Timing
from server.events import EventLog, Fact
from server.messages import Exchange, Failure, Reply, Request
from server.roster import TRY_AGAIN, Member, Roster
from server.spending import Spending
from server.store import Store
from server.tables import PartState

Vector = NDArray[np.float32]
Mean = NDArray[np.float64]
RESENDS = 2  # after failures of Flower's that may pass
BYTES_A_SECOND = 1_000_000  # slowest line that a large adapter is expected to take
NO_ANSWER = "Its reply does not answer what it was asked."


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

    @property
    def seconds(self) -> float:
        """For a vector of the adapter's size to travel over a slow line."""
        return 4 * self.adapter.size / BYTES_A_SECOND


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
    spending: Spending


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: the mean update of `sites`, float64 [P], or why there is none."""

    mean: Mean | None = None
    sites: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(slots=True)
class Part:
    """A site on its way through the attempt. Times are monotonic."""

    member: Member
    pause: float
    state: PartState = PartState.STARTING
    due: float = 0.0  # when to send its next message
    slot: float = 0.0  # from when on its update may leave: asked before, it says Running
    failures: int = 0
    unreachable_since: float | None = None
    dropped: str = ""

    @property
    def name(self) -> str:
        """The site's name."""
        return self.member.name

    @property
    def active(self) -> bool:
        """Whether its update is still to come."""
        return self.state in (PartState.STARTING, PartState.TRAINING)


class Parts:
    """All parts of one attempt, and the messages to and from them."""

    def __init__(self, post: Post, order: Order, members: Sequence[Member]) -> None:
        self._post = post
        self._order = order
        first = post.timing.first_pause
        self._parts = {member.node: Part(member, first) for member in members}
        self._begin = post.clock.monotonic()

    def open(self) -> None:
        """Store who is asked, and drop those whose SuperNode is away."""
        self._post.store.open_attempt(*self._order.key, [part.name for part in self])
        online = {member.node for member in self._post.roster.present()}
        for part in self:
            if part.member.node not in online:
                self.drop(part, "Its SuperNode is not connected.")

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts.values())

    def active(self) -> list[Part]:
        """Those whose update is still to come."""
        return [part for part in self if part.active]

    def dropped(self) -> dict[str, str]:
        """Why each site that dropped out did, by name."""
        return {part.name: part.dropped for part in self if part.dropped}

    def elapsed(self) -> float:
        """Seconds since the attempt began."""
        return self._post.clock.monotonic() - self._begin

    def send(self, requests: Sequence[tuple[Part, Body]], silence: float, limit: int) -> None:
        """Send what is due; without a reply within `silence` seconds it is due again."""
        if not requests:
            return
        now = self._post.clock.monotonic()
        for part, _ in requests:
            part.due = now + silence  # until a reply says otherwise
        self._post.exchange.send(
            [
                Request(part.member.node, Envelope(self._post.run, *self._order.key, body), limit)
                for part, body in requests
            ]
        )

    def replies(self) -> Iterator[tuple[Part, Reply]]:
        """What has come for this attempt; the roster gets all else."""
        for reply in self._post.exchange.receive():
            envelope = reply.request.envelope
            part = self._parts.get(reply.request.node)
            if part is None or (envelope.round, envelope.attempt) != self._order.key:
                self._post.roster.note(reply)
            else:
                yield part, reply

    def reached(self, part: Part) -> None:
        """It has answered: earlier failures no longer count."""
        part.failures, part.unreachable_since = 0, None

    def ask_in_its_slot(self, part: Part) -> None:
        """To ask before is in vain; a site whose clock stood still meanwhile is asked again."""
        part.due = max(part.slot, self._post.clock.monotonic() + part.pause)

    def trouble(self, part: Part, answer: Refusal | Failure) -> str:
        """Why the site has to be dropped for its answer; "" where it is asked again later."""
        if isinstance(answer, Failure):
            part.failures += 1
            passes = not answer.final and part.failures <= RESENDS
            text = answer.explain()
            words = text[0].upper() + text[1:] + "."
        else:
            passes = answer.reason in TRY_AGAIN and self._patient(part)
            words = _words(answer)
        if passes:
            part.due = self._post.clock.monotonic() + part.pause
            part.pause = min(part.pause * 2, self._post.timing.longest_pause)
        return "" if passes else words

    def move(self, part: Part, state: PartState, epsilon: float | None = None) -> None:
        """Store that a site trains, or that its update has come."""
        key, store = self._order.key, self._post.store
        seconds = round(self.elapsed(), 2)
        if state is PartState.FINISHED:
            store.update_received(key, part.name, epsilon)
            self.emit("site-finished", part, epsilon=epsilon, seconds=seconds)
        else:
            store.part(key, part.name, state)
            self.emit("site-started", part, seconds=seconds)
            # By the site's clock it began before its answer came, so its slot has come by then.
            part.slot = self._post.clock.monotonic() + self._post.study.cohort.reply_slot
        part.state = state

    def drop(self, part: Part, reason: str, exchange: str = "") -> None:
        """Store that a site dropped out, and at which exchange; one that has finished stays so."""
        if part.state is not PartState.FINISHED:
            part.state = PartState.DROPPED
        part.dropped = reason
        self._post.store.part(self._order.key, part.name, part.state, reason, exchange)
        in_sum = part.state is PartState.FINISHED
        self.emit("site-dropped", part, reason=reason, exchange=exchange, in_sum=in_sum)

    def emit(self, event: str, part: Part | None = None, **facts: Fact) -> None:
        """An event of this attempt, of one site or of all."""
        if part is not None:
            facts = {"site": part.name, **facts}
        round_, attempt = self._order.key
        rounds = self._post.study.rounds
        self._post.events.emit(event, round=round_, rounds=rounds, attempt=attempt, **facts)

    def _patient(self, part: Part) -> bool:
        now = self._post.clock.monotonic()
        if part.unreachable_since is None:
            part.unreachable_since = now
        return now - part.unreachable_since < self._post.timing.patience


def _words(refusal: Refusal) -> str:
    if refusal.reason is not Reason.BUDGET:
        return explain(refusal.reason)
    return (
        f"It has used epsilon {refusal.spent:.3g} of {refusal.budget:.3g}; this round would make "
        f"it {refusal.would_be:.3g}. " + explain(Reason.BUDGET)
    )
