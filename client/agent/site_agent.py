"""The site agent's state machine: what it answers to each message, and what that changes.

What all agents have in common is in this file. A hospital's agent is a `MaskedAgent`, which adds
the exchanges of a masked attempt (`client.agent.masked_agent`); a `PlainAgent` shows its update to
the coordinator, and serves in one process only (`client.agent.plain_agent`).
Guarantees, each with a test:

- What begins an attempt is checked in this order, and refused without any change of state: study,
  layout, repetition (same bytes: the same answer; others: CONFLICT), newer than everything
  journalled for its run, rounds and attempts of the study, also summed over all its runs,
  attempts lost so far, noise, the budgets of the study and of all studies together, the offer.
  Then the intent is journalled durably, and only then do keys leave and training touch the data.
- An attempt has one time slot, `reply_slot` after it began. Before it every look is answered
  `Running`, whatever training does. The first look after it is charged, durably, before it is even
  asked what training gave; then the update leaves, if it was there when the slot came, or the word
  that there is none, and the same bytes leave again when it is looked at again. A late update
  never leaves; that training failed and that it was late are told by the same bytes.
- An attempt that is superseded before it was looked at after its slot costs nothing, because
  nothing was told of it; the policy bounds how many of them there may be. One that has to wait
  until an older one lets go of the model has its own slot all the same. One that was under way
  when the agent ended is charged when the next agent starts.
- A newer attempt cancels an older one and forgets its secrets, which are in memory only: an agent
  that was started anew knows nothing of an open attempt, and the site has dropped out of it.
- `handle` never raises and never waits for training.
- Epsilon figures that leave are those of this study alone, and no answer waits for what other
  studies spent to be added up (`client.agent.admission`).
- What it returns holds public facts, epsilon figures, keys, shares and noised vectors. Of the draw
  it tells whether training was done when the slot came, in exchange for a charge, and no more.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from client.agent.admission import Account
from client.agent.boundary import Failure, contained
from client.agent.budget import Budgets
from client.agent.progress import ANSWERED, ProgressEvent, ProgressSource
from client.agent.work import Clock, Trained, Training, Turn, Work
from client.policy import SiteRules
from privacy.errors import PolicyError
from privacy.events import event_of
from privacy.ledger import AttemptKey, Charge, Ledger
from privacy.secagg.client import SecAggClient
from privacy.secagg.refusals import Refused
from privacy.wire.bodies import (
    Body,
    Hello,
    Refusal,
    SiteFacts,
    StartTraining,
)
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.codec import Vector
from privacy.wire.envelope import Envelope, open_envelope, refuse, seal
from privacy.wire.reasons import Reason, RefusedMessage

if TYPE_CHECKING:
    from client.training import Trainer

_log = logging.getLogger("craftsfl.agent")


@dataclass(slots=True)
class OpenAttempt:
    """The attempt that the site works on, or has last worked on."""

    key: AttemptKey
    request: bytes  # SHA-256 of the whole message that began it
    budgets: Budgets  # as they are once it is charged
    work: Work
    slot: float  # by the clock: until then it is running, whatever it does
    client: SecAggClient | None = None  # of a masked attempt
    reply: bytes | None = None  # the sealed Update, or the word that there is none, once charged

    def end(self) -> None:
        """Let nothing of it leave any more."""
        self.work.cancel()
        if self.client is not None:
            self.client.close()


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What an agent for the study of `rules` is made of; everything that it needs is ready."""

    rules: SiteRules
    ledger: Ledger
    trainer: Trainer
    progress: ProgressSource = field(default_factory=ProgressSource)
    clock: Clock = time.monotonic


