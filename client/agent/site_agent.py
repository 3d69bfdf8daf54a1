"""The site agent's state machine: what it answers to each message, and what that changes.

Every transition is in this file. Guarantees, each with a test:

- `StartTraining` is checked in this order, and refused without any change of state: study,
  layout, repetition (same bytes: `Started` again; others: CONFLICT), newer than everything
  journalled for its run, rounds and attempts of the study, also summed over all its runs,
  attempts lost so far, noise, the budgets of the study and of all studies together.
  Then the intent is journalled durably, and only then does training touch the data.
- An `Update` leaves only after its charge was committed durably, and the same bytes leave again
  when it is collected again. So does the word that training failed, once it had touched the
  data: that it failed may depend on the data, for instance where a noised step overflowed.
- A cancelled, stopped or uncollected attempt leaves nothing and costs nothing; the policy bounds
  how many of them there may be.
- A newer `StartTraining` cancels an older attempt. No other message changes anything.
- `handle` never raises and never waits for training.
- Epsilon figures that leave are those of this study alone: what other studies spent is theirs.
- What it returns holds public facts, epsilon figures and noised vectors, and what training gave
  leaves at the study's public time slots only: which slot is all that tells of the draw.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.agent.boundary import Failure, contained
from client.agent.budget import Budgets, budgets, charged, study_epsilon, why_refused
from client.agent.progress import ANSWERED, ProgressEvent, ProgressSource
from client.agent.work import Clock, Turn, Work
from client.policy import SiteRules
from privacy.events import event_of
from privacy.ledger import AttemptKey, Charge, Ledger, State
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
from privacy.wire.codec import Vector
from privacy.wire.envelope import Envelope, open_envelope, refuse, seal, size_limit
from privacy.wire.reasons import Reason, RefusedMessage

if TYPE_CHECKING:
    from client.training import Trainer

_log = logging.getLogger("craftsfl.agent")


@dataclass(slots=True)
class _Attempt:
    """The attempt that the site works on, or has last worked on."""

    key: AttemptKey
    request: bytes  # SHA-256 of the whole StartTraining message
    budgets: Budgets  # as they are once it is charged
    work: Work
    began: float  # by the clock
    reply: bytes | None = None  # the sealed Update or Refusal, once it is committed


class SiteAgent:
    """Answers the coordinator for one study. `handle` and `stop` may be called from any thread."""

    def __init__(
        self,
        rules: SiteRules,
        ledger: Ledger,
        trainer: Trainer,
        progress: ProgressSource,
        clock: Clock = time.monotonic,
    ) -> None:
        study = rules.study
        self._rules = rules
        self._ledger = ledger
        self._trainer = trainer
        self._progress = progress
        self._clock = clock
        self._charge = Charge(study.digest(), event_of(study), study.privacy.delta)
        self._layout = trainer.layout.fingerprint()
        self._parameters = trainer.layout.parameters
        self._lock = threading.Lock()  # guards all that follows, and the ledger
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
        attempt.work.cancel()
        # An older attempt may still be in the physical batch in which it was cancelled.
        return attempt.work.wait(timeout) and self._turn.wait_free(timeout)

    def _answer(self, data: bytes) -> bytes:
        try:
            envelope = open_envelope(data, limit=size_limit(self._parameters))
        except RefusedMessage as refused:
            return refuse(data, refused.reason)
        key = AttemptKey(envelope.run, envelope.round, envelope.attempt)
        with self._lock:
            body: Body | bytes = Refusal(Reason.UNKNOWN_KIND)
            if self._stopping:
                body = Refusal(Reason.STOPPED)
            elif isinstance(envelope.body, Hello):
                body = self._hello(envelope.body)
            elif isinstance(envelope.body, StartTraining):
                body = self._start(key, envelope.body, hashlib.sha256(data).digest())
            elif isinstance(envelope.body, Collect):
                body = self._collect(key)
        return body if isinstance(body, bytes) else _sealed(key, body)

    def _hello(self, hello: Hello) -> Body:
        if hello.study_digest != self._charge.study_digest:
            return Refusal(Reason.WRONG_STUDY)
        rules = self._rules
        return SiteFacts(
            name=rules.name,
            declared_patients=rules.declared_patients,
            study_digest=self._charge.study_digest,
            base_digest=bytes.fromhex(rules.study.base.digest.removeprefix("sha256:")),
            layout_fingerprint=self._layout,
            parameters=self._parameters,
            epsilon_spent=study_epsilon(
                rules.policy, charged(self._ledger.entries()), self._charge.study_digest
            ),
            epsilon_budget=rules.policy.study_epsilon,
            delta=rules.study.privacy.delta,
            masked=False,
        )

    def _start(self, key: AttemptKey, start: StartTraining, request: bytes) -> Body:
        if start.study_digest != self._charge.study_digest:
            return Refusal(Reason.WRONG_STUDY)
        if start.layout_fingerprint != self._layout or start.adapter.size != self._parameters:
            return Refusal(Reason.WRONG_LAYOUT)
        last = self._attempt
        if last is not None and last.key == key:
            return Started() if last.request == request else Refusal(Reason.CONFLICT)
        if key.run in self._newest and key <= self._newest[key.run]:
            return Refusal(Reason.NOT_NEWER)
        found = budgets(self._rules.policy, self._ledger.entries(), self._charge)
        refusal = self._refusal(key, found)
        if refusal is not None:
            return refusal
        self._ledger.intent(key, self._charge)
        self._remember(key)
        self._begin(key, request, found, start.adapter)
        return Started()

    def _refusal(self, key: AttemptKey, found: Budgets) -> Refusal | None:
        """Why policy or budget forbid this attempt; None if they do not."""
        study, policy = self._rules.study, self._rules.policy
        if not 1 <= key.round <= study.rounds or not 1 <= key.attempt <= study.privacy.attempts:
            return Refusal(Reason.POLICY)
        too_many = self._too_many()
        if too_many:
            _log.warning("Round %d refused: %s.", key.round, too_many)
            return Refusal(Reason.POLICY)
        if self._charge.event.no_privacy:
            return None if policy.allow_no_privacy else Refusal(Reason.POLICY)
        if not found.fit:
            why = why_refused(policy, found, self._ledger.entries(), self._charge)
            _log.warning("Round %d refused: %s.", key.round, why)
            line = found.study
            return Refusal(Reason.BUDGET, line.spent, line.after, line.budget)
        return None

    def _too_many(self) -> str:
        """Why there may be no further attempt, whatever it costs; "" if there may.

        A coordinator that begins a study anew, with new run numbers, gains nothing by it.
        """
        study, entries = self._rules.study, self._ledger.entries()
        own = sum(entry.charge.study_digest == self._charge.study_digest for entry in entries)
        if own >= study.rounds * study.privacy.attempts:
            return (
                f"the study has had all of its {study.rounds} rounds x "
                f"{study.privacy.attempts} attempts, over all runs"
            )
        lost = sum(entry.state is State.INTENT for entry in entries)
        if lost >= self._rules.policy.max_lost_attempts:
            return (
                f"{lost} attempts were started and never collected; max_lost_attempts in "
                "policy.toml allows no more"
            )
        return ""

    def _begin(self, key: AttemptKey, request: bytes, found: Budgets, adapter: Vector) -> None:
        work = Work(self._trainer, adapter, key, self._progress, self._turn, self._clock)
        if self._attempt is not None:
            self._attempt.work.cancel()
        self._attempt = _Attempt(key, request, found, work, began=self._clock())
        work.start()
        _log.info("Round %d, attempt %d: training.", key.round, key.attempt)

    def _collect(self, key: AttemptKey) -> Body | bytes:
        attempt = self._attempt
        if attempt is None or attempt.key != key:
            return Refusal(Reason.NOT_STARTED)
        if attempt.reply is None:
            result = attempt.work.result
            if result is None or not self._in_slot(attempt):
                return Running()
            attempt.reply = self._concluded(attempt, result)
            place = (key.run, key.round, key.attempt)
            self._progress.publish(ProgressEvent(*place, ANSWERED, 0, 0))
        return attempt.reply

    def _in_slot(self, attempt: _Attempt) -> bool:
        """Whether a time slot has begun since training ended; the first begins after one slot."""
        finished, slot = attempt.work.finished_at, self._rules.study.cohort.reply_slot
        if finished is None:
            return False
        slots = max(1, math.ceil((finished - attempt.began) / slot))
        return self._clock() >= attempt.began + slots * slot

    def _concluded(self, attempt: _Attempt, result: Vector | Failure) -> bytes:
        """The attempt's last reply; what depends on the data is charged before it leaves."""
        key, found = attempt.key, attempt.budgets
        update = self._update(result, found.study.after)
        reply = _sealed(key, update or Refusal(Reason.TRAINING_FAILED))
        if update is not None or attempt.work.touched:
            self._ledger.commit(key)  # durable before the first byte leaves
            _log.info(
                "Round %d %s; epsilon of this study is now %.4g of %.4g, of all %.4g of %.4g.",
                *(key.round, "finished" if update is not None else "failed, which is charged too"),
                *(found.study.after, found.study.budget),
                *(found.for_ever.after, found.for_ever.budget),
            )
        return reply

    def _update(self, result: Vector | Failure, epsilon_after: float) -> Update | None:
        if isinstance(result, Failure) or result.shape != (self._parameters,):
            return None
        try:
            return Update(self._layout, result, epsilon_after)
        except RefusedMessage:  # not float32, or not finite
            return None

    def _remember(self, key: AttemptKey) -> None:
        self._newest[key.run] = max(key, self._newest.get(key.run, key))


def _sealed(key: AttemptKey, body: Body) -> bytes:
    return seal(Envelope(key.run, key.round, key.attempt, body))
