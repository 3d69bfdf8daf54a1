"""A site's side of sealed steps, sans I/O: every transition is in this file.

One machine serves one run in one process; its keys are in memory only, so a restarted site opens a
new session. Of a session:

    stage     takes          of whom       returns       then
    CLOSED    SessionOffer   coordinator   SessionKey    OFFERED
    OFFERED   SessionKeys    (one site)    SessionGroup  OFFERED    this site deals
    OFFERED   SealedStep     coordinator   Running       PENDING    with the session's opening
    IDLE      SealedStep     coordinator   Running       PENDING
    PENDING   the same       coordinator   Running       PENDING    before the slot
    PENDING   the same       coordinator   Sealed        IDLE       form DIRECT, with a vector
    PENDING   the same       coordinator   SealedReady   READY      form READY, with a vector
    PENDING   the same       coordinator   NO_VECTOR     IDLE       without one
    READY     SealedCollect  all of K      Sealed        IDLE
    any       SealedStep of a later attempt: as in IDLE; a later SessionOffer: as in CLOSED
    any but CLOSED  SealedClose  coordinator  SealedConfirmed, and nothing has changed

Guarantees, each with a test:

- What is not in the table raises `Refused` and changes nothing; so does what fails a check.
- A request that has been answered, repeated with the same signed bytes, has the same answer.
- (run, step, attempt), e and the session's number only ever go up, over restarts too: they are in
  the journal before a key leaves or a mask is made. One label for one attempt, one vector for
  one label.
- Keys are at e before a mask of e is made, and at e + 1 before anything of e leaves.
- The attempt is charged before its vector leaves, and with it the hash of what leaves.
- What a step says of the consortium's log is held against what the site has seen of it, and
  recorded before the attempt is journalled.
- The label is worked out from the site's own data; an adapter, a state or a history that is not the
  site's own is refused before anything is journalled. So is an opened sum that the MAC
  refutes.
"""

# Why: docs/adr/0040-sealed-steps.md

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.errors import SecAggError
from privacy.identity import Identity
from privacy.secagg.client import Effects
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.attempt import (
    OpenStep,
    PendingStep,
    StepSecrets,
    check_commitments,
    sent_digest,
)
from privacy.secagg.sealed.closing import FinalOf, check_close, check_final, confirmed
from privacy.secagg.sealed.epochs import ROOT_BYTES
from privacy.secagg.sealed.journal import SealedIntent, SealedJournal
from privacy.secagg.sealed.label import (
    ChainDigests,
    SealedStudy,
    epoch_of,
    label_of,
    session_digest,
)
from privacy.secagg.sealed.memory import SumMemory
from privacy.secagg.sealed.opening import check_offer, check_step_signature
from privacy.secagg.sealed.rules import (
    SealedPolicy,
    changes_with,
    check_chain,
    check_newer,
    check_slot,
)
from privacy.secagg.sealed.session import SiteSession
from privacy.secagg.witness import Witness
from privacy.wire.bodies import Running
from privacy.wire.checks import Check
from privacy.wire.closing import SealedClose, SealedConfirmed
from privacy.wire.sealed import OpenedSum, Sealed, SealedCollect, SealedReady, SealedStep, StepForm
from privacy.wire.session import SessionGroup, SessionKey, SessionKeys, SessionOffer

ChainOf: TypeAlias = Callable[[SealedStep], ChainDigests]


