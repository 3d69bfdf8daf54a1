"""The end of a run of steps: who has worked out the same adapter, and can prove the last sum.

The last sum goes to nobody with a next step. So every member of the session that is there is sent
it once more, with what the run has come to, and signs that, or says what is wrong. Nobody is waited
for longer than `CLOSING_SECONDS`, and a site that says nothing costs nothing.
"""

# Why: docs/adr/0050-dense-vectors-and-closed-runs.md

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from privacy.identity import Identity
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.closing import closing, confirms
from privacy.secagg.sealed.label import SealedStudy
from privacy.wire.bodies import Body, Refusal
from privacy.wire.checks import Check, explain_check
from privacy.wire.closing import SealedClose, SealedConfirmed
from privacy.wire.envelope import Envelope
from privacy.wire.reasons import Reason
from privacy.wire.sealed import OpenedSum, sealed_size_limit
from privacy.wire.secagg import SecAggRefusal
from server.attendance import Attendance
from server.context import RunContext
from server.messages import FlowerFailure, Reply, Request
from server.nodes import TRY_AGAIN, refused_words
from server.participants import NO_ANSWER, RESENDS
from server.roll_call import RollCall
from strategies.chain import AdapterChain
from strategies.pooled import final_of

CLOSING_SECONDS: Final = 60.0
_NO_CONNECTION: Final = "It was not there."
_NO_WORD: Final = "It has not answered in time."


@dataclass(frozen=True, slots=True)
class Closed:
    """`confirmed`: what each site has signed, by name; `others`: why the other sites have not.

    `false_sum`: all sites of the last step say that its sum does not verify.
    """

    confirmed: Mapping[str, bytes]
    others: Mapping[str, str]
    false_sum: bool = False


class RunClosing:
    """One question to all sites of the study. Call `run` once."""

    def __init__(
        self,
        context: RunContext,
        attendance: Attendance,
        roster: Roster,
        terms: SealedStudy,
    ) -> None:
        self._context = context
        self._attendance = attendance
        self._roster = roster
        self._terms = terms
        self._due: dict[int, float] = {}  # by node; whoever has answered is not in it
        self._failures: dict[int, int] = {}
        self._known: dict[int, int] = {}  # how many sums a node's site holds
        self._names: dict[int, str] = {}
        self._confirmed: dict[str, bytes] = {}
        self._others: dict[str, str] = {}
        self._doubts: set[str] = set()

    def run(self, key: Identity, chain: AdapterChain) -> Closed:
        """Ask who is there; `chain` is where the run has come to, after its last step."""
        context = self._context
        sums = context.store.steps.sums(after=chain.steps - 1)
        last = OpenedSum.decode(sums[-1][2])
        close = closing(key, self._terms, context.run, last.session, final_of(chain))
        present = RollCall(context, self._attendance).call(lambda _: True)
        now = context.clock.monotonic()
        for attendee in present:
            self._names[attendee.node] = attendee.name
            self._due[attendee.node] = now
            self._known[attendee.node] = chain.steps - 1
        while self._due and context.clock.monotonic() < now + CLOSING_SECONDS:
            self._send(close)
            for reply in context.exchange.receive():
                self._take(reply, close)
            if self._due:
                context.clock.sleep(context.timing.poll)
        in_sum = {self._name_of(site) for site in last.cohort}
        return Closed(dict(self._confirmed), self._reasons(), in_sum <= self._doubts)

    def _send(self, close: SealedClose) -> None:
        context, now = self._context, self._context.clock.monotonic()
        due = [node for node, when in self._due.items() if when <= now]
        for node in due:
            self._due[node] = now + context.timing.silence
        limit = sealed_size_limit(len(context.study.sites), self._terms.lanes)
        requests = [
            Request(node, Envelope(context.run, 0, 0, self._for(node, close)), limit)
            for node in due
        ]
        context.exchange.send(requests)

    def _for(self, node: int, close: SealedClose) -> SealedClose:
        sums = self._context.store.steps.sums(after=self._known[node])
        return replace(close, opened=tuple(OpenedSum.decode(total) for _, _, total in sums))

    def _take(self, reply: Reply, close: SealedClose) -> None:
        node = reply.request.node
        if not isinstance(reply.request.envelope.body, SealedClose):
            self._attendance.note(reply)
        elif node in self._due:
            reason = self._answered(node, reply.answer, close)
            if reason:
                self._others[self._names[node]] = reason
                del self._due[node]

    def _answered(self, node: int, answer: Body | FlowerFailure, close: SealedClose) -> str:
        """Why the site confirms nothing; "" where it does, or is asked again."""
        match answer:
            case SealedConfirmed() as word:
                return self._signed(node, word, close)
            case SecAggRefusal(check=check):
                if check is Check.FALSE_SUM:
                    self._doubts.add(self._names[node])
                return explain_check(check)
            case Refusal(reason=Reason.MISSING_SUMS, newest_run=known):
                return self._again(node, "It does not take the sums that it lacks.", 0.0, known)
            case Refusal(reason=reason) as refusal:
                pause = self._context.timing.first_pause
                words = refused_words(refusal)
                return self._again(node, words, pause) if reason in TRY_AGAIN else words
            case FlowerFailure() as failure:
                words = failure.explain() + "."
                pause = self._context.timing.first_pause
                return words if failure.final else self._again(node, words, pause)
            case _:
                return NO_ANSWER

    def _signed(self, node: int, word: SealedConfirmed, close: SealedClose) -> str:
        name = self._names[node]
        member = self._roster.member_named(name)
        if member is None or not confirms(word, close, member.public_key):
            return explain_check(Check.SIGNATURE)
        self._confirmed[name] = word.signature
        del self._due[node]
        return ""

    def _again(self, node: int, words: str, pause: float, known: int | None = None) -> str:
        failures = self._failures[node] = self._failures.get(node, 0) + 1
        if failures > RESENDS:
            return words
        if known is not None:
            self._known[node] = min(known, self._known[node])
        self._due[node] = self._context.clock.monotonic() + pause
        return ""

    def _reasons(self) -> dict[str, str]:
        """Why each site of the study that has confirmed nothing has not."""
        asked = set(self._names.values())
        return {
            site.name: self._others.get(
                site.name, _NO_WORD if site.name in asked else _NO_CONNECTION
            )
            for site in self._context.study.sites
            if site.name not in self._confirmed
        }

    def _name_of(self, site: int) -> str:
        member = self._roster.member(site)
        return "" if member is None else member.name
