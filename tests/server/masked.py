"""A consortium of any size with real cryptography, and trainers that only add a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from craftsfl.simulation.members import SimulatedMembers, seeded_identity
from model.layout import Layout
from privacy.secagg import transcript
from privacy.secagg.client import Effects, SecAggClient
from privacy.secagg.offer import Expected
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.witness import Ledgers, MemoryWitness, Witness
from privacy.study.agreement import model_digest, policy_of, shares_of
from privacy.study.manifest import Study
from privacy.wire.bodies import Body, Hello, Refusal, RunOver, SignedFacts
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertisements, Deliver, Survivors, UnmaskRequest
from tests.server.fakes import LAYOUT, NODES, FakeSite, World, make_study

BOUND = 1.0  # the longest weighted update of these sites is 0.8
BITS = 32  # so that a wrong sum exceeds rounding even with a hundred sites
EXCHANGES = ("advertise", "share", "masked input", "consistency", "unmask")
ASKED = dict(
    zip(EXCHANGES, (TrainMasked, Advertisements, Deliver, Survivors, UnmaskRequest), strict=True)
)
LARGE = 10_000_000  # bytes


def members_of(names: list[str]) -> SimulatedMembers:
    """Their ids are not their places."""
    return SimulatedMembers.seeded(
        names, consortium="test-consortium", ids=range(2, 3 * len(names), 3)
    )


def masked_study(values: dict[str, Any], count: int, roster: Roster, **changes: Any) -> Study:
    """A study of `count` sites whose rounds are masked."""
    sites = [
        {"name": member.name, "declared_patients": 100 * (1 + number % 4)}
        for number, member in enumerate(roster.members[:count])
    ]
    table = {"roster": roster.digest().hex(), "bound": BOUND, "bits": BITS}
    table["exchange_deadline"] = 30.0
    table |= changes.pop("secure_aggregation", {})
    whole = {**values, "sites": sites, "secure_aggregation": table}
    whole["aggregation"] = {"strategy": "fedavg", "secure_aggregation": "required"}
    whole["cohort"] = {"min_sites": 3, "round_deadline": 120.0, "reply_slot": 1.0}
    return make_study(whole, **changes)


@dataclass
class MaskedSite(FakeSite):
    """A site agent without data that masks its updates: real keys, real masks."""

    roster: Roster | None = None
    clock: Callable[[], float] = lambda: 0.0
    layout: Layout = LAYOUT
    client: SecAggClient | None = None
    key: tuple[int, int, int] = (0, 0, 0)
    records: int = 0  # of its ledger
    witness: Witness = field(default_factory=MemoryWitness)
    delta: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    trained: list[tuple[int, int]] = field(default_factory=list)

    def handle(self, data: bytes) -> bytes:
        envelope = open_envelope(data, limit=LARGE)
        self.asked.append(envelope)
        return seal(replace(envelope, body=self.answer(envelope)))

    def answer(self, envelope: Envelope) -> Body:
        if self.refusals:
            return Refusal(self.refusals.pop(0))
        key = (envelope.run, envelope.round, envelope.attempt)
        match envelope.body:
            case Hello():
                return self.signed(envelope.run, envelope.body.node)
            case RunOver():
                return RunOver()
            case TrainMasked() as train:
                return self.start_refusal or self.begin(key, train)
        if self.client is None or key != self.key:
            return Refusal(Reason.NOT_STARTED)
        if isinstance(envelope.body, Deliver):
            self.train(key)
        try:
            return self.client.receive(envelope.body)
        except Refused as refused:
            return refused.body()

    def signed(self, run: int, node: int) -> Body:
        """What an agent says about itself to a server that knows it as `node`."""
        assert self.roster is not None
        own = {"roster_digest": self.roster.digest(), **self.facts}
        facts = replace(self.site_facts(), **own)
        text = transcript.site_facts(run, node, facts)
        return SignedFacts(facts, seeded_identity(self.name).sign(text))

    def begin(self, key: tuple[int, int, int], train: TrainMasked) -> Body:
        if key != self.key:
            assert self.roster is not None
            policy = policy_of(self.study, self.roster, self.layout.parameters)
            expected = Expected(*key, model_digest(self.study, train.start))
            effects = Effects(clock=self.clock)
            self.client = SecAggClient(
                seeded_identity(self.name), self.roster, policy, expected, self.ledgers(), effects
            )
            self.key, self.left[key] = key, self.running
        assert self.client is not None
        try:
            return self.client.receive(train.offer)
        except Refused as refused:
            return refused.body()

    def ledgers(self) -> Ledgers:
        """A ledger that grows by one record per attempt."""
        self.records += 1
        records = self.records
        ledger = sha256(self.name.encode()).digest()[:16]
        hash_ = sha256(ledger + bytes([records % 256])).digest()
        return Ledgers(lambda: Checkpoint(ledger, records, hash_), self.witness)

    def train(self, key: tuple[int, int, int]) -> None:
        assert self.client is not None
        self.left[key] -= 1
        if self.left[key] == -1:
            self.trained.append(key[1:])
            weight = shares_of(self.study)[self.name]
            vector = self.vector() * np.float32(weight)
            self.client.provide(self.client.encoding.encode(vector))

    def vector(self) -> np.ndarray:
        return np.full(self.layout.parameters, self.step, np.float32)

    def forget(self) -> None:
        """Its agent was restarted."""
        self.client = None


class MaskedSites(World):
    """Sites of `members` on `nodes`, all with one clock."""

    def __init__(
        self, folder: Path, study: Study, members: SimulatedMembers, nodes: dict[str, int]
    ) -> None:
        super().__init__(folder, study, members.roster)
        self.members, self.nodes = members, nodes
        self.sites = {
            name: MaskedSite(name, study, roster=members.roster, clock=self.clock.time)
            for name in nodes
        }
        self.handlers = {nodes[name]: site.handle for name, site in self.sites.items()}

    def mean(self, names: list[str] | None = None) -> float:
        """How far one round moves each number of the adapter if `names` survive."""
        shares = shares_of(self.study)
        chosen = names if names is not None else list(shares)
        total = sum(shares[name] for name in chosen)
        return sum(shares[name] * self.sites[name].step for name in chosen) / total

    def tolerance(self, rounds: int = 1) -> float:
        """Rounding: less than one level per site in each rotated coordinate, plus float32."""
        count = len(self.sites)
        bound = self.study.secure_aggregation.bound
        assert bound is not None
        level = 2 * bound / ((2**BITS - 1) // count)
        return rounds * (2 * count * level / 0.5 + 1e-6)


class MaskedWorld(MaskedSites):
    """`count` sites of a roster on nodes 1001, 1002, ..."""

    def __init__(self, folder: Path, values: dict[str, Any], count: int, **changes: Any) -> None:
        names = [f"site-{number:03d}" for number in range(count)]
        members = members_of(names)
        study = masked_study(values, count, members.roster, **changes)
        nodes = {name: 1001 + number for number, name in enumerate(names)}
        super().__init__(folder, study, members, nodes)
        for number, site in enumerate(self.sites.values()):
            site.step = 0.25 * (1 + number % 3)


FOUR = members_of(list(NODES))
PATIENTS = {"north": 500, "harbour": 800, "hillside": 1200, "lakeside": 1500}


def study_of_four(values: dict[str, Any], bound: float = 4.0, **changes: Any) -> Study:
    """The study of `values` for the four of NODES, one of whom may be missing."""
    table = {"roster": FOUR.roster.digest().hex(), "bound": bound, "bits": BITS}
    sites = [{"name": name, "declared_patients": PATIENTS[name]} for name in NODES]
    whole = {**values, "sites": sites, "secure_aggregation": {**table, "exchange_deadline": 30.0}}
    return make_study(whole, **changes)


class FourSites(MaskedSites):
    """The four of NODES; each of them moves every number by 1 unless told otherwise."""

    def __init__(self, folder: Path, values: dict[str, Any], **changes: Any) -> None:
        super().__init__(folder, study_of_four(values, **changes), FOUR, NODES)
