"""Rounds of a study that pools its noise: each is one sealed step over all patients.

The coordinator works the adapter out as every site does, from the start and the opened sums, which
are all in the round state. So a ServerApp that takes a run up repeats them, and holds the same
adapter bit for bit; the files of adapters are for people, and for figures of quality.
"""

# Why: docs/adr/0045-sealed-rounds.md

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from model.layout import Layout, frozen_digest
from privacy.identity import Identity
from privacy.log.entries import EntryKind
from privacy.secagg.roster import Roster
from privacy.study.pooling import pooled_settings, sealed_study
from privacy.wire.codec import Vector
from privacy.wire.sealed import OpenedSum
from server.checkpoint import save_checkpoint
from server.events import AdapterConfirmed, RoundFailed
from server.life import RunStopped
from server.log_facts import base_facts, published_facts, recipe_facts
from server.log_keeper import LogKeeper
from server.nodes import Attendee
from server.participants import TrainingOrder
from server.roll_call import RollCall
from server.round_parts import RoundParts, in_words, length_of
from server.sealed_attempt import SealedAttempt, StepOutcome
from server.sealed_closing import Closed, RunClosing
from server.session_log import SessionLog
from server.sessions import SessionParts, Sessions
from server.step_store import FinishedStep, StepKey
from server.tables import AttemptState
from strategies.pooled import begin_chain, following

_SMALL: Final = 1 << 18  # parameters of an adapter that is written after every step
_EVERY: Final = 10  # steps, for a larger one
_FALSE: Final = "No site takes its opened sum, which does not verify."