class SealedClient:
    """All sessions of one run at one site. Not thread-safe; the caller holds a lock."""

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        study: SealedStudy,
        policy: SealedPolicy,
        journal: SealedJournal,
        witness: Witness,
        effects: Effects | None = None,
        memory: SumMemory | None = None,
    ) -> None:
        """`memory`: of an earlier machine of this run in this process.

        Raises `SecAggError` if the roster is not the study's or does not list the site.
        """
        site = roster.site_of(identity.public)
        if roster.digest() != study.roster_digest or site is None:
            raise SecAggError(
                "The roster is not the one that the study pins, or does not list this site.",
                "Compare the fingerprints; take the roster that the consortium has signed.",
            )
        self.site = site
        self._identity = identity
        self._roster = roster
        self._study = study
        self._policy = policy
        self._journal = journal
        self._witness = witness
        self._effects = effects or Effects()
        self._session: SiteSession | None = None
        self._open: OpenStep | None = None
        self._memory = memory or SumMemory(site)

    @property
    def pending(self) -> PendingStep | None:
        """The attempt that was taken up last in this session, answered or not."""
        return None if self._open is None else self._open.pending

    @property
    def session(self) -> int:
        """The number of the live session; 0 without one."""
        return 0 if self._session is None else self._session.offer.session

    @property
    def memory(self) -> SumMemory:
        """What it takes to prove opened sums; for the next machine of this run."""
        return self._memory

    def open(self, offer: SessionOffer) -> SessionKey:
        """Set-up: journal the session's number, then make its key. It ends the session before."""
        session, now = self._session, self._effects.clock()
        if session is not None and session.offer == offer and now < offer.expiry:
            return session.own
        check_offer(offer, self._study, self._roster)
        past = self._journal.past()
        self._policy.check_session(offer, self.site, past, now)
        ledger = self._journal.open_session(offer.run, offer.session, session_digest(offer))
        random = self._effects.random
        opened = SiteSession.opened(self._identity, self.site, offer, ledger, random)
        self._session, self._open = opened, None
        self._memory.opened(offer.run, past)
        return opened.own

    def deal(self, listed: SessionKeys) -> SessionGroup:
        """Set-up, at the one site that is asked: a secret for the group, sealed for each peer."""
        session = self._live().with_keys(listed, self._roster, self._witness)
        self._session = session.dealt(self._identity, self._effects.random)
        return self._session.dealt_group()

    def step(self, step: SealedStep, chain: ChainOf) -> Running | Sealed | SealedReady:
        """The answer to a step, now.

        For a new attempt `chain(step)` is called once, when the step's opened sums have been proven
        (or cannot be, see `unproven`): the digests that the site itself has worked out from them.
        What `chain` raises is passed on, and nothing has changed.
        """
        session = self._live()
        if step.session_digest != session.sd:
            raise Refused(Check.NO_SESSION)
        check_step_signature(step, self._study)
        if self._open is not None and self._open.request == step.signed_part():
            return self._again(self._open)
        self._begin(session, step, chain)
        return Running()

    def collect(self, collect: SealedCollect) -> Sealed:
        """The vector of a step in the form READY, once all of K have committed to theirs."""
        self._live()
        opened = self._open
        if opened is None or opened.ready is None:
            raise Refused(Check.OUT_OF_ORDER)
        check_commitments(collect, opened.pending, self._roster)
        own = opened.ready.commitment + opened.ready.signature
        if dict(collect.commitments)[self.site] != own:
            raise Refused(Check.COMMITMENT, self.site)
        return opened.sealed or self._sealed(opened)

    def noise_seed(self, label: bytes, centres: bytes) -> bytes:
        """The seed (32 bytes) of this attempt's noise; `centres` is H(y), 32 bytes.

        Raises `SecAggError` if the attempt is another one or over, or for a second H(y).
        """
        return self._opened().noise_seed(label, centres)

    def provide(self, label: bytes, numbers: NDArray[np.int64]) -> None:
        """Hand over the noised vector (int64 [n]) of the attempt with this label; once.

        As it was drawn: its tags are of the numbers before they are reduced to b bits. Raises
        `SecAggError` for a second one, another shape, or an attempt that is over.
        """
        self._opened().provide(label, numbers, self._study)

    def unproven(self, step: SealedStep) -> tuple[OpenedSum, ...]:
        """Opened sums of sessions whose secret this process does not have: only the label binds."""
        return tuple(one for one in step.opened if self._memory.key_of(one) is None)

    def confirm(self, close: SealedClose, final: FinalOf) -> SealedConfirmed:
        """This site's word that the run has come to what `close` says; changes nothing.

        `final(close)` is called once, when the sums have been proven, and the last one by a secret
        that this process has: whoever was restarted since cannot prove it, and says NO_SESSION.
        """
        check_close(close, self._study, self._policy.run)
        if self._session is None:
            raise Refused(Check.NO_SESSION)
        for one in close.opened:
            self._memory.check(one, self._study, self.session)
        last = close.opened[-1] if close.opened else None
        if last is None or last.step != close.steps:
            raise Refused(Check.SUMS)
        if self._memory.key_of(last) is None:
            raise Refused(Check.NO_SESSION)
        check_final(close, final(close))
        return confirmed(self._identity, close)

    def close(self) -> None:
        """Forget all keys: the session is over for this site."""
        self._session, self._open = None, None

    def _begin(self, session: SiteSession, step: SealedStep, chain: ChainOf) -> None:
        """Check everything, journal the label, make the masks' seeds, move the keys on."""
        if self._open is not None and self._open.is_same_attempt(step):
            raise Refused(Check.SECOND_LABEL)
        epoch = epoch_of(session.offer, step.step, step.attempt)
        past, run = self._journal.past(), self._policy.run
        if not epoch:
            raise Refused(Check.EPOCH)
        check_newer(step, run, past)
        opened = session.with_opening(step.opening, self._roster, self._witness)
        listed, keys = opened.accepted()
        self._policy.check_cohort(step, self.site, listed.sites, self._study)
        changes = changes_with(step, run, past, self._study)
        check_slot(step, opened.offer, self._effects.clock())
        if epoch < keys.epoch:
            raise Refused(Check.NOT_NEWER)
        see_log = self._journal.see_log(step)
        for one in step.opened:
            self._memory.check(one, self._study, self.session)
        own = chain(step)
        check_chain(step, own)
        label = label_of(self._study, opened.digests, epoch, own, step)
        if label != step.label:
            raise Refused(Check.LABEL)
        number, cohort = opened.offer.session, step.cohort
        intent = SealedIntent(run, number, step.step, step.attempt, epoch, label, cohort, changes)
        see_log()
        self._journal.begin(intent)
        now = keys.at(epoch)
        secrets = StepSecrets.of(now, opened.secret, self.site, intent)
        self._session = replace(opened, keys=now.at(epoch + 1), begun=True)
        self._open = OpenStep(step, intent, now.noise, secrets)
        self._memory.begun(intent, opened.secret)

    def _again(self, opened: OpenStep) -> Running | Sealed | SealedReady:
        """The same request again: at the slot it is the question for the vector."""
        answered = opened.ready or opened.sealed
        if answered is not None:
            return answered
        if opened.missed:
            raise Refused(Check.NO_VECTOR)
        if 1000 * self._effects.clock() < opened.pending.slot:
            return Running()
        if opened.masked is None:
            self._journal.charge(opened.pending.intent, None)
            opened.give_up()
            raise Refused(Check.NO_VECTOR)
        if opened.pending.form is StepForm.READY:
            return opened.commit(self._identity, self._effects.random(ROOT_BYTES))
        return self._sealed(opened)

    def _sealed(self, opened: OpenStep) -> Sealed:
        """Charge the attempt, with the hash of what leaves; then let it leave."""
        if opened.masked is None:
            raise Refused(Check.NO_VECTOR)
        log = self._journal.charge(opened.pending.intent, sent_digest(opened.masked))
        return opened.seal(self._identity, log)

    def _live(self) -> SiteSession:
        if self._session is None:
            raise Refused(Check.NO_SESSION)
        if self._effects.clock() >= self._session.offer.expiry:
            raise Refused(Check.EXPIRED)
        return self._session

    def _opened(self) -> OpenStep:
        if self._open is None:
            raise SecAggError("There is no attempt at a step.", "Wait for the coordinator's.")
        return self._open
