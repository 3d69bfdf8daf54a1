"""The exchanges that make a session: keys of everybody, the log's witnesses, the group's secret."""

# Why: docs/adr/0045-sealed-rounds.md and 0059-a-log-that-every-site-witnesses.md

from __future__ import annotations

from collections.abc import Sequence

from privacy.errors import SecAggError
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.server import SealedServer, SealedStage
from privacy.study.agreement import cohort_of
from privacy.wire.bodies import Body, Refusal
from privacy.wire.checks import explain_check
from privacy.wire.envelope import Envelope
from privacy.wire.sealed import sealed_size_limit
from privacy.wire.secagg import SecAggRefusal
from server.attendance import Attendance
from server.context import RunContext
from server.messages import FlowerFailure, Reply, Request
from server.nodes import TRY_AGAIN, Attendee, refused_words
from server.session_log import SessionLog


class SessionSetUp:
    """The two exchanges of a set-up: keys of everybody, and the dealer's secret for the group."""

    def __init__(
        self,
        context: RunContext,
        attendance: Attendance,
        roster: Roster,
        server: SealedServer,
        log: SessionLog,
        present: Sequence[Attendee],
    ) -> None:
        self._context = context
        self._attendance = attendance
        self._server = server
        self._log = log
        self._sites = {cohort_of(roster, [a.name])[0]: a for a in present}
        self.log = log.is_kept  # whether the sites know of one
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
                    self._witness()
                    server.close_keys()
        except (Aborted, SecAggError) as error:
            return self._words(str(error))
        return ""

    def _witness(self) -> None:
        """Have the log, with what the sites have just written, cosigned; who cannot stays out.

        Before anybody is shown the others' keys: so nobody is in a session whose own newest record
        is not in the log, and nobody hears of a record that the log may never hold.
        """
        server = self._server
        if not self.log or len(server.keyed) < self._context.study.smallest_cohort:
            return
        by_name = {self._sites[site].name: site for site in server.keyed}
        shown = {name: server.ledger_of(site) for name, site in by_name.items()}
        troubles = self._log.meet(
            {
                name: (self._sites[by_name[name]], ledger.ledger)
                for name, ledger in shown.items()
                if ledger is not None
            }
        )
        self.log = troubles is not None
        for name, why in (troubles or {}).items():
            self._troubles[name] = why
            server.exclude(by_name[name])

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
