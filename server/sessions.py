"""The session in which a pooled study's steps are sealed: set up when needed, and kept on disk.

Every member answers an offer with a key, and one of them, the dealer, answers the list of keys with
the secret that the group shares. Then the members' keys serve every step until the session ends:
when a member has lost its keys (its agent was restarted), when somebody is there who is not a
member, when it expires soon, or when the run has used up its attempts. What the server needs for it
is in the round state, so that another ServerApp goes on in the same session.

A site that is there and gives no key keeps the session back only while too few others are there.
"""

# Why: docs/adr/0045-sealed-rounds.md

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from privacy.errors import SecAggError
from privacy.identity import Identity
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.label import SealedStudy
from privacy.secagg.sealed.opening import offered_session
from privacy.secagg.sealed.server import SealedServer, SealedStage
from privacy.study.agreement import cohort_of
from privacy.study.pooling import pooled_settings
from privacy.wire.bodies import Body, Refusal
from privacy.wire.checks import explain_check
from privacy.wire.envelope import Envelope
from privacy.wire.sealed import sealed_size_limit
from privacy.wire.secagg import SecAggRefusal
from server.attendance import Attendance
from server.context import RunContext
from server.events import SessionOpened, SiteLeftOut
from server.messages import FlowerFailure, Reply, Request
from server.nodes import TRY_AGAIN, Attendee, refused_words
from server.step_store import KeptSession
from server.witness import StoredWitness

_MARGIN_SECONDS = 120.0  # beside a step's own time, that a session has to last for one more
_KEYLESS_SECONDS = 600.0  # before a site that gave no key brings about another session
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 120.0  # before a failed set-up is tried again


@dataclass
class LiveSession:
    """A session whose keys are complete. `known`: how many opened sums a site is known to hold."""

    number: int
    server: SealedServer
    members: Mapping[str, int]  # roster ids by name
    expiry: float
    lanes: int  # L, of a packed vector
    offered: frozenset[str] = frozenset()  # who was asked for a key; without one: not a member
    asks_again: float = 0.0  # from when on they are asked again (Unix seconds)
    known: dict[str, int] = field(default_factory=dict)
    broken: str = ""  # why no further step can be sealed in it

    def names(self, sites: Sequence[int]) -> tuple[str, ...]:
        """The names of these members, in order."""
        by_id = {site: name for name, site in self.members.items()}
        return tuple(sorted(by_id[site] for site in sites))


@dataclass(frozen=True)
class SessionParts:
    """What sessions are made of, beside the run: the coordinator's key, and the study's terms."""

    identity: Identity
    roster: Roster
    terms: SealedStudy


class Sessions:
    """The sessions of one run, one after the other; `live` is the one that can be used now."""

    def __init__(self, context: RunContext, attendance: Attendance, parts: SessionParts) -> None:
        self._context = context
        self._attendance = attendance
        self._parts = parts
        self.live: LiveSession | None = None
        self._due = 0.0  # when a set-up may be tried again, by the monotonic clock
        self._pause = _FIRST_PAUSE
        self._lacking = ""

    def restore(self) -> None:
        """Take up the session of an earlier ServerApp, if its keys were complete."""
        stored = self._context.store.steps.live_session()
        if stored is None or not stored.ready:
            return
        parts = self._parts
        server = SealedServer.restored(parts.identity, parts.roster, parts.terms, stored.state)
        self.live = self._live(stored.number, server, stored.members, stored.expiry)

    def lacking(self, step: int, present: Sequence[Attendee]) -> str:
        """Make sure of a session for `present` at `step`; what is in the way, "" if nothing is."""
        why = self._outdated(present)
        if not why:
            return ""
        clock = self._context.clock
        if clock.monotonic() < self._due:
            return self._lacking
        self._end(why)
        self._lacking = self._set_up(step, present, why)
        if self._lacking:
            self._due = clock.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        else:
            self._due, self._pause = 0.0, _FIRST_PAUSE
        return self._lacking

    def cohort(self, step: int, present: Sequence[Attendee]) -> list[Attendee]:
        """Those of `present` that are asked at `step`: members of the live session.

        The sites bear only so many changes of the cohort, as each compares two sums. The last one
        is kept for a site that is lost, so whoever comes back then stays out.
        """
        members = {} if self.live is None else self.live.members
        chosen = [attendee for attendee in present if attendee.name in members]
        cohorts = self._context.store.steps.cohorts()
        changes = sum(one != other for one, other in pairwise(cohorts))
        if not cohorts or changes + 1 < self._parts.terms.most_changes:
            return chosen
        kept = [attendee for attendee in chosen if attendee.name in cohorts[-1]]
        if len(kept) < self._context.study.smallest_cohort:
            return chosen
        for attendee in chosen:
            if attendee not in kept:
                reason = f"The cohort has changed {changes} times, and may hardly do so again."
                self._context.emit(SiteLeftOut(attendee.name, step, reason))
        return kept

    def _outdated(self, present: Sequence[Attendee]) -> str:
        """Why there has to be a new session, "" if the live one serves."""
        live, study = self.live, self._context.study
        if live is None:
            return "The run has none."
        if live.broken:
            return live.broken
        here = {attendee.name for attendee in present}
        if len(here & live.members.keys()) < study.smallest_cohort:
            return "Too few of its members are there."
        asked = live.offered if self._context.clock.time() < live.asks_again else live.members
        new = sorted(here - set(asked))
        if new:
            return f"{', '.join(new)} is not in it."
        step = study.cohort.reply_slot + study.secure_aggregation.exchange_deadline
        if self._context.clock.time() + step + _MARGIN_SECONDS > live.expiry:
            return "It expires."
        return ""

    def _end(self, why: str) -> None:
        if self.live is not None:
            self._context.store.steps.end_session(self.live.number, why)
        self.live = None

    def _set_up(self, step: int, present: Sequence[Attendee], why: str) -> str:
        """Offer a session to `present`; what went wrong, "" if it can be used."""
        context, study = self._context, self._context.study
        now = context.clock.time()
        hours = pooled_settings(study).session_hours
        number = max(context.store.steps.newest_session() + 1, math.floor(now))
        ids = cohort_of(self._parts.roster, [attendee.name for attendee in present])
        expiry = math.floor(now + 3600 * hours)
        parts = self._parts
        offer = offered_session(
            parts.identity, parts.terms, context.run, number, ids, expiry, first=step
        )
        witness = StoredWitness(context.store)
        server = SealedServer(parts.identity, parts.roster, parts.terms, offer, witness)
        names = tuple(sorted(attendee.name for attendee in present))
        context.store.steps.open_session(
            KeptSession(number, names, now, float(offer.expiry), server.stored())
        )
        trouble = _SetUp(context, self._attendance, parts.roster, server, present).run()
        if trouble:
            context.store.steps.end_session(number, trouble)
            return trouble
        self.live = live = self._live(number, server, names, float(offer.expiry))
        context.store.steps.session_ready(number, server.stored())
        context.emit(SessionOpened(number, tuple(sorted(live.members)), live.expiry, why))
        return ""

    def _live(
        self, number: int, server: SealedServer, names: Sequence[str], expiry: float
    ) -> LiveSession:
        roster, keys = self._parts.roster, set(server.members)
        by_name = {name: cohort_of(roster, [name])[0] for name in names}
        members = {name: site for name, site in by_name.items() if site in keys}
        return LiveSession(
            number,
            server,
            members,
            expiry,
            self._parts.terms.lanes,
            frozenset(names),
            self._context.clock.time() + _KEYLESS_SECONDS,
        )


