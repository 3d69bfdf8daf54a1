"""A consortium around one site agent: identities, a signed roster, honest peers and the server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from client.agent.own_ledger import KeyedIdentity
from client.agent.ready import ReadyAgent, SiteMemory
from client.agent.site_agent import AgentParts, SiteAgent
from client.agent.work import Clock
from client.policy import SiteRules
from model.layout import Layout
from privacy.ledger import Ledger
from privacy.secagg.chain import write_rosters
from privacy.secagg.client import Effects, SecAggClient
from privacy.secagg.offer import Expected, encoding_of, threshold
from privacy.secagg.server import SecAggServer, Stage
from privacy.secagg.witness import Witness
from privacy.study.agreement import model_digest, policy_of, shares_of, terms_of
from privacy.study.manifest import Study
from privacy.wire.bodies import Body, Refusal, Running, StartTraining
from privacy.wire.codec import Vector
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.offer import VERSION, Offer, TrainMasked
from privacy.wire.secagg import Deliver, masked_size_limit
from tests.privacy.secagg.consortium import ledgers_of

from .fakes import ADAPTER, LAYOUT, RUN, FakeTrainer, PausingClock
from .studies import MEMBERS, NAMES, ROSTER, make_policy, make_study, seeded_bytes

_LENGTHS = itertools.count(1)  # of the peers' ledgers, which only grow
NOON = 1_800_000_000.0  # where time has to be the same in two worlds


IDENTITIES, SIGNED = MEMBERS.identities, MEMBERS.signed


def masked_rules(study: Study, **policy: Any) -> SiteRules:
    return SiteRules("north", study, make_policy(**policy))


def write_identity(folder: Path) -> None:
    """Write the site's key and the roster under the names in the tests' `site.toml`."""
    MEMBERS.write_key("north", folder / "site.key")
    write_rosters(folder / "roster.cfl", [SIGNED])


def keyed(folder: Path) -> KeyedIdentity:
    """The identity of `write_identity`."""
    return KeyedIdentity(IDENTITIES["north"], folder / "site.key")


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
    rules = rules or masked_rules(make_study())
    parts = AgentParts(rules, ledger, trainer, clock=clock or PausingClock())
    memory = SiteMemory(survivors, cohorts, witness)
    return ReadyAgent(parts, MEMBERS.membership("north"), memory, effects or Effects()).make()


class MaskedAttempt:
    """One attempt of north's agent with honest peers; every exchange is one `advance`.

    `cohort`: ids, those of the study's sites unless given. `updates` are the peers'. `ask` sends
    the agent what is due, whoever the agent is: a function from envelope to envelope. With a
    `seed`, all keys of the peers follow from it, and it is `NOON`.
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
        seed: bytes = b"",
    ) -> None:
        self.study = study or make_study()
        self.parameters = layout.parameters
        self.key = (run, round, attempt)
        self.seed = seed
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
            expiry=int(NOON if seed else time.time()) + 60,
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
        effects, length = Effects(), next(_LENGTHS)
        if self.seed:
            own = self.seed + repr((self.key, name)).encode()
            effects, length = Effects(lambda: NOON, seeded_bytes(own)), self.key[1]
        expected, ledgers = Expected(*self.key, digest), ledgers_of(site, length)
        return SecAggClient(IDENTITIES[name], ROSTER, policy, expected, ledgers, effects)

    @property
    def stage(self) -> Stage:
        return self.server.stage

    def envelope(self, body: Body) -> bytes:
        return seal(Envelope(*self.key, body))

    def request(self) -> Body:
        """The request of the current exchange to the agent."""
        if self.stage is Stage.ADVERTISE:
            return self.beginning()
        return self.server._request(1)

    def ask(self, agent: Any, body: Body | None = None) -> Body:
        """The agent's answer to `body`, or to the current request."""
        handle = getattr(agent, "handle", agent)
        return self.opened(handle(self.envelope(body or self.request())))

    def beginning(self) -> TrainMasked:
        """The request that begins the attempt."""
        return TrainMasked(self.offer, self.start)

    def look(self) -> Body:
        """The question for the update, whether or not it is due."""
        return self.request() if self.stage is Stage.INPUT else Deliver(())

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


_ATTEMPTS: WeakKeyDictionary[SiteAgent, dict[tuple[bytes, int, int, int], MaskedAttempt]] = (
    WeakKeyDictionary()
)


def attempt_of(
    agent: SiteAgent,
    study: Study | None = None,
    *,
    run: int = RUN,
    round: int = 1,
    attempt: int = 1,
    seed: bytes = b"",
) -> MaskedAttempt:
    """The attempt of this number with `agent`, with the same offer and peers at every call."""
    study = study or make_study()
    known = _ATTEMPTS.setdefault(agent, {})
    key = (study.digest(), run, round, attempt)
    if key not in known:
        known[key] = MaskedAttempt(study, run=run, round=round, attempt=attempt, seed=seed)
    return known[key]


def start(agent: SiteAgent, study: Study | None = None, **key: int) -> Body:
    """The agent's answer to the request that begins an attempt; keys and shares follow it."""
    made = attempt_of(agent, study, **key)
    answer = made.ask(agent, made.beginning())
    if not isinstance(answer, Refusal) and made.stage is Stage.ADVERTISE:
        made.to(Stage.INPUT, agent)
    return answer


def lapse(agent: SiteAgent) -> None:
    """Let the offer of the attempt under way expire: another run may begin."""
    assert agent._attempt is not None
    agent._attempt.end()


def look(agent: SiteAgent, study: Study | None = None, **key: int) -> bytes:
    """The bytes of the answer to the question for the update."""
    made = attempt_of(agent, study, **key)
    return agent.handle(made.envelope(made.look()))


def looked(agent: SiteAgent, study: Study | None = None, **key: int) -> Body:
    """The answer to the question for the update."""
    return attempt_of(agent, study, **key).opened(look(agent, study, **key))


def collect(agent: SiteAgent, study: Study | None = None, **key: int) -> Body:
    """Ask for the update after training has ended and the time slot has come."""
    attempt = agent._attempt
    assert attempt is not None
    assert attempt.work.wait(10)
    deadline = time.monotonic() + 10
    while (answer := looked(agent, study, **key)) == Running() and time.monotonic() < deadline:
        time.sleep(0.002)
    return answer
