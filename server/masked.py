"""A masked attempt: the server learns the sum of the sites' updates and nothing else.

The exchanges are those of `privacy.secagg.server`, whose table names who is asked what. Five
messages go to each site, and `Deliver` once more when its reply slot has come:

    advertise      TrainMasked      keys, and training begins
    share          Advertisements   shares, while the site trains
    masked input   Deliver          the masked update, once there is one
    consistency    Survivors        a signature over who is in the sum
    unmask         UnmaskRequest    one share for each site

An exchange ends when everybody has answered, when too few are left, or at its deadline: that of
the round for the masked input, `exchange_deadline` for the others. Who has not answered by then
has dropped out, and is named with the exchange. A site that falls silent after its masked input
has arrived is in the sum all the same.

The machine is in memory only. So an attempt that the server did not live to finish is lost, and
the next one has new keys; what the sites masked for it is burned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from privacy.errors import SecAggError
from privacy.secagg.offer import encoding_of, threshold
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.roster import Roster
from privacy.secagg.server import SecAggServer, Stage
from privacy.study.agreement import (
    cohort_of,
    model_digest,
    offer_seconds,
    settings_of,
    shares_of,
    terms_of,
)
from privacy.wire.bodies import Body, Refusal, Running, StartTraining
from privacy.wire.checks import Check, explain_check
from privacy.wire.offer import VERSION, Offer, TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import COORDINATOR, SecAggRefusal, size_limit
from server.messages import Failure, Reply
from server.parts import NO_ANSWER, Mean, Order, Outcome, Part, Parts, Post
from server.roster import Member
from server.tables import PartState
from server.witness import StoredWitness

FALSE_SHARES = (
    "Its shares contradict the others'. Ask the site whether its key is in other hands, and leave "
    "it out."
)
_LATE = ("consistency", "unmask")  # exchanges whose answers only t sites have to give
# A message without an answer is sent again after half an exchange's time: each costs the site a
# client process, and a site that is slow gets slower by it.
_SENT_IN_TIME = 2


class MaskedAttempt:
    """Runs one order with the sites that are connected. `run` once."""

    def __init__(self, post: Post, order: Order, members: Sequence[Member], roster: Roster) -> None:
        self._post = post
        self._order = order
        self._roster = roster
        self._parts = Parts(post, order, members)
        start = StartTraining(post.study.digest(), post.layout.fingerprint(), order.adapter)
        self._start = start
        self._sites: dict[int, Part] = {}
        self._asked: Mapping[int, Body] = {}  # what the exchange under way asks of each site
        self._answered = 0

    def run(self) -> Outcome:
        """Go through the exchanges, and say what came of them."""
        self._parts.open()
        names = [part.name for part in self._parts.active()]
        if len(names) < self._post.study.smallest_cohort:
            return self._failed()
        try:
            self._server = self._machine(names)
            while self._server.stage is not Stage.DONE:
                self._exchange()
            return self._mean()
        except Aborted as aborted:
            return self._failed(self._explained(aborted))
        except SecAggError as error:  # no sum, or an offer that nobody would take
            return self._failed(f"{error.message} {error.hint}".strip())

    def _machine(self, names: Sequence[str]) -> SecAggServer:
        post, (number, attempt) = self._post, self._order.key
        by_name = {part.name: part for part in self._parts.active()}
        cohort = cohort_of(self._roster, list(names))
        for site in cohort:
            member = self._roster.member(site)
            if member is not None:
                self._sites[site] = by_name[member.name]
        offer = Offer(
            version=VERSION,
            run=post.run,
            round=number,
            attempt=attempt,
            roster_digest=self._roster.digest(),
            model_digest=model_digest(post.study, self._start),
            terms=terms_of(post.study, post.layout.parameters),
            threshold=threshold(len(cohort)),
            expiry=math.floor(post.clock.time()) + offer_seconds(post.study),
            cohort=cohort,
        )
        witness = StoredWitness(post.store)
        return SecAggServer(self._roster, offer, post.study.smallest_cohort, witness)

    def _exchange(self) -> None:
        """One exchange with everybody of whom the machine waits, and on to the next one."""
        server, clock = self._server, self._post.clock
        stage, began, asked = server.stage, clock.monotonic(), len(server.waiting)
        self._open(began)
        allowed = self._seconds(stage)
        while True:
            self._send_due()
            for part, reply in self._parts.replies():
                self._note(part, reply)
            if not self._worth_waiting():
                break
            if clock.monotonic() >= began + allowed:
                self._drop_the_late(allowed)
                break
            clock.sleep(self._post.timing.poll)
        self._told(stage, clock.monotonic() - began, asked)
        server.deadline()

    def _open(self, now: float) -> None:
        requests = dict(self._server.requests())
        if self._server.stage in (Stage.ADVERTISE, Stage.CONSISTENCY):  # it names the cohort, or U3
            names = [self._sites[site].name for site in requests]
            self._post.store.narrow_cohort(self._post.study, self._order.round, names)
        if self._server.stage is Stage.ADVERTISE:
            requests = dict.fromkeys(requests, TrainMasked(self._server.offer(), self._start))
        for site in requests:
            part = self._sites[site]
            part.due, part.pause = now, self._post.timing.first_pause
            self._parts.reached(part)
        self._asked, self._answered = requests, 0

    def _seconds(self, stage: Stage) -> float:
        """How long the exchange may take."""
        left = self._post.study.cohort.round_deadline - self._parts.elapsed()
        alone = settings_of(self._post.study).exchange_deadline
        match stage:
            case Stage.INPUT:
                return left
            case Stage.ADVERTISE:
                return min(left, alone + self._order.seconds)
            case _:
                return alone

    def _waiting(self) -> list[tuple[int, Part]]:
        return [(site, self._sites[site]) for site in sorted(self._server.waiting)]

    def _worth_waiting(self) -> bool:
        waiting, offer = len(self._server.waiting), self._server.offer()
        needed = offer.threshold
        if self._server.stage.value not in _LATE:
            needed = max(needed, self._post.study.smallest_cohort)
        return waiting > 0 and self._answered + waiting >= needed

    def _send_due(self) -> None:
        now, stage = self._post.clock.monotonic(), self._server.stage
        due = [(part, self._asked[site]) for site, part in self._waiting() if part.due <= now]
        silence = self._post.timing.silence
        if stage is not Stage.INPUT:
            alone = settings_of(self._post.study).exchange_deadline
            silence = min(silence, alone / _SENT_IN_TIME)
        if stage in (Stage.ADVERTISE, Stage.INPUT):
            silence += self._order.seconds
        offer = self._server.offer()
        limit = size_limit(len(offer.cohort), encoding_of(offer).lanes, 0)
        self._parts.send(due, silence, limit)

    def _note(self, part: Part, reply: Reply) -> None:
        waited_for = {id(other): site for site, other in self._waiting()}
        site = waited_for.get(id(part))
        if site is None or reply.request.envelope.body is not self._asked[site]:
            return  # it came too late, or twice
        match reply.answer:
            case Running() if self._server.stage is Stage.INPUT:
                self._parts.reached(part)
                self._parts.ask_in_its_slot(part)
            case Refusal() | Failure() as answer:
                if isinstance(answer, Refusal) and answer.reason is Reason.NO_UPDATE:
                    self._charged(part)
                reason = self._parts.trouble(part, answer)
                if reason:
                    self._drop(site, reason)
            case SecAggRefusal() as refusal:
                self._drop(site, self._refused(refusal))
            case answer:
                self._take(site, answer)

    def _take(self, site: int, answer: Body) -> None:
        stage, part = self._server.stage, self._sites[site]
        try:
            self._server.receive(site, answer)
        except Refused as refused:
            wrong = refused.check is Check.OUT_OF_ORDER
            self._drop(site, NO_ANSWER if wrong else explain_check(refused.check))
            return
        self._answered += 1
        self._parts.reached(part)
        if stage is Stage.ADVERTISE:
            self._parts.move(part, PartState.TRAINING)
        elif stage is Stage.INPUT:
            self._parts.move(part, PartState.FINISHED, self._charged(part))

    def _charged(self, part: Part) -> float | None:
        """Its site has told something of its training, and has charged it: its epsilon now."""
        joined = self._post.roster.spent(part.name)
        return self._post.spending.released(part.name, joined)

    def _drop(self, site: int, reason: str) -> None:
        stage = self._server.stage
        self._server.drop(site)
        self._parts.drop(self._sites[site], reason, stage.value)

    def _drop_the_late(self, allowed: float) -> None:
        reason = f"It missed the deadline of {round(max(0.0, allowed), 1):g} s for this exchange."
        if self._server.stage is Stage.INPUT:
            seconds = self._post.study.cohort.round_deadline
            reason = f"It missed the round's deadline of {seconds:g} s."
        for site, _ in self._waiting():
            self._drop(site, reason)

    def _told(self, stage: Stage, seconds: float, asked: int) -> None:
        self._post.store.add_seconds(f"exchange: {stage.value}", seconds)
        self._parts.emit(
            "exchange-finished",
            exchange=stage.value,
            seconds=round(seconds, 2),
            asked=asked,
            answered=self._answered,
        )

    def _mean(self) -> Outcome:
        outcome = self._server.result()
        for site in outcome.false:
            self._parts.drop(self._sites[site], FALSE_SHARES, Stage.UNMASK.value)
        shares = shares_of(self._post.study)
        names = tuple(self._sites[site].name for site in outcome.survivors)
        total = encoding_of(self._server.offer()).decode_sum(outcome.lanes, len(names))
        mean: Mean = total.astype(np.float64) / math.fsum(shares[name] for name in names)
        return Outcome(mean, tuple(sorted(names)), self._parts.dropped())

    def _failed(self, reason: str = "") -> Outcome:
        finished = [part.name for part in self._parts if part.state is PartState.FINISHED]
        return Outcome(None, tuple(sorted(finished)), self._parts.dropped(), reason)

    def _explained(self, aborted: Aborted) -> str:
        sites = [self._sites[site] for site in aborted.sites]
        # An exchange that is lost ends at once: who had not answered yet is not at fault.
        named = [part.name for part in sites if part.dropped or aborted.check is not Check.TOO_FEW]
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
