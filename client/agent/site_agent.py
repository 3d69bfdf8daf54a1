"""The site agent's state machine: what it answers to each message, and what that changes.

Every transition is in this file; those of one masked attempt are `privacy.secagg.client`'s. With
`TrainMasked` begins a masked attempt, of which the exchanges follow; `StartTraining` and `Collect`
are the same without masks, and only an agent that was made `plain` (in one process) knows them.
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

import hashlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from client.agent.admission import Account
from client.agent.boundary import Failure, contained
from client.agent.budget import Budgets
from client.agent.masking import Masking
from client.agent.progress import ANSWERED, ProgressEvent, ProgressSource
from client.agent.work import Clock, Trained, Training, Turn, Work, checked
from client.policy import SiteRules
from privacy.errors import PolicyError
from privacy.events import event_of
from privacy.ledger import AttemptKey, Charge, Ledger
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
    from client.training import Trainer

_log = logging.getLogger("craftsfl.agent")


@dataclass(slots=True)
class _Attempt:
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


class SiteAgent:
    """Answers the coordinator for one study. `handle` and `stop` may be called from any thread."""

    def __init__(
        self,
        rules: SiteRules,
        ledger: Ledger,
        trainer: Trainer,
        progress: ProgressSource,
        clock: Clock = time.monotonic,
        *,
        masking: Masking | None = None,
        plain: bool = False,
    ) -> None:
        """Masked with `masking`; without it only where `plain` says so and the study is plain.

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
        charge = Charge(self._digest, event_of(study), study.privacy.delta)
        self._layout = trainer.layout.fingerprint()
        self._parameters = trainer.layout.parameters
        self.limit = _limit(rules, self._parameters, masked=masking is not None)
        self._lock = threading.Lock()  # guards all that follows, and the ledger
        self._account = Account(rules, ledger, charge)
        self._newest: dict[int, AttemptKey] = {}
        for entry in ledger.entries():
            self._remember(entry.key)
        self._attempt: _Attempt | None = None
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
        return body if isinstance(body, bytes) else _sealed(key, body)

    def _reply(self, key: AttemptKey, body: Body, data: bytes) -> Body | bytes:
        """The answer, sealed already where it has left before. Raises `Refused`, unchanged."""
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
            return last.client.receive(body.offer)  # once more, or a second offer: refused
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
        """An exchange of a masked attempt; the one that collects the update waits for its slot."""
        attempt = self._attempt
        if attempt is None or attempt.key != key or attempt.client is None:
            return Refusal(Reason.NOT_STARTED)
        if attempt.reply is not None:
            return attempt.reply  # there was no update: there will be nothing to unmask
        answer = attempt.client.receive(body)
        if isinstance(answer, Running) and self._clock() >= attempt.slot:
            return self._masked(attempt, attempt.client, body)
        if isinstance(answer, Consistency):
            masking.note_signed(key.round, attempt.client)
        return answer

    def _masked(self, attempt: _Attempt, client: SecAggClient, deliver: Body) -> Body | bytes:
        """The masked update, or the word that there is none; charged before either leaves."""
        result = self._looked(attempt)
        if result is None:
            return self._without_update(attempt)
        client.provide(cast(Lanes, result))
        return client.receive(deliver)

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

    def _journalled(self, key: AttemptKey, offer: Offer, masking: Masking) -> Checkpoint:
        """Where the ledger stands once the attempt's cohort and its intent are on disk."""
        masking.note_offer(offer)
        return self._intent(key)

    def _intent(self, key: AttemptKey) -> Checkpoint:
        try:
            return self._account.intent(key)
        finally:
            if self._account.knows(key):  # also where the ledger failed behind its record
                self._remember(key)

    def _work(self, key: AttemptKey, adapter: Vector, training: Training) -> Work:
        return Work(training, adapter, key, self._progress, self._turn, self._clock)

    def _begin(self, attempt: _Attempt) -> None:
        """Make a journalled attempt the agent's own."""
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

    def _without_update(self, attempt: _Attempt) -> bytes:
        """The end of an attempt that has dropped out: why, only the site's own log says."""
        failed = isinstance(attempt.work.result, Failure)
        _log.error(
            "Round %d: no update leaves; %s.",
            attempt.key.round,
            "training failed" if failed else "it was not there when the study's reply_slot ended",
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
