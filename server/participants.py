"""The sites in one attempt: who is asked what, who failed, who dropped out.

Both kinds of attempt (`server.masked`, `server.sealed_attempt`) build on this. Messages are
idempotent, so whatever is lost is sent again. A site that refuses, or stays unreachable for long,
is dropped, and that is stored before anything follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from model.layout import Layout
from privacy.study.manifest import Study
from privacy.wire.bodies import Body, Refusal, StartTraining
from privacy.wire.codec import Vector
from privacy.wire.envelope import Envelope
from server.attendance import Attendance
from server.context import RunContext
from server.events import SiteDropped, SiteFinished, SiteStarted
from server.life import RunStopped
from server.messages import FlowerFailure, Reply, Request
from server.nodes import TRY_AGAIN, Attendee, refused_words
from server.tables import PartState, Wish
from strategies.base import Mean

RESENDS = 2  # after transient failures of Flower's
BYTES_A_SECOND = 1_000_000  # of the slowest connection that an adapter is expected to cross
NO_ANSWER = "Its reply does not answer what it was asked."


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """What the sites are asked: to train from `adapter` [P], of this `layout`, in this attempt."""

    round: int
    attempt: int
    adapter: Vector
    layout: Layout

    @property
    def key(self) -> tuple[int, int]:
        """(round, attempt)."""
        return self.round, self.attempt

    @property
    def seconds(self) -> float:
        """How long a vector of the adapter's size takes over a slow connection."""
        return 4 * self.adapter.size / BYTES_A_SECOND

    def message(self, study: Study) -> StartTraining:
        """The order as it is sent."""
        return StartTraining(study.digest(), self.layout.fingerprint(), self.adapter)


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """The result of an attempt: the mean update of `sites`, float64 [P], or why there is none."""

    mean: Mean | None = None
    sites: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(slots=True)
class Participant:
    """A site in the attempt. Times are monotonic."""

    attendee: Attendee
    pause: float
    state: PartState = PartState.STARTING
    due: float = 0.0  # when to send its next message
    slot: float = 0.0  # when its update may leave; asked earlier, it answers Running
    failures: int = 0
    unreachable_since: float | None = None
    dropped: str = ""
    put_off: str = ""  # why it said last that it cannot begin yet

    @property
    def name(self) -> str:
        """The site's name."""
        return self.attendee.name

    @property
    def active(self) -> bool:
        """Whether its update is still to come."""
        return self.state in (PartState.STARTING, PartState.TRAINING)


