"""An attempt at a step of a pooled study: one request, sent twice, and the sum of the answers.

    start     SealedStep     every site of the cohort answers that it is at work
    ready     the same       at the slot, in the form READY: everybody's commitment to its vector
    vectors   the same       at the slot: the masked vectors, each charged before it left;
              SealedCollect  or, in the form READY, once all have committed

No site is asked for its vector before all of the cohort are at work, because a site that is missing
costs the sum, and the others' charges with it. Where vectors have been lost like that, or the
cohort is large, they are not asked for before all have one (`form_of`). The request is on disk
before it is sent, and so are the commitments before the first vector is asked for: another
ServerApp goes on with the same bytes.
"""

# Why: docs/adr/0045-sealed-rounds.md and 0050-dense-vectors-and-closed-runs.md

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from privacy.errors import SecAggError
from privacy.secagg.refusals import Aborted
from privacy.wire.checks import explain_check
from privacy.wire.sealed import OpenedSum, StepForm, sealed_size_limit
from server.events import ExchangeFinished
from server.live_session import LiveSession
from server.nodes import Attendee
from server.participants import Participants, TrainingOrder
from server.round_parts import RoundParts
from server.sealed_answers import StepAnswers
from server.sealed_tables import READY, START, VECTORS
from server.session_log import SessionLog
from server.step_store import StoredRequest
from server.tables import PartState
from strategies.chain import AdapterChain
from strategies.pooled import digests_of

# A site's own slot begins when the request reaches it. The question for the vector is as long on
# its way, so it may be sent this much after the first request and the agreed seconds.
LEAD_SECONDS: Final = 0.3
LARGEST_DIRECT: Final = 12
"""Sites of a cohort that is asked for its vectors at once: of more, one is missing too often."""

_PAUSE = 0.25  # before a site is asked again that is still at work
_POLL = 0.05  # between two looks for replies: a step has two exchanges beside its slot


