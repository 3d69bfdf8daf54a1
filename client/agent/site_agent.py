"""The site agent's state machine: what it answers to each message, and what that changes.

Every transition is in this file, except those of one masked attempt (`privacy.secagg.client`). A
masked attempt begins with `TrainMasked`, and its exchanges follow; `StartTraining` and `Collect`
are the same without masks, and only an agent that was made `plain` (in one process) knows them.
Guarantees, each with a test:

- What begins an attempt is checked in this order, and refused without any change of state: study,
  layout, repetition (same bytes: the same answer; others: CONFLICT), newer than everything
  journalled for its run, rounds and attempts of the study, also summed over all its runs,
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
- A newer attempt cancels an older one and discards its secrets, which are only in memory: an agent
  that was restarted knows nothing of an open attempt, and the site has dropped out of it.
- `handle` never raises and never waits for training.
- Epsilon figures that leave are those of this study alone, and no answer waits while other
  studies' spending is added up (`client.agent.admission`).
- Answers contain public facts, epsilon figures, keys, shares and noised vectors. Of the draw they
  reveal only whether training was done when the slot came, in exchange for a charge.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from client.agent.admission import Account
from client.agent.boundary import Failure, contained
from client.agent.masking import Masking
from client.agent.progress import ANSWERED, ProgressEvent, ProgressSource
from client.agent.work import AttemptTraining, AttemptWork, Clock, Trained, Turn, checked
from client.policy import SiteRules
from privacy.budget import Budgets
from privacy.errors import PolicyError
from privacy.ledger import AttemptKey, Ledger
from privacy.secagg.client import SecAggClient
from privacy.secagg.refusals import Refused
from privacy.wire.bodies import (
    Body,
    Collect,
    Hello,
    Refusal,
    Running,
    SiteFacts,
    Started,
    StartTraining,
    Update,
)
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.codec import Vector
from privacy.wire.envelope import Envelope, open_envelope, refuse, seal, size_limit
from privacy.wire.offer import Offer, TrainMasked
from privacy.wire.reasons import Reason, RefusedMessage
from privacy.wire.secagg import (
    Advertisements,
    Consistency,
    Deliver,
    Lanes,
    Survivors,
    UnmaskRequest,
    masked_size_limit,
)

if TYPE_CHECKING:
    from client.training import RoundTrainer

_log = logging.getLogger("craftsfl.agent")


@dataclass(slots=True)
class _Attempt:
    """The attempt that the site is working on, or worked on last."""

    key: AttemptKey
    request: bytes  # SHA-256 of the whole message that began it
    budgets: Budgets  # after it is charged
    work: AttemptWork
    slot: float  # by the clock: until then the answer is "running", whatever it does
    client: SecAggClient | None = None  # of a masked attempt
    reply: bytes | None = None  # once charged: the sealed Update, or the answer "no update"

    def end(self) -> None:
        """From now on, nothing of it leaves."""
        self.work.cancel()
        if self.client is not None:
            self.client.close()


class SiteAgent:
    """Answers the coordinator for one study. `handle` and `stop` may be called from any thread."""

    def __init__(
        self,
        rules: SiteRules,
        ledger: Ledger,
        trainer: RoundTrainer,
        progress: ProgressSource,
        clock: Clock = time.monotonic,
        *,
        masking: Masking | None = None,
        plain: bool = False,
    ) -> None:
        """Masked with `masking`; without it only where `plain` is set and the study is plain.

        Raises `PolicyError` where these contradict each other or the study.
        """
        study = rules.study
        if not plain == (masking is None) == (not study.masked):
            raise PolicyError(
                f"The study {study.name} and this agent do not agree on secure aggregation.",
                "Give the agent what it masks with; plain studies are for one process only.",
            )
        self._masking = masking
        self._rules = rules
        self._trainer = trainer
        self._progress = progress
        self._clock = clock
        self._digest = study.digest()
        self._layout = trainer.layout.fingerprint()
        self._parameters = trainer.layout.parameters
        self.limit = _limit(rules, self._parameters, masked=masking is not None)
        self._lock = threading.Lock()  # guards all that follows, and the ledger
        self._account = Account(rules, ledger)
        self._newest: dict[int, AttemptKey] = {}
        for entry in ledger.entries():
            self._remember(entry.key)
        self._attempt: _Attempt | None = None
        self._turn = Turn()
        self._stopping = False

    def handle(self, data: bytes) -> bytes:
        """The sealed answer to one sealed message; never raises, whatever the bytes are."""
        reply = contained(lambda: self._answer(data))
        if isinstance(reply, Failure):
            _log.error("A message could not be answered: %s", reply.text)
            return refuse(data, Reason.INTERNAL)
        return reply

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
        key = AttemptKey(envelope.run, envelope.round, envelope.attempt)
        with self._lock:
            try:
                body = self._reply(key, envelope.body, data)
            except Refused as refused_by_mask:
                _log.warning("Round %d: %s", key.round, refused_by_mask)
                body = refused_by_mask.body()
        return body if isinstance(body, bytes) else _sealed(key, body)

    def _reply(self, key: AttemptKey, body: Body, data: bytes) -> Body | bytes:
        """The answer, already sealed if it left before. Raises `Refused`, and changes nothing."""
        if self._stopping:
            return Refusal(Reason.STOPPED)
        match body:
            case Hello():
                return self._hello(key.run, body)
            case StartTraining() if self._masking is None:
                return self._start(key, body, hashlib.sha256(data).digest())
            case Collect() if self._masking is None:
                return self._collect(key)
            case TrainMasked() if self._masking is not None:
                return self._train_masked(key, body, self._masking, hashlib.sha256(data).digest())
            case Advertisements() | Deliver() | Survivors() | UnmaskRequest() if (
                self._masking is not None
            ):
                return self._exchange(key, body, self._masking)
        return Refusal(Reason.UNKNOWN_KIND)

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
            masked=self._masking is not None,
        )
        if self._masking is None:
            return facts
        return self._masking.membership.signed(run, hello.node, facts)

    def _start(self, key: AttemptKey, start: StartTraining, request: bytes) -> Body:
        refusal = self._mismatch(start)
        if refusal is not None:
            return refusal
        last = self._attempt
        if last is not None and last.key == key:
            return Started() if last.request == request else Refusal(Reason.CONFLICT)
        found = self._admitted(key)
        if isinstance(found, Refusal):
            return found
        self._intent(key)
        work = self._work(key, start.adapter, checked(self._trainer.train))
        self._begin(_Attempt(key, request, found, work, self._next_slot()))
        return Started()

    def _train_masked(
        self, key: AttemptKey, body: TrainMasked, masking: Masking, request: bytes
    ) -> Body:
        refusal = self._mismatch(body.start)
        if refusal is not None:
            return refusal
        last = self._attempt
        if last is not None and last.key == key and last.client is not None:
            if last.request != request and body.offer == last.client.offer:
                return Refusal(Reason.CONFLICT)
            return last.client.receive(body.offer)  # a repetition, or a second offer: refused
        found = self._admitted(key)
        if isinstance(found, Refusal):
            return found
        client = masking.client(
            key, body.start, self._newest, lambda: self._journalled(key, body.offer, masking)
        )
        masking.check_cohort(body.offer)
        advertise = client.receive(body.offer)
        training = masking.training(self._trainer, client.encoding)
        work = self._work(key, body.start.adapter, training)
        self._begin(_Attempt(key, request, found, work, self._next_slot(), client))
        return advertise

    def _exchange(self, key: AttemptKey, body: Body, masking: Masking) -> Body | bytes:
        """An exchange of a masked attempt; the update can be collected only from its slot on."""
        attempt = self._attempt
        if attempt is None or attempt.key != key or attempt.client is None:
            return Refusal(Reason.NOT_STARTED)
        if attempt.reply is not None:
            return attempt.reply  # there was no update, so there is nothing to unmask
        answer = attempt.client.receive(body)
        if isinstance(answer, Running) and self._clock() >= attempt.slot:
            return self._masked(attempt, attempt.client, body)
        if isinstance(answer, Consistency):
            masking.note_signed(key.round, attempt.client)
        return answer

    def _masked(self, attempt: _Attempt, client: SecAggClient, deliver: Body) -> Body | bytes:
        """The masked update, or the answer "no update"; charged before either leaves."""
        result = self._looked(attempt)
        if result is None:
            return self._without_update(attempt)
        client.provide(cast(Lanes, result))
        return client.receive(deliver)

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
        if key.run in self._newest and key <= self._newest[key.run]:
            return Refusal(Reason.NOT_NEWER)
        return self._account.admitted(key)

    def _next_slot(self) -> float:
        """The time slot of an attempt that begins now."""
        return self._clock() + self._rules.study.cohort.reply_slot

    def _journalled(self, key: AttemptKey, offer: Offer, masking: Masking) -> Checkpoint:
        """Where the ledger stands when the attempt's cohort and its intent are on disk."""
        masking.note_offer(offer)
        return self._intent(key)

    def _intent(self, key: AttemptKey) -> Checkpoint:
        try:
            return self._account.intent(key)
        finally:
            if self._account.knows(key):  # also where the ledger failed after writing it
                self._remember(key)

    def _work(self, key: AttemptKey, adapter: Vector, training: AttemptTraining) -> AttemptWork:
        return AttemptWork(training, adapter, key, self._progress, self._turn, self._clock)

    def _begin(self, attempt: _Attempt) -> None:
        """Make a journalled attempt the current one."""
        self._remember(attempt.key)
        if self._attempt is not None:
            self._attempt.end()
        self._attempt = attempt
        attempt.work.start()
        _log.info("Round %d, attempt %d: training.", attempt.key.round, attempt.key.attempt)

    def _collect(self, key: AttemptKey) -> Body | bytes:
        attempt = self._attempt
        if attempt is None or attempt.key != key:
            return Refusal(Reason.NOT_STARTED)
        if attempt.reply is None:
            if self._clock() < attempt.slot:
                return Running()
            result = self._looked(attempt)
            if result is None:
                return self._without_update(attempt)
            after = attempt.budgets.study.after
            attempt.reply = _sealed(key, Update(self._layout, cast(Vector, result), after))
        return attempt.reply

    def _looked(self, attempt: _Attempt) -> Trained | None:
        """The answer to the first look after the slot; None if training was late or failed.

        Charged before either is known: where the ledger cannot record it, nothing is revealed.
        """
        self._account.commit(attempt.key)  # durable before the first byte leaves
        key, found = attempt.key, attempt.budgets
        _log.info(
            "Round %d charged; epsilon used of this study: %.4g of %.4g, of all: %.4g of %.4g.",
            *(key.round, found.study.after, found.study.budget),
            *(found.lifetime.after, found.lifetime.budget),
        )
        self._progress.publish(ProgressEvent(key.run, key.round, key.attempt, ANSWERED, 0, 0))
        return attempt.work.result_by(attempt.slot)

    def _without_update(self, attempt: _Attempt) -> bytes:
        """End an attempt that has dropped out; only the site's own log says why."""
        failed = isinstance(attempt.work.result, Failure)
        _log.error(
            "Round %d: no update leaves; %s.",
            attempt.key.round,
            "training failed" if failed else "it was not ready when the study's reply_slot ended",
        )
        attempt.end()
        attempt.reply = _sealed(attempt.key, Refusal(Reason.NO_UPDATE))
        return attempt.reply

    def _remember(self, key: AttemptKey) -> None:
        self._newest[key.run] = max(key, self._newest.get(key.run, key))


def _sealed(key: AttemptKey, body: Body) -> bytes:
    return seal(Envelope(key.run, key.round, key.attempt, body))


def _limit(rules: SiteRules, parameters: int, *, masked: bool) -> int:
    """The most bytes that a message to this site may have."""
    if not masked:
        return size_limit(parameters)
    return masked_size_limit(len(rules.study.sites), 0, parameters)
