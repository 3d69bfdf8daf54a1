"""The agent of a hospital in a pooled study: its part of a step leaves masked, once, at its slot.

`SessionOffer` opens a session, and `SealedStep` begins an attempt at a step; their protocol is
`privacy.secagg.sealed`'s, what all agents have in common `client.agent.site_agent`'s. Guarantees,
each with a test:

- The order of checks is that of all agents: study, repetition, run, newer than everything
  journalled, attempts, noise, budgets; then the machine's: terms, cohort, slot, and whether the
  adapter that this site has worked out itself is the one that the message names. Until all hold,
  nothing is journalled, charged or changed. Then the intent is journalled with its label, before
  a mask is made.
- `SealedStep` is answered `Running` until `reply_slot` has passed here and the step's slot has
  come, by a clock that nobody can set in between. The first look after that is charged; then
  the vector leaves if it was there, and what left is journalled before. Training that was late or
  failed is answered with the same bytes, and costs the same.
- Keys are in memory only: an agent that was restarted knows no session, and says so.
- (run, step, attempt) and the numbers of sessions only grow, over restarts, sessions and runs.
- A site that lacks opened sums says how many steps it knows, and takes those that come with the
  step; it keeps the adapter that they make only where a step is begun with it, and then in a
  file of its own too.
"""

# Why: docs/adr/0044-sealed-agents.md

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from client.agent.sealing import SealedLedger, Sealing, SteadyTime
from client.agent.site_agent import AgentParts, OpenAttempt, SiteAgent, sealed
from client.agent.site_chain import MissingSums, SiteChain
from client.agent.work import DrawnShare, Trained
from privacy.ledger import AttemptKey
from privacy.secagg.refusals import Refused
from privacy.secagg.sealed.attempt import PendingStep
from privacy.secagg.sealed.client import SealedClient
from privacy.secagg.sealed.closing import FinalDigests
from privacy.secagg.sealed.label import ChainDigests
from privacy.secagg.sealed.memory import SumMemory
from privacy.wire.bodies import Body, Refusal, Running, SiteFacts
from privacy.wire.checks import Check
from privacy.wire.closing import SealedClose
from privacy.wire.log import LogShown
from privacy.wire.reasons import Reason
from privacy.wire.sealed import (
    SealedCollect,
    SealedStep,
    StepForm,
    sealed_size_limit,
)
from privacy.wire.session import SessionKeys, SessionOffer
from strategies.chain import AdapterChain
from strategies.pooled import digests_of, final_of

_log = logging.getLogger("craftsfl.agent")


@dataclass(slots=True)
class StepAttempt(OpenAttempt):
    """The attempt at a step that the site is working on, or worked on last."""

    pending: PendingStep | None = None  # what the machine is in
    until: Callable[[], bool] = bool  # whether the coordinator may still ask for its vector
    provided: bool = False  # whether the machine has its vector
    over: bool = False

    @property
    def is_open(self) -> bool:
        """See `OpenAttempt.is_open`."""
        return self.reply is None and not self.over and self.until()

    def end(self) -> None:
        """See `OpenAttempt.end`."""
        self.over = True
        self.work.cancel()


class _AgainstPolicy(Exception):
    """A step whose adapter this site does not train from."""


