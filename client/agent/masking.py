"""What a site brings to secure aggregation: its identity, the roster, its rules and its weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from client.agent.cohorts import Cohorts
from client.agent.survivors import SignedSets
from client.agent.work import AttemptTraining, checked
from client.policy import SiteRules
from privacy.errors import ConfigError
from privacy.identity import Identity, fingerprint
from privacy.ledger import AttemptKey
from privacy.secagg import transcript
from privacy.secagg.client import Effects, SecAggClient
from privacy.secagg.encoding import Encoding
from privacy.secagg.offer import Expected, SecAggPolicy
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.witness import Ledgers, MemoryWitness, Witness
from privacy.study.agreement import model_digest, policy_of, shares_of
from privacy.wire.bodies import SignedFacts, SiteFacts, StartTraining
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.codec import Vector
from privacy.wire.offer import MechanismNumber, Offer
from privacy.wire.secagg import Lanes

if TYPE_CHECKING:
    from client.training import RoundTrainer
    from client.training.trainer import ShouldStop, StepProgress


@dataclass(frozen=True, slots=True)
class Membership:
    """Who the site is, and with whom it aggregates."""

    identity: Identity
    roster: Roster

    def check(self, rules: SiteRules) -> None:
        """Raise `ConfigError` unless the roster lists the site's key under the site's name."""
        member = self.roster.member_named(rules.name)
        own = fingerprint(self.identity.public)
        if member is None or member.public_key != self.identity.public:
            listed = "no key" if member is None else f"the key {fingerprint(member.public_key)}"
            raise ConfigError(
                f"The roster of {self.roster.consortium} lists {listed} for {rules.name}; this "
                f"site's key is {own}.",
                "Check [identity] in site.toml, or have a successor signed that lists this key.",
            )
        names = [site.name for site in rules.study.sites]
        known = sum(self.roster.member_named(name) is not None for name in names)
        if known < rules.study.smallest_cohort:
            raise ConfigError(
                f"The roster lists {known} of the study's sites; {rules.study.smallest_cohort} are "
                "needed.",
                "Take the roster that the consortium has signed for this study.",
            )

    def signed(self, run: int, node: int, facts: SiteFacts) -> SignedFacts:
        """`facts` as this site's own, for the node that a server knows it by in `run`."""
        text = transcript.site_facts(run, node, facts)
        return SignedFacts(facts, self.identity.sign(text))


@dataclass(frozen=True, slots=True)
class Masking:
    """Everything that masks a site's updates in one study; `weight` is its constant share."""

    rules: SiteRules
    membership: Membership
    policy: SecAggPolicy
    weight: float
    effects: Effects = field(default_factory=Effects)
    signed: SignedSets = field(default_factory=SignedSets)
    cohorts: Cohorts = field(default_factory=Cohorts)
    witness: Witness = field(default_factory=MemoryWitness)

    def client(
        self,
        key: AttemptKey,
        start: StartTraining,
        newest: tuple[int, int, int] | None,
        journal: Callable[[], Checkpoint],
    ) -> SecAggClient:
        """The machine of one attempt; nothing of it is ever written to disk.

        `newest` is the attempt that this one has to be newer than: (run, round, attempt).
        `journal` records the attempt and returns where the ledger stands then.
        """
        expected = Expected(
            run=key.run,
            round=key.round,
            attempt=key.attempt,
            model_digest=model_digest(self.rules.study, start),
            newest=newest,
        )
        own = self.membership
        ledgers = Ledgers(journal, self.witness)
        client = SecAggClient(
            own.identity, own.roster, self.policy, expected, ledgers, self.effects
        )
        client.remember(self.signed.earlier())
        return client

    def note_offer(self, offer: Offer) -> None:
        """Record with whom the site takes part in the round; on disk when this returns."""
        self.cohorts.narrow(offer.round, offer.cohort)

    def note_signed(self, round: int, client: SecAggClient) -> None:
        """Record the survivors that `client` has signed; on disk when this returns."""
        self.cohorts.narrow(round, client.survivors)
        if self.policy.terms.mechanism is MechanismNumber.PLAIN:
            self.signed.add(client.survivors)

    def check_cohort(self, offer: Offer) -> None:
        """Raise `Refused` for a member of the roster that is not in the study, or no longer in the
        sums of this round.

        The machine itself checks that the cohort is the whole membership, less at most as many as
        study and policy allow to be absent: it has at least `n_min` sites.
        """
        roster = self.membership.roster
        for site in offer.cohort:
            member = roster.member(site)
            if member is not None and self.rules.study.site(member.name) is None:
                raise Refused(Check.COHORT, site)
        strangers = self.cohorts.strangers(offer.round, offer.cohort)
        if strangers:
            raise Refused(Check.COHORT_GREW, min(strangers))

    def training(self, trainer: RoundTrainer, encoding: Encoding) -> AttemptTraining:
        """Train, then weight and encode: everything that takes time happens before the slot."""

        def train(adapter: Vector, *, progress: StepProgress, should_stop: ShouldStop) -> Lanes:
            delta = checked(trainer.train)(adapter, progress=progress, should_stop=should_stop)
            return encoding.encode(cast(Vector, delta) * np.float32(self.weight))

        return train


def masking_of(
    rules: SiteRules,
    membership: Membership,
    parameters: int,
    survivors: Path | None = None,
    cohorts: Path | None = None,
    witness: Witness | None = None,
) -> Masking:
    """How a site of `rules` masks adapters of `parameters` numbers.

    `survivors`: the file with the sets that it has signed without noise; `cohorts`: the file with
    the sites that each round may still have; `witness`: what it knows of the others' ledgers.
    Raises `ConfigError` where the study's bits are too few for the tolerated error, or where one
    of the files is damaged.
    """
    membership.check(rules)
    policy = policy_of(
        rules.study, membership.roster, parameters, colluders=rules.policy.max_colluders
    )
    weight = shares_of(rules.study)[rules.name]
    signed = SignedSets(survivors, rules.study.digest())
    return Masking(
        rules,
        membership,
        policy,
        weight,
        signed=signed,
        cohorts=Cohorts(cohorts, rules.study.digest()),
        witness=witness or MemoryWitness(),
    )
