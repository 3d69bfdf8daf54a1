"""The site agent's state machine: what it answers to each message, and what that changes.

What all agents have in common is in this file. An agent is a `MaskedAgent`, which adds the
exchanges of a masked attempt (`client.agent.masked_agent`), or a `SealedAgent`, which takes the
steps of a pooled study (`client.agent.sealed_agent`). None gives its update away in clear.
Guarantees, each with a test:

- What begins an attempt is checked in this order, and refused without any change of state: study,
  layout, repetition (same bytes: the same answer; others: CONFLICT), its run (`client.agent.runs`:
  neither an older one, nor one far ahead, nor another one while an attempt is open), newer than
  everything journalled, rounds and attempts of the study, also summed over all its runs,
  attempts lost so far, noise, the budgets of the study and of all studies together, the offer.
  Then the intent is journalled durably, and only then do keys leave and does training touch data.
- An attempt has one time slot, `reply_slot` after it began. Every look before it is answered
  `Running`, whatever training does. The first look after it is charged, durably, before training's
  result is even asked for. Then the update leaves if it was there when the slot came, or else the
  answer "no update"; a later look gets the same bytes again. A late update never leaves, and the
  answer for training that failed is byte for byte the one for training that was late.
- An attempt that is superseded before anybody looked at it after its slot costs nothing, because
  nothing about it was revealed; the policy bounds the number of such attempts. One that has to wait
  for an older one to release the model still has its own slot. One that was under way when the
  agent ended is charged when the next agent starts.
- While the hospital has paused, or has left, what would begin is refused in words and costs
  nothing; what is open goes on.
- `RunOver` ends the attempt under way in its run, as a newer attempt would, and nothing else. Of
  what became of its training nothing shows, until a later attempt is charged.
- A newer attempt cancels an older one and discards its secrets, which are only in memory: an agent
  that was restarted knows nothing of an open attempt, and the site has dropped out of it.
- `handle` never raises and never waits for training.
- Epsilon figures that leave are those of this study alone, and no answer waits while other
  studies' spending is added up (`client.agent.admission`).
- Answers contain public facts, epsilon figures, keys, shares and noised vectors. Of the draw they
  reveal only whether training was done when the slot came, in exchange for a charge.
"""

# Why: docs/adr/0046-no-plain-mode.md

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from client.agent.admission import Account
from client.agent.boundary import Failure, contained
from client.agent.progress import ANSWERED, ProgressEvent, ProgressSource
from client.agent.release import installed_release
from client.agent.runs import KnownRuns
from client.agent.wishes import SiteWish
from client.agent.work import AttemptTraining, AttemptWork, Clock, Trained, Turn
from client.policy import SiteRules
from privacy.budget import Budgets
from privacy.ledger import AttemptKey, Ledger, StepMark
from privacy.secagg.client import SecAggClient
from privacy.secagg.refusals import Refused
from privacy.wire.bodies import (
    Body,
    Hello,
    Refusal,
    RunOver,
    SiteFacts,
    StartTraining,
)
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.codec import Vector
from privacy.wire.envelope import Envelope, open_envelope, refuse, seal
from privacy.wire.reasons import Reason, RefusedMessage, guidance_of

if TYPE_CHECKING:
    from client.training import RoundTrainer

_log = logging.getLogger("craftsfl.agent")


