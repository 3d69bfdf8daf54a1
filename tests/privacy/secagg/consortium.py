"""A consortium in one process: identities, roster, policy, machines, and a loop between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import shake_256

import numpy as np
import pytest

from privacy.identity import Identity, verify
from privacy.secagg import advertising
from privacy.secagg import client as client_module
from privacy.secagg import server as server_module
from privacy.secagg.client import Effects, SecAggClient
from privacy.secagg.offer import Expected, SecAggPolicy, encoding_of, threshold
from privacy.secagg.roster import Member, Roster, propose_roster
from privacy.secagg.server import SecAggServer
from privacy.secagg.server import Stage as ServerStage
from privacy.secagg.witness import Ledgers, MemoryWitness
from privacy.wire.bodies import Body
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.offer import VERSION, MechanismNumber, Offer, Terms

NOW = 1_800_000_000.0
RUN = 7
MODEL = bytes([0x44]) * 32

TERMS = Terms(
    recipe_digest=bytes([0x55]) * 32,
    dimension=10,
    bits=16,
    bound=1.0,
    clipping_norm=1.0,
    weight_cap=2.0,
    mechanism=MechanismNumber.LOCAL,
    noise_multiplier=1.0,
)


def counting(label: str) -> Callable[[int], bytes]:
    """Bytes that are the same in every run: a stand-in for os.urandom."""
    calls = iter(range(10**9))
    return lambda count: shake_256(f"{label} {next(calls)}".encode()).digest(count)


def identity_of(site: int) -> Identity:
    return Identity.from_seed(shake_256(f"identity {site}".encode()).digest(32))


def roster_of(sites: Iterable[int]) -> Roster:
    members = [
        Member(site, f"site-{site}", identity_of(site).public, f"Hospital {site}") for site in sites
    ]
    quorum = len(members) // 2 + 1
    return propose_roster(members, quorum, consortium="test-consortium").roster


def ledgers_of(site: int, length: int = 1) -> Ledgers:
    """A site's ledger with `length` records, and a table that knows nobody yet."""
    checkpoint = Checkpoint(bytes([site % 256]) * 16, length, bytes([length % 256]) * 32)
    return Ledgers(lambda: checkpoint, MemoryWitness())


@dataclass
class World:
    """Everything that one attempt needs. `sites` are ids, not 1 .. n: no id is its place."""

    sites: tuple[int, ...]
    terms: Terms = TERMS
    n_min: int = 3
    n_c: int = 0
    attempt: int = 1
    clock: list[float] = field(default_factory=lambda: [NOW])

    def __post_init__(self) -> None:
        self.roster = roster_of(self.sites)
        self.policy = SecAggPolicy(
            self.roster.digest(), self.terms, self.n_min, self.n_c, longest_offer=3600
        )

    def offer(self, **changes) -> Offer:
        made = Offer(
            version=VERSION,
            run=RUN,
            round=1,
            attempt=self.attempt,
            roster_digest=self.roster.digest(),
            model_digest=MODEL,
            terms=self.terms,
            threshold=threshold(len(self.sites)),
            expiry=int(NOW) + 600,
            cohort=self.sites,
        )
        return replace(made, **changes)

    def expected(self, **changes) -> Expected:
        return replace(Expected(RUN, 1, self.attempt, MODEL), **changes)

    def client(self, site: int, **changes) -> SecAggClient:
        label = f"site {site} attempt {self.attempt}"
        effects = Effects(lambda: self.clock[0], changes.pop("random", counting(label)))
        policy = changes.pop("policy", self.policy)
        ledgers = changes.pop("ledgers", ledgers_of(site, self.attempt))
        return SecAggClient(
            identity_of(site), self.roster, policy, self.expected(**changes), ledgers, effects
        )

    def clients(self) -> dict[int, SecAggClient]:
        return {site: self.client(site) for site in self.sites}

    def server(self, **changes) -> SecAggServer:
        return SecAggServer(self.roster, self.offer(**changes), self.n_min)

    def lanes(self, seed: int = 0) -> dict[int, np.ndarray]:
        """Random lanes for every site: the sum modulo 2^64 has to be exact for any."""
        rng = np.random.default_rng(seed)
        count = encoding_of(self.offer()).lanes
        return {
            site: rng.integers(0, 2**64, count, dtype=np.uint64, endpoint=False)
            for site in self.sites
        }


@contextmanager
def signatures_checked_once() -> Iterator[None]:
    """Every signature is checked, but once: in one process all sites check the same ones."""
    once = cache(verify)
    with pytest.MonkeyPatch.context() as patch:
        for module in (advertising, client_module, server_module):
            patch.setattr(module, "verify", once)
        yield


def site_ids(count: int) -> tuple[int, ...]:
    return tuple(3 * number + 2 for number in range(count))


def exchange(
    server: SecAggServer,
    clients: dict[int, SecAggClient],
    silent: Iterable[int] = (),
    seen: list[tuple[int, Body]] | None = None,
) -> None:
    """One exchange with everybody except the `silent`. `seen` collects the answers."""
    for site, body in server.requests().items():
        if site not in silent and site in clients:
            answer = clients[site].receive(type(body).decode(body.encode()))
            answer = type(answer).decode(answer.encode())
            if seen is not None:
                seen.append((site, answer))
            server.receive(site, answer)
    server.deadline()


def run_all(
    world: World,
    lanes: dict[int, np.ndarray],
    dropped: dict[ServerStage, Iterable[int]] | None = None,
    seen: list[tuple[int, Body]] | None = None,
) -> SecAggServer:
    """The whole attempt; `dropped`: who is silent, from which exchange on."""
    server, clients = world.server(), world.clients()
    while server.stage is not ServerStage.DONE:
        for site in (dropped or {}).get(server.stage, ()):
            del clients[site]
        if server.stage is ServerStage.SHARE:
            for site, client in clients.items():
                client.provide(lanes[site].copy())
        exchange(server, clients, seen=seen)
    return server


def total(lanes: dict[int, np.ndarray], sites: Iterable[int]) -> np.ndarray:
    parts = [lanes[site] for site in sites]
    return np.sum(parts, axis=0, dtype=np.uint64)


def reach(
    world: World, stage: ServerStage
) -> tuple[SecAggServer, dict[int, SecAggClient], dict[int, np.ndarray]]:
    """An honest attempt up to the exchange `stage`, whose messages have not been sent yet."""
    server, clients, lanes = world.server(), world.clients(), world.lanes()
    while server.stage is not stage:
        if server.stage is ServerStage.SHARE:
            for site, client in clients.items():
                client.provide(lanes[site].copy())
        exchange(server, clients)
    return server, clients, lanes


def frozen(client: SecAggClient) -> tuple:
    """A client's whole state, for comparison by identity and value."""
    lanes = None if client._lanes is None else client._lanes.tobytes()
    return client._state, client._answered, lanes, client._provided


def unchanged(before: tuple, client: SecAggClient) -> bool:
    state, answered, *rest = frozen(client)
    return state is before[0] and answered is before[1] and tuple(rest) == before[2:]