class SiteAgent(ABC):
    """Answers the coordinator for one study. `handle` and `stop` may be called from any thread."""

    masked: ClassVar[bool]  # whether what leaves is masked

    def __init__(self, parts: AgentParts) -> None:
        """Raises `PolicyError` unless the study asks for what this agent does."""
        rules, trainer = parts.rules, parts.trainer
        study = rules.study
        if study.masked != self.masked:
            raise PolicyError(
                f"The study {study.name} and this agent do not agree on secure aggregation.",
                "Give the agent what it masks with; plain studies are for one process only.",
            )
        self._rules = rules
        self._trainer = trainer
        self._progress = parts.progress
        self._clock = parts.clock
        self._digest = study.digest()
        charge = Charge(self._digest, event_of(study), study.privacy.delta)
        self._layout = trainer.layout.fingerprint()
        self._parameters = trainer.layout.parameters
        self.limit = self._limit()
        self._lock = threading.Lock()  # guards all that follows, and the ledger
        self._account = Account(rules, parts.ledger, charge)
        self._newest: dict[int, AttemptKey] = {}
        for entry in parts.ledger.entries():
            self._remember(entry.key)
        self._attempt: OpenAttempt | None = None
        self._turn = Turn()
        self._stopping = False

    def handle(self, data: bytes) -> bytes:
        """The sealed answer to one sealed message; whatever the bytes are, it never raises."""
        reply = contained(lambda: self._answer(data))
        if isinstance(reply, Failure):
            _log.error("A message could not be answered: %s", reply.text)
            return refuse(data, Reason.INTERNAL)
        return reply

    def stop(self, timeout: float) -> bool:
        """Refuse everything from now on and end training; True if it ended within `timeout` s."""
        with self._lock:
            self._stopping = True
            attempt = self._attempt
        if attempt is None:
            return True
        attempt.end()
        # An older attempt may still be in the physical batch in which it was cancelled.
        return attempt.work.wait(timeout) and self._turn.wait_free(timeout)

    def _answer(self, data: bytes) -> bytes:
        try:
            envelope = open_envelope(data, limit=self.limit)
        except RefusedMessage as refused:
            return refuse(data, refused.reason)
        key = AttemptKey(envelope.run, envelope.round, envelope.attempt)
        with self._lock:
            try:
                body = self._reply(key, envelope.body, data)
            except Refused as refused_by_mask:
                _log.warning("Round %d: %s", key.round, refused_by_mask)
                body = refused_by_mask.body()
        return body if isinstance(body, bytes) else sealed(key, body)

    def _reply(self, key: AttemptKey, body: Body, data: bytes) -> Body | bytes:
        """The answer, sealed already where it has left before. Raises `Refused`, unchanged."""
        if self._stopping:
            return Refusal(Reason.STOPPED)
        if isinstance(body, Hello):
            return self._hello(key.run, body)
        return self._answer_in_attempt(key, body, data)

    @abstractmethod
    def _limit(self) -> int:
        """The most bytes that a message to this site may have."""

    @abstractmethod
    def _answer_in_attempt(self, key: AttemptKey, body: Body, data: bytes) -> Body | bytes:
        """The answer to a message of attempt `key`, whose sealed bytes are `data`.

        Raises `Refused`, unchanged.
        """

    @abstractmethod
    def _vouched(self, run: int, node: int, facts: SiteFacts) -> Body:
        """`facts` as they leave, for the node that a server knows the site by in `run`."""

    def _hello(self, run: int, hello: Hello) -> Body:
        if hello.study_digest != self._digest:
            return Refusal(Reason.WRONG_STUDY)
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
            masked=self.masked,
        )
        return self._vouched(run, hello.node, facts)

    def _mismatch(self, start: StartTraining) -> Refusal | None:
        """Why this is not for the agent's study and model; None if it is."""
        if start.study_digest != self._digest:
            return Refusal(Reason.WRONG_STUDY)
        if start.layout_fingerprint != self._layout or start.adapter.size != self._parameters:
            return Refusal(Reason.WRONG_LAYOUT)
        norm = float(np.linalg.norm(start.adapter.astype(np.float64)))
        most = self._rules.policy.max_adapter_norm
        if not norm <= most:
            _log.warning(
                "Refused an adapter of norm %.4g: max_adapter_norm in policy.toml is %g.",
                norm,
                most,
            )
            return Refusal(Reason.POLICY)
        return None

    def _admitted(self, key: AttemptKey) -> Budgets | Refusal:
        """What the budgets will be after a new attempt, or why there may be none."""
        if key.run in self._newest and key <= self._newest[key.run]:
            return Refusal(Reason.NOT_NEWER)
        return self._account.admitted(key)

    def _next_slot(self) -> float:
        """The time slot of an attempt that begins now."""
        return self._clock() + self._rules.study.cohort.reply_slot

    def _intent(self, key: AttemptKey) -> Checkpoint:
        try:
            return self._account.intent(key)
        finally:
            if self._account.knows(key):  # also where the ledger failed behind its record
                self._remember(key)

    def _work(self, key: AttemptKey, adapter: Vector, training: Training) -> Work:
        return Work(training, adapter, key, self._progress, self._turn, self._clock)

    def _begin(self, attempt: OpenAttempt) -> None:
        """Make a journalled attempt the agent's own."""
        self._remember(attempt.key)
        if self._attempt is not None:
            self._attempt.end()
        self._attempt = attempt
        attempt.work.start()
        _log.info("Round %d, attempt %d: training.", attempt.key.round, attempt.key.attempt)

    def _looked(self, attempt: OpenAttempt) -> Trained | None:
        """What the first look after the slot gets; None if training was late or failed.

        Charged before either is looked at: a look that the ledger cannot take is told neither.
        """
        self._account.commit(attempt.key)  # durable before the first byte leaves
        key, found = attempt.key, attempt.budgets
        _log.info(
            "Round %d charged; epsilon used of this study: %.4g of %.4g, of all: %.4g of %.4g.",
            *(key.round, found.study.after, found.study.budget),
            *(found.for_ever.after, found.for_ever.budget),
        )
        self._progress.publish(ProgressEvent(key.run, key.round, key.attempt, ANSWERED, 0, 0))
        return attempt.work.result_by(attempt.slot)

    def _without_update(self, attempt: OpenAttempt) -> bytes:
        """The end of an attempt that has dropped out: why, only the site's own log says."""
        failed = isinstance(attempt.work.result, Failure)
        _log.error(
            "Round %d: no update leaves; %s.",
            attempt.key.round,
            "training failed" if failed else "it was not there when the study's reply_slot ended",
        )
        attempt.end()
        attempt.reply = sealed(attempt.key, Refusal(Reason.NO_UPDATE))
        return attempt.reply

    def _remember(self, key: AttemptKey) -> None:
        self._newest[key.run] = max(key, self._newest.get(key.run, key))


def sealed(key: AttemptKey, body: Body) -> bytes:
    """`body` as it leaves, in the envelope of attempt `key`."""
    return seal(Envelope(key.run, key.round, key.attempt, body))
