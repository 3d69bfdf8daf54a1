"""An attempt at a step of a pooled study: one request, sent twice, and the sum of the answers.

    start     SealedStep   every site of the cohort answers that it is at work
    vectors   the same     at the slot: the masked vectors, each charged before it left

No site is asked for its vector before all of the cohort are at work, because a site that is missing
costs the sum, and the others' charges with it. The request is on disk before it is sent, and each
vector as soon as it is here: another ServerApp goes on with the same bytes.
"""

# Why: docs/adr/0045-sealed-rounds.md

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from privacy.errors import SecAggError
from privacy.secagg.refusals import Aborted, Refused
from privacy.wire.bodies import Body, Refusal, Running
from privacy.wire.checks import Check, explain_check
from privacy.wire.reasons import Reason
from privacy.wire.sealed import OpenedSum, Sealed, SealedStep, sealed_size_limit
from privacy.wire.secagg import COORDINATOR, SecAggRefusal
from server.events import ExchangeFinished
from server.messages import FlowerFailure, Reply
from server.nodes import Attendee, refused_words
from server.participants import NO_ANSWER, Participant, Participants, TrainingOrder
from server.round_parts import RoundParts
from server.sealed_tables import START, VECTORS
from server.sessions import LiveSession
from server.step_store import StoredRequest
from server.tables import PartState
from strategies.chain import AdapterChain
from strategies.pooled import digests_of

