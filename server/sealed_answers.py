"""What each site has answered in an attempt at a step, and what follows for it.

Nothing here waits or knows the time of the slot: that is `server.sealed_attempt`'s. A vector is on
disk as soon as it is here.
"""

# Why: docs/adr/0045-sealed-rounds.md

from __future__ import annotations

from privacy.secagg.refusals import Refused
from privacy.wire.bodies import Body, Refusal, Running
from privacy.wire.checks import Check, explain_check
from privacy.wire.reasons import Reason
from privacy.wire.sealed import OpenedSum, Sealed, SealedCollect, SealedReady, SealedStep
from privacy.wire.secagg import COORDINATOR, SecAggRefusal
from server.live_session import LiveSession
from server.messages import FlowerFailure, Reply
from server.nodes import refused_words
from server.participants import NO_ANSWER, Participant, Participants, TrainingOrder
from server.round_parts import RoundParts
from server.sealed_tables import READY, START, VECTORS
from server.session_log import SessionLog
from server.tables import PartState

_SUMS_TOLD = 3  # how often a site is told in one attempt what sums it lacks
# With these, a site says that it takes no step of this session any more.
_SESSION_OVER = frozenset(
    {
        *(Check.NO_SESSION, Check.EXPIRED, Check.NO_KEYS, Check.OWN_KEY),
        *(Check.SECOND_KEYS, Check.GROUP),
    }
)


class StepAnswers:
    """The answers of one attempt, in the session `live`."""

    def __init__(
        self,
        parts: RoundParts,
        order: TrainingOrder,
        live: LiveSession,
        participants: Participants,
        log: SessionLog,
    ) -> None:
        self._log = log
        self._parts = parts
        self._context = parts.context
        self._order = order
        self._live = live
        self._participants = participants
        self._told: dict[str, int] = {}
        self._ready: set[str] = set()  # who has committed to its vector
        self._doubts: set[str] = set()  # who says that the newest opened sum does not verify

    @property
    def doubts(self) -> frozenset[str]:
        """Who says that the newest opened sum does not verify."""
        return frozenset(self._doubts)

    def awaited(self, exchange: str) -> list[Participant]:
        """Those whose answer to this exchange is still to come."""
        if exchange == START:
            return [p for p in self._participants if p.state is PartState.STARTING]
        waiting = self._participants.active()
        return [p for p in waiting if p.name not in self._ready] if exchange == READY else waiting

    def tell(self, name: str) -> None:
        """Put the sums that the site may not know yet into its request."""
        known = self._live.known.get(name, self._order.round - 2)
        sums = self._context.store.steps.sums(after=max(0, known))
        opened = tuple(OpenedSum.decode(total) for _, _, total in sums)
        self._live.server.tell(self._live.members[name], opened)

    def restore(self) -> None:
        """Take in the vectors that an earlier ServerApp has stored."""
        by_name = {participant.name: participant for participant in self._participants}
        for name, data in self._context.store.steps.vectors(self._order.key).items():
            sealed = Sealed.decode(data)
            self._live.server.receive(self._live.members[name], sealed)
            self._log.sent(name, sealed)
            spent = self._parts.attendance.spent(name)
            self._participants.move(by_name[name], PartState.FINISHED, spent)

    def note(self, participant: Participant, reply: Reply) -> None:
        """One reply."""
        asked = reply.request.envelope.body
        if not participant.active or not isinstance(asked, SealedStep | SealedCollect):
            return
        match reply.answer:
            case Running() as running:
                self._live.server.receive(self._live.members[participant.name], running)
                self._at_work(participant)
            case Refusal(reason=Reason.MISSING_SUMS, newest_run=known):
                self._lacks_sums(participant, known)
            case Refusal(reason=Reason.NOT_NEWER | Reason.NOT_STARTED) as refusal:
                # It has journalled the attempt and does not know it: its agent was restarted.
                self._live.broken = f"{participant.name} has lost its keys."
                self.drop(participant, refused_words(refusal))
            case Refusal(reason=Reason.NO_UPDATE) as refusal:
                self._charged_in_vain(participant)
                self.drop(participant, refused_words(refusal), VECTORS)
            case Refusal() | FlowerFailure() as answer:
                reason = self._participants.trouble(participant, answer)
                if reason:
                    self._parts.attendance.doubt(participant.attendee.node)
                    self.drop(participant, reason)
            case SecAggRefusal() as refusal:
                self._refused(participant, refusal)
            case answer:
                self._take(participant, answer)

    def drop(self, participant: Participant, reason: str, exchange: str = "") -> None:
        """The site is out; by itself the exchange is the one that it has not answered."""
        if not exchange:
            committing = self._live.server.committing and participant.name not in self._ready
            exchange = READY if committing else VECTORS
            if participant.state is PartState.STARTING:
                exchange = START
        self._participants.drop(participant, reason, exchange)

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
            self.drop(participant, "It does not take the opened sums that it lacks.")
            return
        self._live.known[participant.name] = known
        participant.due = self._context.clock.monotonic()

    def _take(self, participant: Participant, answer: Body) -> None:
        server, site = self._live.server, self._live.members[participant.name]
        try:
            server.receive(site, answer)
        except Refused as refused:
            wrong = refused.check is Check.OUT_OF_ORDER
            self.drop(participant, NO_ANSWER if wrong else explain_check(refused.check))
            return
        self._live.known[participant.name] = self._order.round - 1
        self._participants.reached(participant)
        self._parts.attendance.heard(participant.attendee.node)
        if isinstance(answer, SealedReady):
            self._committed(participant)
            return
        if isinstance(answer, Sealed):
            self._log.sent(participant.name, answer)
        self._context.store.steps.keep_vector(self._order.key, participant.name, answer.encode())
        joined = self._parts.attendance.spent(participant.name)
        spent = self._parts.spending.released(participant.name, joined)
        self._participants.move(participant, PartState.FINISHED, spent)

    def _committed(self, participant: Participant) -> None:
        """Its vector is made and stays with it; nothing is charged yet."""
        self._ready.add(participant.name)
        if participant.state is PartState.STARTING:  # asked by a new ServerApp, after its slot
            self._participants.move(participant, PartState.TRAINING)

    def _refused(self, participant: Participant, refusal: SecAggRefusal) -> None:
        words = explain_check(refusal.check)
        if refusal.check is Check.SLOT and participant.put_off:
            words = f"Its slot had passed when it could begin. It said: {participant.put_off}"
        if refusal.check is Check.FALSE_SUM:
            self._doubts.add(participant.name)
        if refusal.check in _SESSION_OVER:
            lost = refusal.check is Check.NO_SESSION
            how = "has lost its keys" if lost else "cannot go on in it"
            self._live.broken = f"{participant.name} {how}."
        charged = refusal.check is Check.NO_VECTOR
        if charged:
            self._charged_in_vain(participant)
        if refusal.site != COORDINATOR:
            words = f"{', '.join(self._live.names([refusal.site]))}: {words}"
        self.drop(participant, f"It refused. {words}", VECTORS if charged else "")

    def _charged_in_vain(self, participant: Participant) -> None:
        """It has nothing to send, and has charged that like a vector."""
        joined = self._parts.attendance.spent(participant.name)
        self._parts.spending.released(participant.name, joined)
