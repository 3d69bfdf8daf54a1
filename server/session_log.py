"""The consortium's log around the steps of a run: who has to be shown it, and what goes in when."""

# Why: docs/adr/0059-a-log-that-every-site-witnesses.md

from __future__ import annotations

from collections.abc import Mapping, Sequence

from privacy.identity import Identity
from privacy.log.checkpoints import TreeHead
from privacy.log.entries import EntryKind, LogFacts
from privacy.log.notes import SignedNote
from privacy.secagg.roster import Member
from privacy.secagg.sealed.attempt import sent_digest
from privacy.wire.log import NO_LOG, LogFields
from privacy.wire.sealed import OpenedSum, Sealed, SealedStep
from server.attendance import Attendance
from server.context import RunContext
from server.live_session import LiveSession
from server.log_exchange import LogExchange, NoLogThere
from server.log_keeper import LogKeeper
from server.nodes import Attendee


class SessionLog:
    """What a run does with the log of `keeper`, which `identity` signs; nothing without one."""

    def __init__(
        self,
        context: RunContext,
        attendance: Attendance,
        identity: Identity,
        keeper: LogKeeper | None,
    ) -> None:
        self._context, self._attendance = context, attendance
        self._identity, self._keeper = identity, keeper
        self._sent: dict[str, Sealed] = {}  # of the attempt under way, by name
        self._begun = False
        self._waiting: list[tuple[EntryKind, LogFacts]] = []  # before there is a roster in the log

    @property
    def is_kept(self) -> bool:
        """Whether there is a log."""
        return self._keeper is not None

    def meet(self, sites: Mapping[str, tuple[Attendee, bytes]]) -> dict[str, str] | None:
        """Have `sites` (node, and id of the ledger) cosign the log; by name, why some have not.

        None where one of them knows nothing of a log.
        """
        if self._keeper is None:
            return None
        self._begin(self._keeper)
        self._keeper.take_waiting()
        exchange = LogExchange(self._context, self._attendance, self._keeper, self._identity)
        try:
            with self._context.phase("log"):
                return exchange.run(sites)
        except NoLogThere:
            return None

    def lacking(self, live: LiveSession, present: Sequence[Attendee]) -> str:
        """Bring the log and its witnesses together where a step cannot; what is in the way.

        After an attempt that failed, a site may have written what the log lacks.
        """
        if self._keeper is None or not live.log:
            return ""
        here = {one.name: one for one in present if one.name in live.members}
        if here.keys() <= live.settled and self._keeper.common(self._members(here)):
            return ""
        self._met(live, here)
        if len(live.settled) >= self._context.study.smallest_cohort or not live.log:
            return ""
        told = "; ".join(f"{name}: {why}" for name, why in sorted(live.unwitnessed.items()))
        return f"witnesses of the log. {told}"

    def conclude(self, live: LiveSession | None, present: Sequence[Attendee]) -> None:
        """After the last step: have everybody who is there cosign the log with it."""
        if live is not None and live.log:
            self._met(live, {one.name: one for one in present if one.name in live.members})

    def fields(self, live: LiveSession, names: Sequence[str]) -> LogFields:
        """What a step of these sites says of the log; nothing where they know of none."""
        self._sent.clear()
        if self._keeper is None or not live.log:
            return NO_LOG
        self._keeper.take_waiting()
        live.settled -= set(names)  # until their vectors have come, with their records
        return self._keeper.news(self._keeper.common(self._members(names)))

    def sent(self, name: str, sealed: Sealed) -> None:
        """A site's vector has come, and with it what it has written."""
        self._sent[name] = sealed

    def opened(self, live: LiveSession, step: SealedStep, opened: OpenedSum) -> None:
        """An attempt has opened: what the sites have written, their cosignatures, and the sum."""
        keeper = self._keeper
        if keeper is None or not step.log:
            return
        members = {member.name: member for member in self._members(self._sent)}
        records = [(members[name], one.head) for name, one in self._sent.items() if one.head]
        refused = keeper.take_records(records)
        head = TreeHead.of_text(SignedNote.decode(step.checkpoint).text)
        cosigned = [(members[name], one.cosignature) for name, one in self._sent.items()]
        signed = keeper.take_cosignatures(head, cosigned)
        told = {name for name, one in self._sent.items() if one.head}
        live.settled |= (told & signed) - refused.keys()
        keeper.write(EntryKind.STEP, self._step(step, opened))

    def refused(self, key: tuple[int, int], dropped: Mapping[str, str]) -> None:
        """An attempt at a step has failed: who dropped out, and why."""
        for name, why in sorted(dropped.items()):
            self.write(
                EntryKind.REFUSAL, {"step": key[0], "attempt": key[1], "site": name, "reason": why}
            )

    def write(self, kind: EntryKind, values: LogFacts) -> None:
        """Add facts about this run."""
        if self._keeper is None:
            return
        study, run = self._context.study.digest().hex(), self._context.run
        told: LogFacts = {"study": study, "run": run, **values}
        if self._begun:
            self._keeper.write(kind, told)
        else:
            self._waiting.append((kind, told))

    def _begin(self, keeper: LogKeeper) -> None:
        """Once sites answer: then the roster has its signatures."""
        if self._begun:
            return
        keeper.begin()
        self._begun = True
        for kind, values in self._waiting:
            keeper.write(kind, values)
        self._waiting.clear()

    def _met(self, live: LiveSession, here: Mapping[str, Attendee]) -> None:
        troubles = self.meet({name: (one, live.ledger_of(name)) for name, one in here.items()})
        live.log = troubles is not None
        live.unwitnessed = troubles or {}
        live.settled = set(here) - live.unwitnessed.keys()

    def _members(self, names: Sequence[str] | Mapping[str, object]) -> list[Member]:
        members = () if self._keeper is None else self._keeper.members
        return [member for member in members if member.name in names]

    def _step(self, step: SealedStep, opened: OpenedSum) -> LogFacts:
        ids = {member.name: member.site for member in self._members(self._sent)}
        return {
            "study": self._context.study.digest().hex(),
            "run": self._context.run,
            "session": opened.session,
            "step": step.step,
            "attempt": step.attempt,
            "form": int(step.form),
            "slot": step.slot,
            "label": step.label.hex(),
            "adapter": step.adapter.hex(),
            "state": step.state.hex(),
            "sums": step.sums.hex(),
            "cohort": list(step.cohort),
            "opened": opened.digest().hex(),
            "vectors": {
                str(ids[name]): sent_digest(one.lanes).hex() for name, one in self._sent.items()
            },
        }
