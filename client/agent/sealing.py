"""What a site brings to sealed steps: its machine, its share of the noise, and its journal.

The steps themselves are `client.agent.sealed_agent`'s, their protocol `privacy.secagg.sealed`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from client.agent.admission import Account
from client.agent.masking import Membership
from client.agent.site_log import LogRules, SiteLog
from client.agent.work import AttemptTraining, Clock, DrawnShare
from client.policy import SiteRules
from model.layout import Layout, frozen_digest
from privacy.errors import ModelError
from privacy.ledger import AttemptKey, Ledger, StepMark
from privacy.log.memory import LogMemory, ProcessMemory
from privacy.mechanisms.pooled.share import centres_of, noised
from privacy.secagg.client import Effects
from privacy.secagg.refusals import Refused
from privacy.secagg.sealed.attempt import PendingStep
from privacy.secagg.sealed.client import SealedClient
from privacy.secagg.sealed.journal import SealedIntent, SealedPast
from privacy.secagg.sealed.label import SealedStudy
from privacy.secagg.sealed.memory import SumMemory
from privacy.secagg.sealed.rules import SealedPolicy
from privacy.secagg.witness import MemoryWitness, Witness
from privacy.study.agreement import CLOCK_SKEW
from privacy.study.pooling import grid_of, pooled_settings, sealed_study
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.codec import Vector
from privacy.wire.log import NO_LOG, LogFields
from privacy.wire.sealed import SealedStep
from privacy.wire.session import SessionOffer

if TYPE_CHECKING:
    from client.training import RoundTrainer
    from client.training.trainer import ShouldStop, StepProgress

_HOUR: Final = 3600
_CONTRIBUTION: Final = 1 << 30  # C in the units of a clipped sum


class SteadyTime:
    """Unix seconds that run evenly from one look at the clock to the next.

    Whoever sets the machine's clock moves no slot: between two `anchor`s only `elapsed` counts.
    """

    def __init__(self, clock: Callable[[], float], elapsed: Clock) -> None:
        self._clock, self._elapsed = clock, elapsed
        self.anchor()

    def anchor(self) -> None:
        """Take the time from the clock."""
        self._unix, self._at = self._clock(), self._elapsed()

    @contextmanager
    def kept_if(self, accepted: Callable[[], bool]) -> Iterator[None]:
        """Inside, the time as the clock has it now; afterwards too, if what it decides on was new.

        So nobody can have the clock read again by a message that changes nothing.
        """
        before = self._unix, self._at
        self.anchor()
        try:
            yield
        finally:
            if not accepted():
                self._unix, self._at = before

    def __call__(self) -> float:
        """Unix seconds."""
        return self._unix + (self._elapsed() - self._at)


class SealedLedger:
    """A `SealedJournal` on the study's account; `intent` records the attempt as the agent does."""

    def __init__(
        self,
        account: Account,
        study: bytes,
        intent: Callable[[AttemptKey, StepMark], object],
        newest: Callable[[], tuple[int, int, int] | None],
        log: SiteLog,
    ) -> None:
        self._account, self._study, self._intent, self._newest = account, study, intent, newest
        self._log = log

    def past(self) -> SealedPast:
        """See `SealedJournal.past`."""
        marks = self._account.marks
        return SealedPast(
            session=self._account.newest_session,
            newest=self._newest(),
            cohort=marks[-1].cohort if marks else (),
            changes=sum(one.cohort != other.cohort for one, other in pairwise(marks)),
        )

    def open_session(self, run: int, session: int, digest: bytes) -> Checkpoint:
        """See `SealedJournal.open_session`."""
        ledger = self._account.begin_session(run, session, digest)
        self._log.session_begun(ledger)
        return ledger

    def see_log(self, step: SealedStep) -> Callable[[], None]:
        """See `SealedJournal.see_log`."""
        return self._log.see(step)

    def begin(self, intent: SealedIntent) -> None:
        """See `SealedJournal.begin`."""
        self._intent(self._key(intent), StepMark(intent.label, intent.session, intent.cohort))

    def charge(self, intent: SealedIntent, sent: bytes | None) -> LogFields:
        """See `SealedJournal.charge`."""
        key = self._key(intent)
        self._account.commit(key)
        if sent is None:
            return NO_LOG
        self._account.sent(key, sent)
        return self._log.fields()

    def _key(self, intent: SealedIntent) -> AttemptKey:
        return AttemptKey(self._study, intent.run, intent.step, intent.attempt)