class Participants:
    """All participants of one attempt, and the messages to and from them."""

    def __init__(
        self,
        context: RunContext,
        order: TrainingOrder,
        attendance: Attendance,
        attendees: Sequence[Attendee],
    ) -> None:
        self._context = context
        self._order = order
        self._attendance = attendance
        first = context.timing.first_pause
        self._by_node = {attendee.node: Participant(attendee, first) for attendee in attendees}
        self._begin = self._looked = context.clock.monotonic()

    def open(self) -> None:
        """Store who is asked, and drop those whose SuperNode is not connected."""
        self._context.store.open_attempt(
            *self._order.key, [participant.name for participant in self]
        )
        online = {attendee.node for attendee in self._attendance.present()}
        for participant in self:
            if participant.attendee.node not in online:
                self.drop(participant, "Its SuperNode is not connected.")

    def __iter__(self) -> Iterator[Participant]:
        return iter(self._by_node.values())

    def active(self) -> list[Participant]:
        """Those whose update is still to come."""
        return [participant for participant in self if participant.active]

    def dropped(self) -> dict[str, str]:
        """Why each site that dropped out did so, by name."""
        return {
            participant.name: participant.dropped for participant in self if participant.dropped
        }

    def elapsed(self) -> float:
        """Seconds since the attempt began."""
        return self._context.clock.monotonic() - self._begin

    def send(
        self, requests: Sequence[tuple[Participant, Body]], silence: float, limit: int
    ) -> None:
        """Send `requests`; without a reply within `silence` seconds each is due again."""
        if not requests:
            return
        now = self._context.clock.monotonic()
        for participant, _ in requests:
            participant.due = now + silence  # until a reply says otherwise
        self._context.exchange.send(
            [
                Request(
                    participant.attendee.node,
                    Envelope(self._context.run, *self._order.key, body),
                    limit,
                )
                for participant, body in requests
            ]
        )

    def replies(self) -> Iterator[tuple[Participant, Reply]]:
        """The replies to this attempt; all others are for the attendance. Raises `RunStopped`."""
        self._obey()
        for reply in self._context.exchange.receive():
            envelope = reply.request.envelope
            participant = self._by_node.get(reply.request.node)
            if participant is None or (envelope.round, envelope.attempt) != self._order.key:
                self._attendance.note(reply)
            else:
                yield participant, reply

    def _obey(self) -> None:
        """Raise `RunStopped` if the operator cannot even wait for the attempt to end."""
        now, context = self._context.clock.monotonic(), self._context
        if now < self._looked + context.timing.wish:
            return
        self._looked = now
        if context.store.wish() is Wish.STOP_NOW:
            raise RunStopped("The operator has stopped the run at once.")

    def reached(self, participant: Participant) -> None:
        """It has answered: earlier failures no longer count."""
        participant.failures, participant.unreachable_since = 0, None

    def ask_in_its_slot(self, participant: Participant) -> None:
        """Asking earlier is pointless; if its clock stood still, ask again after a pause."""
        participant.due = max(participant.slot, self._context.clock.monotonic() + participant.pause)

    def trouble(self, participant: Participant, answer: Refusal | FlowerFailure) -> str:
        """Why the site has to be dropped for its answer; "" if it is asked again later."""
        if isinstance(answer, FlowerFailure):
            participant.failures += 1
            passes = not answer.final and participant.failures <= RESENDS
            text = answer.explain()
            words = text[0].upper() + text[1:] + "."
        else:
            passes = answer.reason in TRY_AGAIN and self._patient(participant)
            words = refused_words(answer)
            participant.put_off = words if passes else ""
        if passes:
            participant.due = self._context.clock.monotonic() + participant.pause
            participant.pause = min(participant.pause * 2, self._context.timing.longest_pause)
        return "" if passes else words

    def move(
        self, participant: Participant, state: PartState, epsilon: float | None = None
    ) -> None:
        """Store that a site trains, or that its update has arrived."""
        context, key, site = self._context, self._order.key, participant.name
        seconds = round(self.elapsed(), 2)
        if state is PartState.FINISHED:
            context.store.update_received(key, site, epsilon)
            context.emit(SiteFinished(*self.place(), site, epsilon, seconds))
        else:
            context.store.part(key, site, state)
            context.emit(SiteStarted(*self.place(), site, seconds))
            # The site began before its answer arrived here, so its slot comes no later than this.
            participant.slot = context.clock.monotonic() + context.study.cohort.reply_slot
        participant.state = state

    def drop(self, participant: Participant, reason: str, exchange: str = "") -> None:
        """Store that a site dropped out, and at which exchange; a finished one stays finished."""
        if participant.state is not PartState.FINISHED:
            participant.state = PartState.DROPPED
        participant.dropped = reason
        self._context.store.part(
            self._order.key, participant.name, participant.state, reason, exchange
        )
        in_sum = participant.state is PartState.FINISHED
        self._context.emit(
            SiteDropped(
                *self.place(),
                site=participant.name,
                reason=reason,
                exchange=exchange,
                in_sum=in_sum,
            )
        )

    def place(self) -> tuple[int, int, int]:
        """(round, number of rounds, attempt): the first fields of every event of an attempt."""
        return self._order.round, self._context.study.rounds, self._order.attempt

    def _patient(self, participant: Participant) -> bool:
        now = self._context.clock.monotonic()
        if participant.unreachable_since is None:
            participant.unreachable_since = now
        return now - participant.unreachable_since < self._context.timing.patience
