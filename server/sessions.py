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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from privacy.identity import Identity
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.label import SealedStudy
from privacy.secagg.sealed.opening import offered_session
from privacy.secagg.sealed.server import SealedServer
from privacy.study.agreement import cohort_of
from privacy.study.pooling import pooled_settings
from server.attendance import Attendance
from server.context import RunContext
from server.events import SessionOpened, SiteLeftOut
from server.live_session import LiveSession
from server.nodes import Attendee
from server.session_log import SessionLog
from server.session_set_up import SessionSetUp
from server.step_store import KeptSession
from server.witness import StoredWitness

_MARGIN_SECONDS = 120.0  # beside a step's own time, that a session has to last for one more
_KEYLESS_SECONDS = 600.0  # before a site that gave no key brings about another session
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 120.0  # before a failed set-up is tried again


@dataclass(frozen=True)
class SessionParts:
    """What sessions are made of, beside the run: the coordinator's key, and the study's terms."""

    identity: Identity
    roster: Roster
    terms: SealedStudy
    log: SessionLog  # the consortium's, or none


class Sessions:
    """The sessions of one run, one after the other; `live` is the one that can be used now."""

    def __init__(self, context: RunContext, attendance: Attendance, parts: SessionParts) -> None:
        self._context = context
        self._attendance = attendance
        self._parts = parts
        self._log = parts.log
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
            return "" if self.live is None else self._log.lacking(self.live, present)
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
        doubtful = {} if self.live is None else self.live.unwitnessed
        chosen = [attendee for attendee in present if attendee.name in members.keys() - doubtful]
        for attendee in present:
            if attendee.name in doubtful:
                self._context.emit(SiteLeftOut(attendee.name, step, doubtful[attendee.name]))
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
        set_up = SessionSetUp(context, self._attendance, parts.roster, server, parts.log, present)
        trouble = set_up.run()
        if trouble:
            context.store.steps.end_session(number, trouble)
            return trouble
        self.live = live = self._live(number, server, names, float(offer.expiry))
        live.log, live.settled = set_up.log, set(live.members) if set_up.log else set()
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
            log=self._log.is_kept,
        )