@dataclass(slots=True)
class OpenAttempt:
    """The attempt that the site is working on, or worked on last."""

    key: AttemptKey
    request: bytes  # SHA-256 of the whole message that began it
    budgets: Budgets  # after it is charged
    work: AttemptWork
    slot: float  # by the clock: until then the answer is "running", whatever it does
    client: SecAggClient | None = None  # of a masked attempt
    reply: bytes | None = None  # once charged: what left, or the answer "no update"

    @property
    def is_open(self) -> bool:
        """Whether something of it may still leave, as far as a coordinator can know."""
        return self.client is not None and self.reply is None and self.client.is_open

    def end(self) -> None:
        """From now on, nothing of it leaves."""
        self.work.cancel()
        if self.client is not None:
            self.client.close()


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What an agent for the study of `rules` is made of; everything that it needs is ready."""

    rules: SiteRules
    ledger: Ledger
    trainer: RoundTrainer
    progress: ProgressSource = field(default_factory=ProgressSource)
    clock: Clock = time.monotonic
    wish: Callable[[], SiteWish] = lambda: SiteWish.RUN


class SiteAgent(ABC):
    """Answers the coordinator for one study. `handle` and `stop` may be called from any thread."""

    def __init__(self, parts: AgentParts) -> None:
        """Raises `LedgerError`."""
        rules, trainer = parts.rules, parts.trainer
        self._rules = rules
        self._trainer = trainer
        self._progress = parts.progress
        self._clock = parts.clock
        self._wish = parts.wish
        self._digest = rules.study.digest()
        self._release = installed_release()
        self._layout = trainer.layout.fingerprint()
        self._parameters = trainer.layout.parameters
        self.limit = self._limit()
        self._lock = threading.Lock()  # guards all that follows, and the ledger
        self._account = Account(rules, parts.ledger)
        own = (entry.key for entry in parts.ledger.entries() if entry.key.study == self._digest)
        self._runs = KnownRuns(own, rules.policy.max_run_jump)
        self._said: Reason | None = None
        self._attempt: OpenAttempt | None = None
        self._turn = Turn()
        self._stopping = False

    def handle(self, data: bytes) -> bytes:
        """The sealed answer to one sealed message; never raises, whatever the bytes are."""
        reply = contained(lambda: self._answer(data))
        if isinstance(reply, Failure):
            _log.error("A message could not be answered: %s", reply.text)
            return refuse(data, Reason.INTERNAL)
        return reply

    def has_begun(self, run: int, round: int, attempt: int) -> bool:
        """Whether this attempt is the one that the site is working on, or worked on last."""
        with self._lock:
            last = self._attempt
        return last is not None and last.key == AttemptKey(self._digest, run, round, attempt)

    def retire(self) -> bool:
        """Refuse everything from now on, unless something of an attempt may still leave."""
        with self._lock:
            if self._attempt is not None and self._attempt.is_open:
                return False
            self._stopping = True
            return True

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the newest attempt's training; True if it has ended.

        For whoever owns the agent's clock, and may not let its slot come before.
        """
        with self._lock:
            attempt = self._attempt
        return attempt is None or attempt.work.wait(timeout)

    def stop(self, timeout: float) -> bool:
        """Refuse everything from now on, and end training; True if it ended within `timeout` s."""
        with self._lock:
            self._stopping = True
            attempt = self._attempt
        if attempt is None:
            return True
        attempt.end()
        # An older attempt may still be in the physical batch during which it was cancelled.
        return attempt.work.wait(timeout) and self._turn.wait_free(timeout)

    def _answer(self, data: bytes) -> bytes:
        try:
            envelope = open_envelope(data, limit=self.limit)
        except RefusedMessage as refused:
            return refuse(data, refused.reason)
        key = AttemptKey(self._digest, envelope.run, envelope.round, envelope.attempt)
        with self._lock:
            try:
                body = self._reply(key, envelope.body, data)
            except Refused as refused_by_mask:
                _log.warning("Round %d: %s", key.round, refused_by_mask)
                body = refused_by_mask.body()
        return body if isinstance(body, bytes) else sealed(key, body)

    def _reply(self, key: AttemptKey, body: Body, data: bytes) -> Body | bytes:
        """The answer, already sealed if it left before. Raises `Refused`, and changes nothing."""
        if self._stopping:
            return Refusal(Reason.STOPPED)
        if isinstance(body, Hello):
            return self._hello(key.run, body)
        if isinstance(body, RunOver):
            return self._run_over(key.run)
        return self._answer_in_attempt(key, body, data)

    @abstractmethod
    def _roster_digest(self) -> bytes:
        """The digest of the roster in force at this site."""

    @abstractmethod
    def _limit(self) -> int:
        """The most bytes that a message to this site may have."""

    @abstractmethod
    def _answer_in_attempt(self, key: AttemptKey, body: Body, data: bytes) -> Body | bytes:
        """The answer to a message of attempt `key`, whose sealed bytes are `data`.

        Raises `Refused`, and changes nothing.
        """

    @abstractmethod
    def _vouched(self, run: int, node: int, facts: SiteFacts) -> Body:
        """`facts` as they leave, for the node that a server knows the site by in `run`."""

    def _hello(self, run: int, hello: Hello) -> Body:
        refusal = self._unwelcome(run, hello)
        if refusal is not None:
            return refusal
        rules = self._rules
        facts = SiteFacts(
            name=rules.name,
            declared_patients=rules.declared_patients,
            study_digest=self._digest,
            base_digest=bytes.fromhex(rules.study.base.digest.removeprefix("sha256:")),
            layout_fingerprint=self._layout,
            parameters=self._parameters,
            epsilon_spent=self._account.spent,
            epsilon_budget=rules.policy.study_epsilon,
            delta=rules.study.privacy.delta,
            roster_digest=self._roster_digest(),
            noise_multiplier=rules.study.training.noise_multiplier,
            epsilon_schedule=self._account.schedule,
            newest_run=self._runs.newest,
            release=self._release,
        )
        return self._vouched(run, hello.node, facts)

    def _run_over(self, run: int) -> RunOver:
        """End what is under way in `run`, as a newer attempt would; its next run need not wait."""
        last = self._attempt
        if last is not None and last.key.run == run and last.is_open:
            last.end()
            # It is not said to be answered: then whoever watches would see whether its trainer is
            # still there, of an attempt that was not charged.
            _log.info("The coordinator has ended run %d.", run)
        return RunOver()

    def _unwelcome(self, run: int, hello: Hello) -> Refusal | None:
        """Why this site takes no part in what the coordinator is about to begin."""
        if hello.study_digest != self._digest:
            return self._named(Refusal(Reason.WRONG_STUDY), "A greeting")
        if hello.roster_digest != self._roster_digest():
            return self._named(Refusal(Reason.WRONG_ROSTER), "A greeting")
        return self._halted() or self._other_run(run) or self._account.too_long

    def _halted(self) -> Refusal | None:
        """Why nothing new begins here: the hospital has paused, or left. None if it has not."""
        refusal = self._wish().refusal
        return None if refusal is None else self._named(refusal, "What would begin")

    def _other_run(self, run: int) -> Refusal | None:
        """Why nothing of the run `run` is taken now; None if it may be."""
        refusal = self._runs.objection(run)
        last = self._attempt
        if refusal is None and last is not None and last.key.run != run and last.is_open:
            refusal = Refusal(Reason.RUN_OPEN, newest_run=last.key.run)
        return None if refusal is None else self._named(refusal, f"Run {run}")

    def _named(self, refusal: Refusal, what: str) -> Refusal:
        """Say at the site's own desk what was refused, once until the reason is another one."""
        if refusal.reason is not self._said:
            self._said = refusal.reason
            meaning = guidance_of(refusal.reason)
            newest = self._runs.newest
            text = "%s was refused: %s %s The newest run known here is %d."
            _log.warning(text, what, meaning.happened, meaning.next_step, newest)
        return refusal

    def _mismatch(self, start: StartTraining) -> Refusal | None:
        """Why this does not fit the agent's study and model; None if it does."""
        if start.study_digest != self._digest:
            return Refusal(Reason.WRONG_STUDY)
        if start.layout_fingerprint != self._layout or start.adapter.size != self._parameters:
            return Refusal(Reason.WRONG_LAYOUT)
        norm = float(np.linalg.norm(start.adapter.astype(np.float64)))
        fault = self._rules.adapter_fault(norm)
        if fault:
            _log.warning("Refused %s.", fault)
            return Refusal(Reason.POLICY)
        return None

    def _admitted(self, key: AttemptKey) -> Budgets | Refusal:
        """What the budgets will be after a new attempt, or why it may not begin."""
        other = self._halted() or self._other_run(key.run)
        if other is not None:
            return other
        if self._runs.has(key):
            return Refusal(Reason.NOT_NEWER)
        return self._account.admitted(key)

    def _next_slot(self) -> float:
        """The time slot of an attempt that begins now."""
        return self._clock() + self._rules.study.cohort.reply_slot

    def _intent(self, key: AttemptKey, mark: StepMark | None = None) -> Checkpoint:
        try:
            return self._account.intent(key, mark)
        finally:
            if self._account.knows(key):  # also where the ledger failed after writing it
                self._runs.add(key)

    def _work(self, key: AttemptKey, adapter: Vector, training: AttemptTraining) -> AttemptWork:
        return AttemptWork(training, adapter, key, self._progress, self._turn, self._clock)

    def _begin(self, attempt: OpenAttempt) -> None:
        """Make a journalled attempt the current one."""
        self._runs.add(attempt.key)
        if self._attempt is not None:
            self._attempt.end()
        self._attempt = attempt
        attempt.work.start()
        _log.info("Round %d, attempt %d: training.", attempt.key.round, attempt.key.attempt)

    def _looked(self, attempt: OpenAttempt) -> Trained | None:
        """The answer to the first look after the slot; None if training was late or failed.

        Charged before either is known: where the ledger cannot record it, nothing is revealed.
        """
        self._account.commit(attempt.key)  # durable before the first byte leaves
        self._say_charged(attempt)
        return attempt.work.result_by(attempt.slot)

    def _say_charged(self, attempt: OpenAttempt) -> None:
        """Tell the site's desk what a charged attempt has made of the budgets."""
        key, found = attempt.key, attempt.budgets
        _log.info(
            "Round %d charged; epsilon used of this study: %.4g of %.4g, of all: %.4g of %.4g.",
            *(key.round, found.study.after, found.study.budget),
            *(found.lifetime.after, found.lifetime.budget),
        )
        self._say_answered(attempt)

    def _say_answered(self, attempt: OpenAttempt) -> None:
        key = attempt.key
        self._progress.publish(ProgressEvent(key.run, key.round, key.attempt, ANSWERED, 0, 0))

    def _without_update(self, attempt: OpenAttempt) -> bytes:
        """End an attempt that has dropped out; only the site's own log says why."""
        failed = isinstance(attempt.work.result, Failure)
        _log.error(
            "Round %d: no update leaves; %s.",
            attempt.key.round,
            "training failed" if failed else "it was not ready when the study's reply_slot ended",
        )
        attempt.end()
        attempt.reply = sealed(attempt.key, Refusal(Reason.NO_UPDATE))
        return attempt.reply


def sealed(key: AttemptKey, body: Body) -> bytes:
    """`body` as it leaves, in the envelope of attempt `key`."""
    return seal(Envelope(key.run, key.round, key.attempt, body))