class NoiseSeeds(Protocol):
    """Where the seed of a share of the noise comes from: a site's machine."""

    def noise_seed(self, label: bytes, centres: bytes) -> bytes:
        """See `SealedClient.noise_seed`."""
        ...


@dataclass(frozen=True, slots=True)
class Sealing:
    """Everything that seals a site's part in the steps of one study. Holds no secret but a key."""

    rules: SiteRules
    membership: Membership
    study: SealedStudy
    effects: Effects = field(default_factory=Effects)
    witness: Witness = field(default_factory=MemoryWitness)
    memory: LogMemory = field(default_factory=ProcessMemory)

    def log(self, ledger: Ledger) -> SiteLog:
        """This site as a witness of the consortium's log."""
        own, rules = self.membership, LogRules.of(self.rules, self.membership.roster)
        return SiteLog(
            *(rules, own.identity, own.roster, ledger),
            *(self.witness, self.memory, self.effects.clock),
        )

    def machine(
        self,
        run: int,
        journal: SealedLedger,
        time: Callable[[], float],
        memory: SumMemory | None,
    ) -> SealedClient:
        """The machine of one run: its keys are in memory only, and die with it.

        `memory`: what an earlier machine of this run knew of opened sums.
        """
        own, rules = self.membership, self.rules
        hours = min(pooled_settings(rules.study).session_hours, rules.policy.max_session_hours)
        masks = rules.study.secure_aggregation.colluders
        policy = SealedPolicy(
            run=run,
            n_min=max(rules.study.smallest_cohort, rules.policy.min_cohort),
            n_c=max(masks, rules.study.privacy.noise_colluders, rules.policy.max_colluders),
            longest=int(hours * _HOUR) + CLOCK_SKEW,
        )
        effects = Effects(time, self.effects.random)
        return SealedClient(
            own.identity, own.roster, self.study, policy, journal, self.witness, effects, memory
        )

    def check_members(self, offer: SessionOffer) -> None:
        """Raise `Refused` for a member of the roster that is not in the study.

        The noise is shared by the study's sites, of whom n_c at most may collude; nothing is said
        of others.
        """
        for site in offer.members:
            member = self.membership.roster.member(site)
            if member is not None and self.rules.study.site(member.name) is None:
                raise Refused(Check.COHORT, site)

    def training(
        self, trainer: RoundTrainer, machine: NoiseSeeds, pending: PendingStep
    ) -> AttemptTraining:
        """The clipped sum of the step, then integers drawn around it: this site's share, int64.

        Everything that takes time happens before the slot. The noise is a function of the step's
        label, of the sum and of a key in memory: whoever puts an earlier moment of this process
        back gets the same vector from the same sum.
        """
        grid = grid_of(self.rules.study, len(pending.intent.cohort))
        patients = self.rules.declared_patients

        def train(
            adapter: Vector, *, progress: StepProgress, should_stop: ShouldStop
        ) -> DrawnShare:
            found = trainer.clipped_sum(
                adapter, pending.intent.step, progress=progress, should_stop=should_stop
            )
            total = _checked(found, adapter.size, patients)
            centres = centres_of(total, grid)
            seed = machine.noise_seed(pending.label, hashlib.sha256(centres.tobytes()).digest())
            return noised(centres, grid, seed)

        return train


def sealing_of(
    rules: SiteRules,
    membership: Membership,
    layout: Layout,
    witness: Witness | None = None,
    effects: Effects | None = None,
    memory: LogMemory | None = None,
) -> Sealing:
    """How a site of `rules` takes part in the steps of a pooled study with adapters of `layout`.

    Raises `ConfigError`, `SecAggError` or `AccountingError` for a study that cannot be served.
    """
    membership.check(rules)
    study = sealed_study(
        rules.study, membership.roster, layout.fingerprint(), frozen_digest(layout)
    )
    kept = witness or MemoryWitness()
    return Sealing(rules, membership, study, effects or Effects(), kept, memory or ProcessMemory())


def _checked(total: NDArray[np.int64], parameters: int, patients: int) -> NDArray[np.int64]:
    """`total`, which no honest trainer makes of another kind: found out before the slot."""
    if total.shape != (parameters,) or total.dtype != np.int64:
        raise ModelError("The trainer returned no clipped sum of the adapter's shape.")
    # All patients who agree, and what this float's own rounding may add: a trainer that somebody
    # has taken over says no more through a step than that leaves room for.
    if np.linalg.norm(total.astype(np.float64)) > patients * _CONTRIBUTION * (1 + 1e-9):
        raise ModelError("The trainer returned a sum that is longer than all patients' clip.")
    return total
