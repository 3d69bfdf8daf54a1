"""A consortium around one site agent: identities, a signed roster, honest peers and the server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from client.agent.own_ledger import KeyedIdentity
from client.agent.ready import ReadyAgent, SiteMemory
from client.agent.site_agent import AgentParts, SiteAgent
from client.agent.work import Clock
from client.policy import SiteRules
from craftsfl.simulation.members import SimulatedMembers
from model.layout import Layout
from privacy.ledger import Ledger
from privacy.secagg.chain import write_rosters
from privacy.secagg.client import Effects, SecAggClient
from privacy.secagg.offer import Expected, encoding_of, threshold
from privacy.secagg.server import SecAggServer, Stage
from privacy.secagg.witness import Witness
from privacy.study.agreement import model_digest, policy_of, shares_of, terms_of
from privacy.study.manifest import Study
from privacy.wire.bodies import Body, Hello, Running, StartTraining
from privacy.wire.codec import Vector
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.offer import VERSION, Offer, TrainMasked
from privacy.wire.secagg import masked_size_limit
from tests.privacy.secagg.consortium import ledgers_of

from .fakes import ADAPTER, LAYOUT, RUN, FakeTrainer, PausingClock
from .studies import make_policy, make_study

NAMES = ("north", "south", "east", "west")
BOUND = 8.0
_LENGTHS = itertools.count(1)  # of the peers' ledgers, which only grow


MEMBERS = SimulatedMembers.seeded(NAMES, consortium="test")  # ids are places in NAMES, from 1
IDENTITIES, SIGNED, ROSTER = MEMBERS.identities, MEMBERS.signed, MEMBERS.roster


def masked_study(sites: int = 3, **changes: Any) -> Study:
    """The small study with masks and the first `sites` of NAMES."""
    members = [
        {"name": name, "declared_patients": 10 * (place + 1)}
        for place, name in enumerate(NAMES[:sites])
    ]
    tables: dict[str, Any] = {
        "aggregation": {"secure_aggregation": "required"},
        "cohort": {"min_sites": 3},
        "secure_aggregation": {"roster": ROSTER.digest().hex(), "bound": BOUND},
    }
    for name, change in changes.items():
        tables[name] = {**tables.get(name, {}), **change} if isinstance(change, dict) else change
    return make_study(sites=members, **tables)


def masked_rules(study: Study, **policy: Any) -> SiteRules:
    own = {"secure_aggregation": "required", "roster": ROSTER.digest().hex(), **policy}
    return SiteRules("north", study, make_policy(**own))


def write_identity(folder: Path) -> None:
    """Write the site's key and the roster under the names in the tests' `site.toml`."""
    MEMBERS.write_key("north", folder / "site.key")
    write_rosters(folder / "roster.cfl", [SIGNED])


def keyed(folder: Path) -> KeyedIdentity:
    """The identity of `write_identity`."""
    return KeyedIdentity(IDENTITIES["north"], folder / "site.key")


def hello(study: Study, node: int = 0) -> Hello:
    """A greeting from a coordinator with the same study and roster."""
    return Hello(study.digest(), node, ROSTER.digest())


def make_masked_agent(
    ledger: Ledger,
    trainer: FakeTrainer,
    rules: SiteRules | None = None,
    effects: Effects | None = None,
    survivors: Path | None = None,
    cohorts: Path | None = None,
    witness: Witness | None = None,
    clock: Clock | None = None,
) -> SiteAgent:
    rules = rules or masked_rules(masked_study())
    parts = AgentParts(rules, ledger, trainer, clock=clock or PausingClock())
    memory = SiteMemory(survivors, cohorts, witness)
    return ReadyAgent(parts, MEMBERS.membership("north"), memory, effects or Effects()).make()


class MaskedAttempt:
    """One attempt of north's agent with honest peers; every exchange is one `advance`.

    `cohort`: ids, those of the study's sites unless given. `updates` are the peers'. `ask` sends
    the agent what is due, whoever the agent is: a function from envelope to envelope.
    """

    def __init__(
        self,
        study: Study | None = None,
        *,
        round: int = 1,
        attempt: int = 1,
        run: int = RUN,
        adapter: Vector = ADAPTER,
        layout: Layout = LAYOUT,
        cohort: tuple[int, ...] | None = None,
    ) -> None:
        self.study = study or masked_study()
        self.parameters = layout.parameters
        self.key = (run, round, attempt)
        self.start = StartTraining(self.study.digest(), layout.fingerprint(), adapter)
        names = [site.name for site in self.study.sites]
        self.cohort = cohort or tuple(NAMES.index(name) + 1 for name in names)
        self.offer = Offer(
            version=VERSION,
            run=run,
            round=round,
            attempt=attempt,
            roster_digest=ROSTER.digest(),
            model_digest=model_digest(self.study, self.start),
            terms=terms_of(self.study, self.parameters),
            threshold=threshold(len(self.cohort)),
            expiry=int(time.time()) + 60,
            cohort=self.cohort,
        )
        self.server = SecAggServer(ROSTER, self.offer)
        self.peers = {site: self._peer(NAMES[site - 1]) for site in self.cohort[1:]}
        self.updates = {
            site: np.full(self.parameters, float(site), np.float32) for site in self.peers
        }

    def _peer(self, name: str) -> SecAggClient:
        digest = model_digest(self.study, self.start)
        policy = policy_of(self.study, ROSTER, self.parameters)
        site = NAMES.index(name) + 1
        ledgers = ledgers_of(site, next(_LENGTHS))
        return SecAggClient(IDENTITIES[name], ROSTER, policy, Expected(*self.key, digest), ledgers)

    @property
    def stage(self) -> Stage:
        return self.server.stage

    def envelope(self, body: Body) -> bytes:
        return seal(Envelope(*self.key, body))

    def request(self) -> Body:
        """The request of the current exchange to the agent."""
        if self.stage is Stage.ADVERTISE:
            return TrainMasked(self.offer, self.start)
        return self.server._request(1)

    def ask(self, agent: Any, body: Body | None = None) -> Body:
        """The agent's answer to `body`, or to the current request."""
        handle = getattr(agent, "handle", agent)
        return self.opened(handle(self.envelope(body or self.request())))

    def opened(self, reply: bytes) -> Body:
        """The body of an answer of the agent."""
        limit = masked_size_limit(4, encoding_of(self.offer).lanes, self.parameters)
        return open_envelope(reply, limit=limit).body

    def patiently(self, agent: Any) -> Body:
        """The answer to the current request, repeated until it is not Running."""
        deadline = time.monotonic() + 20
        while (answer := self.ask(agent)) == Running() and time.monotonic() < deadline:
            time.sleep(0.002)
        return answer

    def advance(self, agent: Any, *, silent: Iterable[int] = ()) -> Body:
        """Do the whole current exchange; returns the agent's answer. `silent` peers say nothing."""
        answer = self.patiently(agent)
        if self.stage is Stage.SHARE:
            self._provide()
        for site, body in self.server.requests().items():
            if site in self.peers and site not in silent:
                self.server.receive(site, self.peers[site].receive(body))
        self.server.receive(1, answer)
        self.server.deadline()
        return answer

    def to(self, stage: Stage, agent: Any) -> None:
        """Advance until `stage` has begun."""
        while self.stage is not stage:
            self.advance(agent)

    def total(self) -> Vector:
        """The weighted sum of the updates, as the server decodes it at the end."""
        outcome = self.server.result()
        return encoding_of(self.offer).decode_sum(outcome.lanes, len(outcome.survivors))

    def _provide(self) -> None:
        weights = shares_of(self.study)
        for site, peer in self.peers.items():
            weight = np.float32(weights[NAMES[site - 1]])
            peer.provide(peer.encoding.encode(self.updates[site] * weight))
