"""Bringing log and witnesses together outside of steps: before a session, and after trouble.

    LogShown   the log as it is           LogAnswer   records that it lacks, what the site cosigned
    LogShown   the log with the records   LogAnswer   a cosignature

All are asked, and all are waited for, before what they have sent makes another checkpoint. During
steps the same rides on `SealedStep` and `Sealed`, and costs no message.
"""

# Why: docs/adr/0059-a-log-that-every-site-witnesses.md

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from privacy.identity import Identity, verify
from privacy.log.checkpoints import TreeHead
from privacy.secagg.roster import Member
from privacy.secagg.sealed.log_words import answer_signed, shown_signed
from privacy.wire.bodies import Body, Refusal
from privacy.wire.checks import Check, explain_check
from privacy.wire.envelope import Envelope
from privacy.wire.log import LogAnswer, LogShown
from privacy.wire.reasons import Reason
from privacy.wire.sealed import sealed_size_limit
from privacy.wire.secagg import SecAggRefusal
from server.attendance import Attendance
from server.context import RunContext
from server.log_keeper import LogKeeper
from server.messages import FlowerFailure, Reply, Request
from server.nodes import TRY_AGAIN, Attendee, refused_words
from server.participants import NO_ANSWER

_IDLE_ROUNDS: Final = 2  # that bring no record: the second is for those who lacked a proof
_ANOTHER: Final = (
    "It has cosigned a log that this one does not continue: the coordinator's state folder was put "
    "back, or its log was changed."
)


class NoLogThere(Exception):
    """A site runs a craftsfl that knows nothing of a log."""


class LogExchange:
    """One meeting of the log's witnesses. Call `run` once."""

    def __init__(
        self, context: RunContext, attendance: Attendance, keeper: LogKeeper, identity: Identity
    ) -> None:
        self._context, self._attendance = context, attendance
        self._keeper, self._identity = keeper, identity
        self._troubles: dict[str, str] = {}

    def run(self, sites: Mapping[str, tuple[Attendee, bytes]]) -> dict[str, str]:
        """Until all of `sites` (by name: node, and the id of its ledger) have cosigned the log.

        Returns, by name, why the others have not. Raises `NoLogThere`.
        """
        roster = self._keeper.roster
        members = {name: member for name in sites if (member := roster.member_named(name))}
        asked, idle = members, 0
        while asked and idle < _IDLE_ROUNDS:
            self._troubles = {}
            idle = 0 if self._round(self._keeper.checkpoint(), sites, asked) else idle + 1
            head = self._keeper.checkpoint()
            asked = {
                name: member
                for name, member in members.items()
                if self._keeper.cosigned(member) != head.size
            }
        return {name: self._troubles.get(name, NO_ANSWER) for name in asked}

    def _round(
        self,
        head: TreeHead,
        sites: Mapping[str, tuple[Attendee, bytes]],
        asked: Mapping[str, Member],
    ) -> bool:
        """Show the log to all of `asked`; whether they had records that it lacked."""
        shown = {name: self._shown(member, sites[name][1]) for name, member in asked.items()}
        answers = self._answers({name: sites[name][0] for name in asked}, shown)
        records, cosigned = [], []
        for name, answer in answers.items():
            member = asked[name]
            signed = answer_signed(answer, shown[name], member.public_key)
            if not verify(member.public_key, answer.signature, signed):
                self._troubles[name] = explain_check(Check.SIGNATURE)
                continue
            if answer.check == 0:
                cosigned.append((member, answer.log.cosignature))
            else:
                self._note(member, answer)
            if answer.log.head:
                records.append((member, answer.log.head))
        self._keeper.take_cosignatures(head, cosigned)
        before = self._keeper.replay.size
        self._troubles |= self._keeper.take_records(records)
        return self._keeper.replay.size > before

    def _note(self, member: Member, answer: LogAnswer) -> None:
        """Why it has not cosigned."""
        if not self._keeper.says(member, answer.size, answer.root):
            self._troubles[member.name] = _ANOTHER
        elif answer.check in set(Check):
            self._troubles[member.name] = explain_check(Check(answer.check))
        else:
            self._troubles[member.name] = NO_ANSWER

    def _shown(self, member: Member, ledger: bytes) -> LogShown:
        keeper = self._keeper
        shown = LogShown(
            self._context.study.digest(), keeper.since(ledger), keeper.news(keeper.cosigned(member))
        )
        return replace(shown, signature=self._identity.sign(shown_signed(shown)))

    def _answers(
        self, nodes: Mapping[str, Attendee], shown: Mapping[str, LogShown]
    ) -> dict[str, LogAnswer]:
        """Ask everybody and wait for all; whoever is late or refuses has a trouble."""
        context, clock = self._context, self._context.clock
        names = {attendee.node: name for name, attendee in nodes.items()}
        due = dict.fromkeys(nodes, clock.monotonic())
        ends = clock.monotonic() + context.study.secure_aggregation.exchange_deadline
        found: dict[str, LogAnswer] = {}
        while due and clock.monotonic() < ends:
            self._send(nodes, shown, due)
            for reply in context.exchange.receive():
                name = names.get(reply.request.node, "")
                asked = reply.request.envelope.body
                if not isinstance(asked, LogShown) or name not in due or asked != shown[name]:
                    self._attendance.note(reply)
                else:
                    self._take(name, reply, due, found)
            if due:
                clock.sleep(context.timing.poll)
        for name in due:
            self._troubles.setdefault(name, "It did not answer for the log in time.")
        return found

    def _send(
        self, nodes: Mapping[str, Attendee], shown: Mapping[str, LogShown], due: dict[str, float]
    ) -> None:
        context, now = self._context, self._context.clock.monotonic()
        ready = [name for name, when in due.items() if when <= now]
        limit = sealed_size_limit(len(context.study.sites), 0)
        for name in ready:
            due[name] = now + context.timing.silence
        context.exchange.send(
            [
                Request(nodes[name].node, Envelope(context.run, 0, 0, shown[name]), limit)
                for name in ready
            ]
        )

    def _take(
        self, name: str, reply: Reply, due: dict[str, float], found: dict[str, LogAnswer]
    ) -> None:
        answer: Body | FlowerFailure = reply.answer
        pause = self._context.timing.first_pause
        match answer:
            case LogAnswer():
                found[name] = answer
                del due[name]
            case Refusal(reason=Reason.UNKNOWN_KIND):
                raise NoLogThere(name)
            case Refusal(reason=reason) if reason in TRY_AGAIN:
                due[name] = self._context.clock.monotonic() + pause
            case FlowerFailure() as failure if not failure.final:
                due[name] = self._context.clock.monotonic() + pause
            case Refusal() as refusal:
                self._out(name, refused_words(refusal), due)
            case SecAggRefusal(check=check):
                self._out(name, explain_check(check), due)
            case FlowerFailure() as failure:
                self._out(name, failure.explain() + ".", due)
            case _:
                self._out(name, NO_ANSWER, due)

    def _out(self, name: str, why: str, due: dict[str, float]) -> None:
        self._troubles[name] = why
        del due[name]