class SealedRounds:
    """The steps of one run, in order. `check` refuses a layout that is not the study's."""

    def __init__(
        self,
        parts: RoundParts,
        layout: Layout,
        roster: Roster,
        key: Identity,
        keeper: LogKeeper | None = None,
    ) -> None:
        """`keeper`: of the consortium's log."""
        self._parts = parts
        self._context = parts.context
        self._layout = layout
        self._roster, self._key = roster, key
        self._chain = begin_chain(self._context.study, layout)
        frozen = frozen_digest(layout)
        terms = sealed_study(self._context.study, roster, layout.fingerprint(), frozen)
        self._terms = terms
        self._log = SessionLog(parts.context, parts.attendance, key, keeper)
        session = SessionParts(key, roster, terms, self._log)
        self._sessions = Sessions(parts.context, parts.attendance, session)

    @property
    def adapter(self) -> Vector:
        """What a run that ends here publishes, float32 [P]."""
        return self._chain.published

    def check(self) -> None:
        """Nothing more: whatever does not fit was refused when this was made."""

    def restore(self) -> int:
        """Repeat the steps so far; how many there are."""
        store, study = self._context.store, self._context.study
        for _, _, total in store.steps.sums():
            opened = OpenedSum.decode(total)
            self._chain = following(self._chain, [opened], study, self._roster)
        if store.last_adapter() is None:
            store.keep_adapter(0, save_checkpoint(self._parts.file(0), self.adapter, {}))
        self._sessions.restore()
        terms = self._terms
        self._log.write(EntryKind.RECIPE, recipe_facts())
        self._log.write(EntryKind.MODEL, base_facts(terms.base, terms.layout, terms.frozen))
        return self._chain.steps

    def run(self, number: int) -> None:
        """One step. Raises `FederationError` if no attempt at it succeeds."""
        key, opened, sites = self._attempts(number)
        context = self._context
        with context.phase("aggregation"):
            self._chain = following(self._chain, [opened], context.study, self._roster)
            norm, kept = length_of(self._chain.adapter), self._kept(number)
            context.store.steps.finish(key, FinishedStep(len(sites), norm, opened.encode(), kept))
        self._parts.finished(key, sites, norm)

    def close(self) -> None:
        """Ask every site whether it comes to the same; the last sum is proven by no later step.

        Where all of the last step say that its sum does not verify, that step is run again.
        """
        context, number = self._context, self._context.study.rounds
        if context.store.steps.is_closed():
            return
        self._log_published()
        present = RollCall(context, self._parts.attendance).call(lambda _: True)
        self._log.conclude(self._sessions.live, present)
        with context.phase("closing"):
            closed = self._closed()
        while closed.false_sum:
            self._again(number)
            self._log_published()
            with context.phase("closing"):
                closed = self._closed()
        context.store.steps.keep_closed(closed.confirmed)
        digest = self._chain.published_digest.hex()
        names, of = tuple(sorted(closed.confirmed)), len(context.study.sites)
        others = tuple(f"{name}: {reason}" for name, reason in sorted(closed.others.items()))
        context.emit(AdapterConfirmed(names, of, digest, others))

    def _log_published(self) -> None:
        self._log.write(EntryKind.MODEL, published_facts(self._chain.published_digest))

    def _closed(self) -> Closed:
        asks = RunClosing(self._context, self._parts.attendance, self._roster, self._terms)
        return asks.run(self._key, self._chain)

    def _kept(self, number: int) -> tuple[str, str] | None:
        """The adapter after the step as a file, if it is one of those that are written."""
        last = number == self._context.study.rounds
        if not last and self._layout.parameters > _SMALL and number % _EVERY:
            return None
        adapter = self._chain.published if last else self._chain.adapter
        return save_checkpoint(self._parts.file(number), adapter, {})

    def _attempts(self, number: int) -> tuple[StepKey, OpenedSum, tuple[str, ...]]:
        """Attempt the step until a sum is opened, or no attempt is left.

        Returns the key of the attempt, its sum and the names of the sites in it.
        """
        parts, reason = self._parts, "It was interrupted."
        for attempt in self._attempt_numbers(number):
            key = (number, attempt)
            attendees = self._attendees(key)
            try:
                with self._context.phase("training"):
                    outcome = self._attempt(key, attendees)
            except RunStopped as stopped:
                parts.failed(key, stopped.message)
                raise
            if outcome.opened is not None:
                return key, outcome.opened, outcome.sites
            reason = in_words(outcome.reason, outcome.dropped)
            parts.failed(key, reason)  # first: what the log has of it, the record has
            self._log.refused(key, outcome.dropped)
            if outcome.false_sum and number > 1:
                self._again(number - 1)
        spare = pooled_settings(self._context.study).spare_attempts
        status, tried = self._context.store.status(), self._context.store.attempts(number)
        raise parts.given_up(
            number,
            f"after {len(tried)} attempt(s); {status.lost} of {spare} spare attempts are lost. "
            f"{reason}",
        )

    def _again(self, number: int) -> None:
        """Forget the sum of step `number`, the newest, and run it again: nobody has taken it.

        Masks cancelled, and the sites' proof does not hold: a field has overflown, which happens
        once in thousands of steps, or a site has sent something else than a masked vector.
        """
        steps, study = self._context.store.steps, self._context.study
        attempt = self._context.store.attempts(number)[-1][0]
        steps.forget_sum((number, attempt), _FALSE)
        self._context.emit(RoundFailed(number, attempt, _FALSE, self._parts.unit))
        sums = [OpenedSum.decode(total) for _, _, total in steps.sums()]
        self._chain = following(begin_chain(study, self._layout), sums, study, self._roster)
        self.run(number)

    def _attempt_numbers(self, number: int) -> Iterator[int]:
        """The remaining attempts, beginning with an interrupted one that can go on.

        It can in the session that it began in, with the request on disk.
        """
        steps, study = self._context.store.steps, self._context.study
        before = self._context.store.attempts(number)
        last, state = before[-1] if before else (0, AttemptState.FAILED)
        if state is AttemptState.OPEN:
            request, live = steps.request((number, last)), self._sessions.live
            if request is not None and live is not None and request.session == live.number:
                yield last
            else:
                self._parts.failed((number, last), "The coordinator was interrupted.")
        spare = pooled_settings(study).spare_attempts
        for attempt in range(last + 1, study.attempts_a_round + 1):
            if self._context.store.status().lost > spare:
                return
            yield attempt

    def _attendees(self, key: StepKey) -> list[Attendee]:
        """Whom the attempt asks: whom it asked before, or those of the session who are there."""
        gate, sessions = self._parts.gate, self._sessions
        request = self._context.store.steps.request(key)
        if request is None:
            ready = partial(sessions.lacking, key[0])
            return sessions.cohort(key[0], gate.choose_cohort(key[0], self._layout, ready))
        here = {attendee.name: attendee for attendee in gate.choose_cohort(key[0], self._layout)}
        # Nodes have no negative numbers: a site that is away is dropped like any other.
        return [
            here.get(name, Attendee(name, -1 - place)) for place, name in enumerate(request.cohort)
        ]

    def _attempt(self, key: StepKey, attendees: list[Attendee]) -> StepOutcome:
        live = self._sessions.live
        if live is None:
            return StepOutcome(reason="There is no session.")
        order = TrainingOrder(*key, self._chain.adapter, self._layout)
        self._parts.begun(key, tuple(attendee.name for attendee in attendees))
        return SealedAttempt(self._parts, order, live, attendees, self._chain, self._log).run()
