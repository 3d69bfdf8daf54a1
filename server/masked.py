"""A masked attempt: the server learns the sum of the sites' updates and nothing else.

The exchanges are those of `privacy.secagg.server`, whose table says who is asked what. Each site
is sent five messages, `Deliver` when its reply slot has come:

    advertise      TrainMasked      keys, and training begins
    share          Advertisements   shares, while the site trains
    masked input   Deliver          the masked update, once there is one
    consistency    Survivors        a signature over who is in the sum
    unmask         UnmaskRequest    one share for each site

An exchange ends when everybody has answered, when too few are left, or at its deadline: the
round's for the masked input, `exchange_deadline` for the others. A site that has not answered by
then has dropped out, and is named together with the exchange. A site that falls silent after its
masked input has arrived is still in the sum.

The state machine is in memory only. An attempt during which the server ends is therefore lost, and
the next one has new keys; what the sites masked for it is never used.
"""

# Why: docs/adr/0012-masked-rounds.md

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from privacy.errors import SecAggError
from privacy.secagg.offer import encoding_of, threshold
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.server import SecAggServer, Stage
from privacy.study.agreement import (
    cohort_of,
    model_digest,
    offer_seconds,
    shares_of,
    terms_of,
)
from privacy.wire.bodies import Body, Refusal, Running
from privacy.wire.checks import Check, explain_check
from privacy.wire.offer import VERSION, Offer, TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import COORDINATOR, SecAggRefusal, masked_size_limit
from server.attendance import Attendance
from server.context import RunContext
from server.events import ExchangeFinished
from server.messages import FlowerFailure, Reply
from server.nodes import Attendee
from server.participants import (
    NO_ANSWER,
    AttemptOutcome,
    Participant,
    Participants,
    TrainingOrder,
)
from server.spending import Spending
from server.tables import PartState
from server.witness import StoredWitness
from strategies.base import Mean

FALSE_SHARES = (
    "Its shares contradict the others'. Ask the site whether somebody else has its key, and leave "
    "the site out."
)
_LATE = ("consistency", "unmask")  # exchanges that only t sites have to answer
# A message without an answer is sent again after half the time of the exchange, no sooner: each
# costs the site a client process, which slows a slow site down further.
_SENT_IN_TIME = 2