class _SetUp:
    """The two exchanges of a set-up: keys of everybody, and the dealer's secret for the group."""

    def __init__(
        self,
        context: RunContext,
        attendance: Attendance,
        roster: Roster,
        server: SealedServer,
        present: Sequence[Attendee],
    ) -> None:
        self._context = context
        self._attendance = attendance
        self._server = server
        self._sites = {cohort_of(roster, [a.name])[0]: a for a in present}
        self._limit = sealed_size_limit(len(context.study.sites), 0)
        self._due: dict[int, float] = {}
        self._asked: dict[int, Body] = {}
        self._troubles: dict[str, str] = {}

    def run(self) -> str:
        """Until the keys are complete; what is in the way, "" if nothing is."""
        server = self._server
        try:
            while server.stage in (SealedStage.KEYS, SealedStage.GROUP):
                if not server.waiting and server.stage is SealedStage.GROUP:
                    return self._words("no site has dealt the group's secret")
                self._exchange()
                if server.stage is SealedStage.KEYS:
                    server.close_keys()
        except (Aborted, SecAggError) as error:
            return self._words(str(error))
        return ""

    def _exchange(self) -> None:
        """Ask everybody who is waited for, once for the keys, and each dealer in turn."""
        server, clock, stage = self._server, self._context.clock, self._server.stage
        seconds = self._context.study.secure_aggregation.exchange_deadline
        self._due, self._asked, began = {}, server.requests(), clock.monotonic()
        while server.stage is stage and server.waiting & self._asked.keys():
            if clock.monotonic() >= began + seconds:
                for site in sorted(server.waiting & self._asked.keys()):
                    self._drop(site, f"It missed the deadline of {seconds:g} s for its key.")
                return
            self._send_due()
            self._take(self._context.exchange.receive())
            if server.waiting & self._asked.keys():
                clock.sleep(self._context.timing.poll)

    def _send_due(self) -> None:
        now = self._context.clock.monotonic()
        asked = self._server.waiting & self._asked.keys()
        due = sorted(site for site in asked if self._due.get(site, now) <= now)
        for site in due:
            self._due[site] = now + self._context.timing.silence
        run = self._context.run
        self._context.exchange.send(
            [
                Request(self._sites[site].node, Envelope(run, 0, 0, self._asked[site]), self._limit)
                for site in due
            ]
        )

    def _take(self, replies: Sequence[Reply]) -> None:
        by_node = {attendee.node: site for site, attendee in self._sites.items()}
        for reply in replies:
            site = by_node.get(reply.request.node)
            asked = reply.request.envelope.body
            if site is None or asked is not self._asked.get(site):
                self._attendance.note(reply)
            elif site in self._server.waiting:
                self._note(site, reply)

    def _note(self, site: int, reply: Reply) -> None:
        match reply.answer:
            case Refusal() as refusal if refusal.reason in TRY_AGAIN:
                self._ask_later(site)
            case Refusal() as refusal:
                self._drop(site, refused_words(refusal))
            case SecAggRefusal() as refusal:
                self._drop(site, f"It refused. {explain_check(refusal.check)}")
            case FlowerFailure() as failure if not failure.final:
                self._ask_later(site)
            case FlowerFailure() as failure:
                self._drop(site, failure.explain() + ".")
            case answer:
                self._receive(site, answer)

    def _receive(self, site: int, answer: Body) -> None:
        try:
            self._server.receive(site, answer)
        except Refused as refused:
            self._drop(site, explain_check(refused.check))

    def _ask_later(self, site: int) -> None:
        self._due[site] = self._context.clock.monotonic() + self._context.timing.first_pause

    def _drop(self, site: int, reason: str) -> None:
        self._troubles[self._sites[site].name] = reason
        self._server.drop(site)

    def _words(self, otherwise: str) -> str:
        reasons = "; ".join(f"{name}: {why}" for name, why in sorted(self._troubles.items()))
        return f"keys for a session of steps. {reasons or otherwise}"