class SealedAgent(SiteAgent):
    """Takes part in sealed steps with `sealing`; nothing else can be asked of it."""

    def __init__(self, parts: AgentParts, sealing: Sealing, chain: Path | None = None) -> None:
        """`chain`: the file of the adapter.

        Raises `PolicyError` or `ConfigError` for a study of updates, or of another layout.
        """
        self._sealing = sealing
        study, roster = parts.rules.study, sealing.membership.roster
        self._chain = SiteChain(study, parts.trainer.layout, roster, chain)
        super().__init__(parts)
        self._time = SteadyTime(sealing.effects.clock, self._clock)
        self._site_log = sealing.log(parts.ledger)
        self._journal = SealedLedger(
            *(self._account, self._digest, self._intent),
            *(lambda: self._runs.newest_attempt, self._site_log),
        )
        self._machine: SealedClient | None = None
        self._run = 0  # of the machine and the chain
        # By run: else a coordinator would have its sites forget by offering another one in between.
        self._memories: dict[int, SumMemory] = {}

    def stop(self, timeout: float) -> bool:
        """See `SiteAgent.stop`; forgets all keys."""
        ended = super().stop(timeout)
        with self._lock:
            if self._machine is not None:
                self._machine.close()
        return ended

    def _roster_digest(self) -> bytes:
        return self._sealing.study.roster_digest

    def _limit(self) -> int:
        study = self._sealing.study
        return sealed_size_limit(len(self._rules.study.sites), study.lanes, study.steps)

    def _vouched(self, run: int, node: int, facts: SiteFacts) -> Body:
        return self._sealing.membership.signed(run, node, facts)

    def _answer_in_attempt(self, key: AttemptKey, body: Body, data: bytes) -> Body | bytes:
        match body:
            case SessionOffer():
                return self._session(key, body)
            case SessionKeys():
                return self._machine_of(key).deal(body)
            case SealedStep():
                return self._step(key, body)
            case SealedCollect():
                return self._collect(key, body)
            case SealedClose():
                return self._close(key, body)
            case LogShown():
                return self._other_run(key.run) or self._site_log.answer(body)
        return Refusal(Reason.UNKNOWN_KIND)

    def _session(self, key: AttemptKey, offer: SessionOffer) -> Body:
        """A key of this site for the session; its number is journalled before the key leaves."""
        if offer.study_digest != self._digest:
            return Refusal(Reason.WRONG_STUDY)
        if offer.run != key.run:
            raise Refused(Check.RUN)
        self._sealing.check_members(offer)
        refusal = self._halted() or self._other_run(key.run) or self._account.too_long
        if refusal is not None:
            return refusal
        machine = self._machine
        if machine is None or self._run != key.run:
            memory = self._memories.get(key.run)
            machine = self._sealing.machine(key.run, self._journal, self._time, memory)
        before = machine.session
        with self._time.kept_if(lambda: machine.session != before):
            answer = machine.open(offer)
        if machine.session != before and self._attempt is not None:
            self._attempt.end()  # the keys of its session are gone
        self._keep(machine, key.run)
        return answer

    def _close(self, key: AttemptKey, close: SealedClose) -> Body:
        """This site's word for what the run has come to; its desk hears of it, and nothing else."""
        refusal = self._other_run(key.run)
        if refusal is not None:
            return refusal

        def final(close: SealedClose) -> FinalDigests:
            return final_of(self._chain.before(close.steps + 1, close.opened))

        try:
            answer = self._machine_of(key).confirm(close, final)
        except MissingSums as missing:
            return Refusal(Reason.MISSING_SUMS, newest_run=missing.known)
        except Refused as refused:
            _log.warning("The end of run %d is not confirmed: %s", key.run, refused)
            raise
        _log.info(
            "Run %d has ended; this site has worked out the same adapter: %s.",
            *(key.run, close.published.hex()),
        )
        return answer

    def _keep(self, machine: SealedClient, run: int) -> None:
        """From now on `machine` takes the steps of `run`; the keys of any other are gone."""
        if machine is self._machine:
            return
        if self._machine is not None:
            self._machine.close()
        self._machine, self._run = machine, run
        self._memories[run] = machine.memory
        self._chain.take_up(run)

    def _machine_of(self, key: AttemptKey) -> SealedClient:
        if self._machine is None or self._run != key.run:
            raise Refused(Check.NO_SESSION)
        return self._machine

    def _step(self, key: AttemptKey, step: SealedStep) -> Body | bytes:
        if (key.round, key.attempt) != (step.step, step.attempt):
            raise Refused(Check.RUN)
        last = self._attempt
        if isinstance(last, StepAttempt) and last.key == key:
            return self._again(last, step)
        found = self._admitted(key)
        if isinstance(found, Refusal):
            return found
        machine = self._machine_of(key)
        before = machine.pending
        try:
            with self._time.kept_if(lambda: machine.pending is not before):
                chain, answer = self._taken(machine, step)
        except MissingSums as missing:
            return Refusal(Reason.MISSING_SUMS, newest_run=missing.known)
        except _AgainstPolicy:
            return Refusal(Reason.POLICY)
        except Refused as refused:
            self._chain.doubted(refused.check)
            raise
        pending = machine.pending
        if pending is None or pending is before or chain is None:
            return answer
        self._chain.begun(chain)
        training = self._sealing.training(self._trainer, machine, pending)
        work = self._work(key, chain.adapter, training)
        attempt = StepAttempt(key, _request(step), found, work, self._next_slot(), pending=pending)
        attempt.until = lambda: self._time() < pending.slot / 1000 + self._patience
        self._begin(attempt)
        return answer

    def _taken(self, machine: SealedClient, step: SealedStep) -> tuple[AdapterChain | None, Body]:
        """The machine's answer to a new step, and the chain with which it was begun."""
        found: list[AdapterChain] = []

        def digests(step: SealedStep) -> ChainDigests:
            found.append(self._admissible(step))
            return digests_of(found[0])

        answer = machine.step(step, digests)
        return (found[0] if found else None), answer

    @property
    def _patience(self) -> float:
        """Seconds after its slot in which a step may still be asked for."""
        return self._rules.study.cohort.round_deadline

    def _admissible(self, step: SealedStep) -> AdapterChain:
        """The chain before `step`, whose adapter this site trains from."""
        chain = self._chain.before(step.step, step.opened)
        fault = self._rules.adapter_fault(float(np.linalg.norm(chain.adapter.astype(np.float64))))
        if fault:
            _log.warning("Refused %s.", fault)
            raise _AgainstPolicy
        return chain

    def _again(self, attempt: StepAttempt, step: SealedStep) -> Body | bytes:
        """The answer to a step that was begun: its vector from its slot on, once it is charged."""
        if _request(step) != attempt.request:
            return Refusal(Reason.CONFLICT)
        if attempt.reply is not None:
            return attempt.reply
        machine = self._machine_of(attempt.key)
        if attempt.over or machine.pending is not attempt.pending:
            raise Refused(Check.NO_SESSION)  # a newer session has taken the keys
        if not self._due(attempt):
            return Running()
        if step.form is StepForm.READY:
            return self._committed(attempt, machine, step)
        result = self._looked(attempt)
        if result is None:
            return self._without_update(attempt)
        attempt.reply = sealed(attempt.key, _given(machine, attempt, step, result))
        return attempt.reply

    def _due(self, attempt: StepAttempt) -> bool:
        """Whether the slot has come, for this site and for the step."""
        slot = 0 if attempt.pending is None else attempt.pending.slot
        return self._clock() >= attempt.slot and 1000 * self._time() >= slot

    def _committed(
        self, attempt: StepAttempt, machine: SealedClient, step: SealedStep
    ) -> Body | bytes:
        """A commitment to the vector, which costs nothing: nothing of it leaves yet.

        That there is none is charged before it is told, as in the other form.
        """
        result = attempt.work.result_by(attempt.slot)
        if result is None:
            self._account.commit(attempt.key)
            self._say_charged(attempt)
            return self._without_update(attempt)
        return _given(machine, attempt, step, result)

    def _collect(self, key: AttemptKey, collect: SealedCollect) -> Body | bytes:
        """The vector that the site has committed to, once all have; the machine charges it."""
        attempt = self._attempt
        if not isinstance(attempt, StepAttempt) or attempt.key != key:
            return Refusal(Reason.NOT_STARTED)
        if attempt.reply is not None:
            return attempt.reply
        attempt.reply = sealed(key, self._machine_of(key).collect(collect))
        self._say_charged(attempt)
        return attempt.reply


def _given(machine: SealedClient, attempt: StepAttempt, step: SealedStep, found: Trained) -> Body:
    """The machine's answer once it has the vector; it takes one, however often it is asked."""
    if attempt.pending is not None and not attempt.provided:
        attempt.provided = True
        machine.provide(attempt.pending.label, cast(DrawnShare, found))
    return machine.step(step, _never)


def _request(step: SealedStep) -> bytes:
    """What makes two messages one request: all that the coordinator signs."""
    return hashlib.sha256(step.signed_part()).digest()


def _never(_: SealedStep) -> ChainDigests:
    """For a repetition, whose label is known."""
    raise Refused(Check.SUMS)