class MaskedAttempt:
    """Runs one order with the sites that are connected. Call `run` once."""

    def __init__(
        self,
        context: RunContext,
        order: TrainingOrder,
        attendance: Attendance,
        attendees: Sequence[Attendee],
        spending: Spending,
    ) -> None:
        self._context = context
        self._order = order
        self._attendance = attendance
        self._spending = spending
        self._roster = context.consortium
        self._participants = Participants(context, order, attendance, attendees)
        self._start = order.message(context.study)
        self._sites: dict[int, Participant] = {}
        self._asked: Mapping[int, Body] = {}  # what the exchange under way asks of each site
        self._answered = 0

    def run(self) -> AttemptOutcome:
        """Go through the exchanges, and return the outcome."""
        self._participants.open()
        names = [participant.name for participant in self._participants.active()]
        if len(names) < self._context.study.smallest_cohort:
            return self._failed()
        try:
            self._server = self._machine(names)
            while self._server.stage is not Stage.DONE:
                self._exchange()
            return self._mean()
        except Aborted as aborted:
            return self._failed(self._explained(aborted))
        except SecAggError as error:  # no sum, or an offer that nobody would accept
            return self._failed(f"{error.message} {error.hint}".strip())

    def _machine(self, names: Sequence[str]) -> SecAggServer:
        context, (number, attempt) = self._context, self._order.key
        by_name = {participant.name: participant for participant in self._participants.active()}
        cohort = cohort_of(self._roster, list(names))
        for site in cohort:
            member = self._roster.member(site)
            if member is not None:
                self._sites[site] = by_name[member.name]
        offer = Offer(
            version=VERSION,
            run=context.run,
            round=number,
            attempt=attempt,
            roster_digest=self._roster.digest(),
            model_digest=model_digest(context.study, self._start),
            terms=terms_of(context.study, self._order.layout.parameters),
            threshold=threshold(len(cohort)),
            expiry=math.floor(context.clock.time()) + offer_seconds(context.study),
            cohort=cohort,
        )
        witness = StoredWitness(context.store)
        return SecAggServer(self._roster, offer, context.study.smallest_cohort, witness)

    def _exchange(self) -> None:
        """One exchange with every site that the machine waits for; then advance to the next one."""
        server, clock = self._server, self._context.clock
        stage, began, asked = server.stage, clock.monotonic(), len(server.waiting)
        self._open(began)
        allowed = self._seconds(stage)
        while True:
            self._send_due()
            for participant, reply in self._participants.replies():
                self._note(participant, reply)
            if not self._worth_waiting():
                break
            if clock.monotonic() >= began + allowed:
                self._drop_the_late(allowed)
                break
            clock.sleep(self._context.timing.poll)
        self._told(stage, clock.monotonic() - began, asked)
        server.deadline()

    def _open(self, now: float) -> None:
        requests = dict(self._server.requests())
        if self._server.stage in (Stage.ADVERTISE, Stage.CONSISTENCY):  # it names the cohort, or U3
            names = [self._sites[site].name for site in requests]
            self._context.store.narrow_cohort(self._context.study, self._order.round, names)
        if self._server.stage is Stage.ADVERTISE:
            requests = dict.fromkeys(requests, TrainMasked(self._server.offer(), self._start))
        for site in requests:
            participant = self._sites[site]
            # Asked earlier, a site could only answer that it is running.
            participant.due = participant.slot if self._server.stage is Stage.INPUT else now
            participant.pause = self._context.timing.first_pause
            self._participants.reached(participant)
        self._asked, self._answered = requests, 0

    def _seconds(self, stage: Stage) -> float:
        """How long the exchange may take."""
        left = self._context.study.cohort.round_deadline - self._participants.elapsed()
        alone = self._context.study.secure_aggregation.exchange_deadline
        match stage:
            case Stage.INPUT:
                return left
            case Stage.ADVERTISE:
                return min(left, alone + self._order.seconds)
            case _:
                return alone

    def _waiting(self) -> list[tuple[int, Participant]]:
        return [(site, self._sites[site]) for site in sorted(self._server.waiting)]

    def _worth_waiting(self) -> bool:
        waiting, offer = len(self._server.waiting), self._server.offer()
        needed = offer.threshold
        if self._server.stage.value not in _LATE:
            needed = max(needed, self._context.study.smallest_cohort)
        return waiting > 0 and self._answered + waiting >= needed

    def _send_due(self) -> None:
        now, stage = self._context.clock.monotonic(), self._server.stage
        due = [
            (participant, self._asked[site])
            for site, participant in self._waiting()
            if participant.due <= now
        ]
        alone = self._context.study.secure_aggregation.exchange_deadline
        silence = min(self._context.timing.silence, alone / _SENT_IN_TIME)
        if stage in (Stage.ADVERTISE, Stage.INPUT):
            silence += self._order.seconds
        offer = self._server.offer()
        limit = masked_size_limit(len(offer.cohort), encoding_of(offer).lanes, 0)
        self._participants.send(due, silence, limit)

    def _note(self, participant: Participant, reply: Reply) -> None:
        waited_for = {id(other): site for site, other in self._waiting()}
        site = waited_for.get(id(participant))
        if site is None or reply.request.envelope.body is not self._asked[site]:
            return  # it came too late, or twice
        match reply.answer:
            case Running() if self._server.stage is Stage.INPUT:
                self._participants.reached(participant)
                self._participants.ask_in_its_slot(participant)
            case Refusal() | FlowerFailure() as answer:
                if isinstance(answer, Refusal) and answer.reason is Reason.NO_UPDATE:
                    self._charged(participant)
                reason = self._participants.trouble(participant, answer)
                if reason:
                    self._attendance.doubt(participant.attendee.node)
                    self._drop(site, reason)
            case SecAggRefusal() as refusal:
                self._drop(site, self._refused(refusal))
            case answer:
                self._take(site, answer)

    def _take(self, site: int, answer: Body) -> None:
        stage, participant = self._server.stage, self._sites[site]
        try:
            self._server.receive(site, answer)
        except Refused as refused:
            wrong = refused.check is Check.OUT_OF_ORDER
            self._drop(site, NO_ANSWER if wrong else explain_check(refused.check))
            return
        self._answered += 1
        self._participants.reached(participant)
        if stage is Stage.ADVERTISE:
            self._participants.move(participant, PartState.TRAINING)
        elif stage is Stage.INPUT:
            self._participants.move(participant, PartState.FINISHED, self._charged(participant))

    def _charged(self, participant: Participant) -> float | None:
        """The site has reported on its training, so it has charged it; its epsilon now."""
        joined = self._attendance.spent(participant.name)
        return self._spending.released(participant.name, joined)

    def _drop(self, site: int, reason: str) -> None:
        stage = self._server.stage
        self._server.drop(site)
        self._participants.drop(self._sites[site], reason, stage.value)

    def _drop_the_late(self, allowed: float) -> None:
        reason = f"It missed the deadline of {round(max(0.0, allowed), 1):g} s for this exchange."
        if self._server.stage is Stage.INPUT:
            seconds = self._context.study.cohort.round_deadline
            reason = f"It missed the round's deadline of {seconds:g} s."
        for site, _ in self._waiting():
            self._drop(site, reason)

    def _told(self, stage: Stage, seconds: float, asked: int) -> None:
        self._context.store.add_seconds(f"exchange: {stage.value}", seconds)
        self._context.emit(
            ExchangeFinished(
                *self._participants.place(),
                exchange=stage.value,
                seconds=round(seconds, 2),
                asked=asked,
                answered=self._answered,
            )
        )

    def _mean(self) -> AttemptOutcome:
        outcome = self._server.result()
        for site in outcome.false:
            self._participants.drop(self._sites[site], FALSE_SHARES, Stage.UNMASK.value)
        shares = shares_of(self._context.study)
        names = tuple(self._sites[site].name for site in outcome.survivors)
        total = encoding_of(self._server.offer()).decode_sum(outcome.lanes, len(names))
        mean: Mean = total.astype(np.float64) / math.fsum(shares[name] for name in names)
        return AttemptOutcome(mean, tuple(sorted(names)), self._participants.dropped())

    def _failed(self, reason: str = "") -> AttemptOutcome:
        finished = [
            participant.name
            for participant in self._participants
            if participant.state is PartState.FINISHED
        ]
        return AttemptOutcome(None, tuple(sorted(finished)), self._participants.dropped(), reason)

    def _explained(self, aborted: Aborted) -> str:
        sites = [self._sites[site] for site in aborted.sites]
        # A lost exchange ends at once: a site that had not answered yet is not at fault.
        named = [
            participant.name
            for participant in sites
            if participant.dropped or aborted.check is not Check.TOO_FEW
        ]
        who = f" ({', '.join(named)})" if named else ""
        return (
            f"Secure aggregation ended at the exchange {aborted.stage!r}{who}; nothing was "
            f"unmasked. {explain_check(aborted.check)}"
        )

    def _refused(self, refusal: SecAggRefusal) -> str:
        return f"It refused. {self._named(refusal.check, refusal.site)}"

    def _named(self, check: Check, site: int) -> str:
        if site == COORDINATOR:
            return explain_check(check)
        member = self._roster.member(site)
        return f"{member.name if member else site}: {explain_check(check)}"