# A site's own slot begins when the request reaches it. The question for the vector is as long on
# its way, so it may be sent this much after the first request and the agreed seconds.
LEAD_SECONDS = 0.3
_PAUSE = 0.25  # before a site is asked again that is still at work
_POLL = 0.05  # between two looks for replies: a step has two exchanges beside its slot
_SUMS_TOLD = 3  # how often a site is told in one attempt what sums it lacks
# With these, a site says that it takes no step of this session any more.
_SESSION_OVER = frozenset(
    {
        *(Check.NO_SESSION, Check.EXPIRED, Check.NO_KEYS, Check.OWN_KEY),
        *(Check.SECOND_KEYS, Check.GROUP),
    }
)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What an attempt opened, and the sites in it; or why it opened nothing."""

    opened: OpenedSum | None = None
    sites: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    false_sum: bool = False  # all of the cohort say that the newest opened sum does not verify


class SealedAttempt:
    """One attempt of the sites `attendees` in the session `live`. Call `run` once."""

    def __init__(
        self,
        parts: RoundParts,
        order: TrainingOrder,
        live: LiveSession,
        attendees: Sequence[Attendee],
        chain: AdapterChain,
    ) -> None:
        self._parts = parts
        self._context = parts.context
        self._order = order
        self._live = live
        self._chain = chain
        self._participants = Participants(parts.context, order, parts.attendance, attendees)
        self._told: dict[str, int] = {}
        self._sent: dict[str, float] = {}  # when the request left, by the monotonic clock
        self._slot = 0.0  # Unix seconds
        self._ends = math.inf  # of the exchange under way, by the monotonic clock
        self._lost = ""
        self._doubts: set[str] = set()  # who says that the newest opened sum does not verify

    def run(self) -> StepOutcome:
        """Ask, wait for the slot, ask again; returns the outcome."""
        self._participants.open()
        try:
            if not self._dropped():
                self._request()
                self._exchange(START)
            if not self._dropped():
                self._exchange(VECTORS)
            if not self._dropped():
                return self._opened()
        except (Aborted, SecAggError) as error:
            self._lost = self._explained(error)
        dropped = self._participants.dropped()
        everybody = {participant.name for participant in self._participants}
        return StepOutcome(
            None, self._finished(), dropped, self._lost, false_sum=self._doubts == everybody
        )

    def _dropped(self) -> bool:
        """Whether a site is out, and the sum with it."""
        return bool(self._participants.dropped())

    def _hopeless(self) -> bool:
        """Whether a site is out for a reason of its own."""
        return bool(self._participants.dropped().keys() - self._doubts)

    def _request(self) -> None:
        """Make the request and keep it, or take up the one of an earlier ServerApp."""
        context, key, live = self._context, self._order.key, self._live
        kept = context.store.steps.request(key)
        if kept is not None:
            self._slot = kept.slot
            self._restore()
            return
        names = tuple(sorted(participant.name for participant in self._participants))
        self._slot = context.clock.time() + context.study.cohort.reply_slot + LEAD_SECONDS
        step = live.server.begin(
            digests_of(self._chain),
            step=key[0],
            attempt=key[1],
            slot=round(1000 * self._slot),
            cohort=tuple(sorted(live.members[name] for name in names)),
        )
        context.store.narrow_cohort(context.study, key[0], names)
        request = StoredRequest(live.number, self._slot, names, step.encode())
        context.store.steps.keep_request(key, request, live.server.stored())

    def _restore(self) -> None:
        """Take in the vectors that an earlier ServerApp has stored."""
        by_name = {participant.name: participant for participant in self._participants}
        for name, data in self._context.store.steps.vectors(self._order.key).items():
            self._live.server.receive(self._live.members[name], Sealed.decode(data))
            spent = self._parts.attendance.spent(name)
            self._participants.move(by_name[name], PartState.FINISHED, spent)

    def _exchange(self, name: str) -> None:
        """Until everybody has answered, somebody is out, or time is up.

        Vectors are taken in also where one is missing: whoever sends one has charged it. Where a
        site says that the newest sum does not verify, the others are heard too.
        """
        clock, began = self._context.clock, self._context.clock.monotonic()
        seconds = self._context.study.secure_aggregation.exchange_deadline
        wait = self._prepare(name, began)
        self._ends = wait + seconds
        asked = len(self._open(name))
        while self._open(name) and not (name == START and self._hopeless()):
            self._send_due(name)
            for participant, reply in self._participants.replies():
                self._note(participant, reply)
            if clock.monotonic() >= self._ends:
                self._drop_the_late(name, seconds)
            if self._open(name):
                clock.sleep(self._pause(name))
        self._told_of(name, clock.monotonic() - max(began, wait), asked)

    def _prepare(self, name: str, now: float) -> float:
        """When the exchange begins in earnest: at once, or at the slot of the last site."""
        waiting = self._open(name)
        for participant in waiting:
            participant.pause = _PAUSE
            self._participants.reached(participant)
        if name == START:
            return now
        agreed = self._context.study.cohort.reply_slot + LEAD_SECONDS
        slot = now + self._slot - self._context.clock.time()
        due = max([slot, *(self._sent.get(p.name, now - agreed) + agreed for p in waiting)])
        for participant in waiting:
            participant.due = participant.slot = due
        return max(now, due)

    def _open(self, name: str) -> list[Participant]:
        """Those whose answer to this exchange is still to come."""
        if name == START:
            return [p for p in self._participants if p.state is PartState.STARTING]
        return self._participants.active()

    def _pause(self, name: str) -> float:
        """Until the next look for replies: at the slot at the latest."""
        poll = min(_POLL, self._context.timing.poll)
        now = self._context.clock.monotonic()
        due = min((p.due for p in self._open(name)), default=now)
        return min(poll, due - now) if due > now else poll

    def _send_due(self, name: str) -> None:
        now, context = self._context.clock.monotonic(), self._context
        due = [participant for participant in self._open(name) if participant.due <= now]
        if not due:
            return
        for participant in due:
            self._tell(participant.name)
            if name == START:
                self._sent[participant.name] = now
        bodies = self._live.server.requests()
        requests = [(p, bodies[self._live.members[p.name]]) for p in due]
        silence = min(
            context.timing.silence, context.study.secure_aggregation.exchange_deadline / 2
        )
        self._participants.send(requests, silence + self._order.seconds, self._limit())

    def _limit(self) -> int:
        return sealed_size_limit(len(self._context.study.sites), self._live.lanes)

    def _tell(self, name: str) -> None:
        """Put the sums that the site may not know yet into its request."""
        known = self._live.known.get(name, self._order.round - 2)
        sums = self._context.store.steps.sums(after=max(0, known))
        opened = tuple(OpenedSum.decode(total) for _, _, total in sums)
        self._live.server.tell(self._live.members[name], opened)

    def _note(self, participant: Participant, reply: Reply) -> None:
        asked = reply.request.envelope.body
        if not participant.active or not isinstance(asked, SealedStep):
            return
        match reply.answer:
            case Running() as running:
                self._live.server.receive(self._live.members[participant.name], running)
                self._at_work(participant)
            case Refusal(reason=Reason.MISSING_SUMS, newest_run=known):
                self._lacks_sums(participant, known)
            case Refusal(reason=Reason.NOT_NEWER) as refusal:
                # It has journalled the attempt and does not know it: its agent was restarted.
                self._live.broken = f"{participant.name} has lost its keys."
                self._drop(participant, refused_words(refusal))
            case Refusal() | FlowerFailure() as answer:
                reason = self._participants.trouble(participant, answer)
                if reason:
                    self._drop(participant, reason)
            case SecAggRefusal() as refusal:
                self._refused(participant, refusal)
            case answer:
                self._take(participant, answer)

    def _at_work(self, participant: Participant) -> None:
        self._live.known[participant.name] = self._order.round - 1
        self._participants.reached(participant)
        if participant.state is PartState.STARTING:
            self._participants.move(participant, PartState.TRAINING)
        else:
            self._participants.ask_in_its_slot(participant)

    def _lacks_sums(self, participant: Participant, known: int) -> None:
        """It holds `known` of the sums: the same request, with the others."""
        told = self._told.get(participant.name, 0) + 1
        self._told[participant.name] = told
        if told > _SUMS_TOLD or known >= self._order.round - 1:
            self._drop(participant, "It does not take the opened sums that it lacks.")
            return
        self._live.known[participant.name] = known
        participant.due = self._context.clock.monotonic()

    def _take(self, participant: Participant, answer: Body) -> None:
        server, site = self._live.server, self._live.members[participant.name]
        try:
            server.receive(site, answer)
        except Refused as refused:
            wrong = refused.check is Check.OUT_OF_ORDER
            self._drop(participant, NO_ANSWER if wrong else explain_check(refused.check))
            return
        self._context.store.steps.keep_vector(self._order.key, participant.name, answer.encode())
        self._live.known[participant.name] = self._order.round - 1
        self._participants.reached(participant)
        self._parts.attendance.heard(participant.attendee.node)
        joined = self._parts.attendance.spent(participant.name)
        spent = self._parts.spending.released(participant.name, joined)
        self._participants.move(participant, PartState.FINISHED, spent)

    def _refused(self, participant: Participant, refusal: SecAggRefusal) -> None:
        words = explain_check(refusal.check)
        if refusal.check is Check.FALSE_SUM:
            self._doubts.add(participant.name)
        if refusal.check in _SESSION_OVER:
            lost = refusal.check is Check.NO_SESSION
            how = "has lost its keys" if lost else "cannot go on in it"
            self._live.broken = f"{participant.name} {how}."
        if refusal.check is Check.NO_VECTOR:  # it has charged, and has nothing to send
            joined = self._parts.attendance.spent(participant.name)
            self._parts.spending.released(participant.name, joined)
        if refusal.site != COORDINATOR:
            words = f"{', '.join(self._live.names([refusal.site]))}: {words}"
        self._drop(participant, f"It refused. {words}")

    def _drop(self, participant: Participant, reason: str) -> None:
        starting = participant.state is PartState.STARTING
        self._participants.drop(participant, reason, START if starting else VECTORS)

    def _drop_the_late(self, name: str, seconds: float) -> None:
        for participant in self._open(name):
            when = "to begin" if name == START else "for its vector"
            self._drop(participant, f"It missed the deadline of {seconds:g} s {when}.")

    def _told_of(self, name: str, seconds: float, asked: int) -> None:
        self._context.store.add_seconds(f"exchange: {name}", seconds)
        self._context.emit(
            ExchangeFinished(
                *self._participants.place(),
                exchange=name,
                seconds=round(seconds, 2),
                asked=asked,
                answered=asked - len(self._open(name)),
            )
        )

    def _opened(self) -> StepOutcome:
        opened = self._live.server.result()
        return StepOutcome(opened, self._live.names(opened.cohort))

    def _finished(self) -> tuple[str, ...]:
        done = (p.name for p in self._participants if p.state is PartState.FINISHED)
        return tuple(sorted(done))

    def _explained(self, error: Aborted | SecAggError) -> str:
        if not isinstance(error, Aborted):
            return f"{error.message} {error.hint}".strip()
        who = ", ".join(self._live.names(error.sites))
        named = f" ({who})" if who else ""
        return f"The step opened nothing{named}. {explain_check(error.check)}"