def form_of(cohort: int, vectors_missed: int) -> StepForm:
    """How the vectors of `cohort` sites are collected in a run that has missed so many of them.

    READY costs an exchange a step. DIRECT costs the whole cohort a charge whenever one site is lost
    between its first answer and its vector: the run changes its ways when that has happened.
    """
    steady = cohort <= LARGEST_DIRECT and not vectors_missed
    return StepForm.DIRECT if steady else StepForm.READY


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
        log: SessionLog,
    ) -> None:
        self._log = log
        self._context = parts.context
        self._order = order
        self._live = live
        self._chain = chain
        self._participants = Participants(parts.context, order, parts.attendance, attendees)
        self._answers = StepAnswers(parts, order, live, self._participants, log)
        self._sent: dict[str, float] = {}  # when the request left, by the monotonic clock
        self._slot = 0.0  # Unix seconds
        self._lost = ""

    def run(self) -> StepOutcome:
        """Ask, wait for the slot, ask again; returns the outcome."""
        self._participants.open()
        try:
            if not self._dropped():
                self._request()
                self._exchange(START)
            if not self._dropped() and self._live.server.committing:
                self._exchange(READY)
                if not self._dropped():
                    self._keep_commitments()
            if not self._dropped():
                self._exchange(VECTORS)
            if not self._dropped():
                return self._opened()
        except (Aborted, SecAggError) as error:
            self._lost = self._explained(error)
        dropped = self._participants.dropped()
        everybody = {participant.name for participant in self._participants}
        doubted = self._answers.doubts == everybody
        return StepOutcome(None, self._finished(), dropped, self._lost, false_sum=doubted)

    def _dropped(self) -> bool:
        """Whether a site is out, and the sum with it."""
        return bool(self._participants.dropped())

    def _hopeless(self) -> bool:
        """Whether a site is out for a reason of its own."""
        return bool(self._participants.dropped().keys() - self._answers.doubts)

    def _request(self) -> None:
        """Make the request and keep it, or take up the one of an earlier ServerApp."""
        context, key, live = self._context, self._order.key, self._live
        kept = context.store.steps.request(key)
        if kept is not None:
            self._slot = kept.slot
            self._answers.restore()
            return
        names = tuple(sorted(participant.name for participant in self._participants))
        self._slot = context.clock.time() + context.study.cohort.reply_slot + LEAD_SECONDS
        step = live.server.begin(
            digests_of(self._chain),
            step=key[0],
            attempt=key[1],
            slot=round(1000 * self._slot),
            cohort=tuple(sorted(live.members[name] for name in names)),
            form=form_of(len(names), context.store.steps.missed()),
            log=self._log.fields(live, names),
        )
        context.store.narrow_cohort(context.study, key[0], names)
        request = StoredRequest(live.number, self._slot, names, step.encode())
        context.store.steps.keep_request(key, request, live.server.stored())

    def _keep_commitments(self) -> None:
        """On disk before a vector is asked for: another ServerApp asks for the same vectors."""
        self._context.store.steps.keep_state(self._live.number, self._live.server.stored())

    def _exchange(self, name: str) -> None:
        """Until everybody has answered, somebody is out, or time is up.

        Vectors are taken in also where one is missing: whoever sends one has charged it. Where a
        site says that the newest sum does not verify, the others are heard too.
        """
        clock, began = self._context.clock, self._context.clock.monotonic()
        seconds = self._context.study.secure_aggregation.exchange_deadline
        wait = self._prepare(name, began)
        ends, asked, late = wait + seconds, len(self._answers.awaited(name)), 0
        while self._answers.awaited(name) and not (name != VECTORS and self._hopeless()):
            self._send_due(name)
            for participant, reply in self._participants.replies():
                self._answers.note(participant, reply)
            if clock.monotonic() >= ends:
                late += self._drop_the_late(name, seconds)
            if self._answers.awaited(name):
                clock.sleep(self._pause(name))
        answered = asked - late - len(self._answers.awaited(name))
        self._told_of(name, clock.monotonic() - max(began, wait), asked, answered)

    def _prepare(self, name: str, now: float) -> float:
        """When the exchange begins in earnest: at once, or at the slot of the last site."""
        waiting = self._answers.awaited(name)
        for participant in waiting:
            participant.pause = _PAUSE
            self._participants.reached(participant)
        if name == START:
            return now
        if self._live.server.has_commitments:  # its slot is over
            due = now
        else:
            agreed = self._context.study.cohort.reply_slot + LEAD_SECONDS
            slot = now + self._slot - self._context.clock.time()
            due = max([slot, *(self._sent.get(p.name, now - agreed) + agreed for p in waiting)])
        for participant in waiting:
            participant.due = participant.slot = due
        return max(now, due)

    def _pause(self, name: str) -> float:
        """Until the next look for replies: at the slot at the latest."""
        poll = min(_POLL, self._context.timing.poll)
        now = self._context.clock.monotonic()
        due = min((p.due for p in self._answers.awaited(name)), default=now)
        return min(poll, due - now) if due > now else poll

    def _send_due(self, name: str) -> None:
        now, context = self._context.clock.monotonic(), self._context
        due = [one for one in self._answers.awaited(name) if one.due <= now]
        if not due:
            return
        for participant in due:
            self._answers.tell(participant.name)
            if name == START:
                self._sent[participant.name] = now
        bodies = self._live.server.requests()
        requests = [(p, bodies[self._live.members[p.name]]) for p in due]
        silence = min(
            context.timing.silence, context.study.secure_aggregation.exchange_deadline / 2
        )
        limit = sealed_size_limit(len(context.study.sites), self._live.lanes)
        self._participants.send(requests, silence + self._order.seconds, limit)

    def _drop_the_late(self, name: str, seconds: float) -> int:
        """Drop those who have not answered; how many they are."""
        when = {START: "to begin", READY: "to be ready"}.get(name, "for its vector")
        late = self._answers.awaited(name)
        for participant in late:
            said = f" It said: {participant.put_off}" if participant.put_off else ""
            reason = f"It missed the deadline of {seconds:g} s {when}.{said}"
            self._answers.drop(participant, reason, name)
        return len(late)

    def _told_of(self, name: str, seconds: float, asked: int, answered: int) -> None:
        self._context.store.add_seconds(f"exchange: {name}", seconds)
        self._context.emit(
            ExchangeFinished(
                *self._participants.place(),
                exchange=name,
                seconds=round(seconds, 2),
                asked=asked,
                answered=answered,
            )
        )

    def _opened(self) -> StepOutcome:
        opened, step = self._live.server.result(), self._live.server.current
        if step is not None:
            self._log.opened(self._live, step, opened)
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
