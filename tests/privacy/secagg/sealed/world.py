"""A consortium of sealed steps in one process: machines, disks in memory, and the loop between."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FunctionType, ModuleType

import numpy as np
import pytest

from privacy.secagg.client import Effects
from privacy.secagg.refusals import Refused
from privacy.secagg.sealed.client import SealedClient
from privacy.secagg.sealed.journal import SealedIntent, SealedPast
from privacy.secagg.sealed.label import (
    ChainDigests,
    SealedStudy,
    epoch_of,
    label_of,
    session_digests,
)
from privacy.secagg.sealed.opening import offered_session, signed_step
from privacy.secagg.sealed.rules import SealedPolicy
from privacy.secagg.sealed.server import SealedServer, SealedStage
from privacy.secagg.witness import MemoryWitness
from privacy.wire.bodies import Body, Running
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.log import LogFields
from privacy.wire.sealed import OpenedSum, Sealed, SealedReady, SealedStep, StepForm
from privacy.wire.session import SessionOffer, SessionOpening
from tests.privacy.secagg.consortium import NOW, RUN, counting, identity_of, roster_of
from tests.privacy.secagg.sealed import oracle

COORDINATOR = identity_of(60_000)
BITS = 12
LANES = 2 * BITS  # of 128 numbers
SLOT = 1000  # milliseconds after the step was begun


@dataclass
class Disk:
    """A journal that outlives its machine, and remembers the order of what was done."""

    site: int
    kept: SealedPast = field(default_factory=SealedPast)
    done: list[tuple] = field(default_factory=list)
    broken: bool = False

    def past(self) -> SealedPast:
        return self.kept

    def open_session(self, run: int, session: int, digest: bytes) -> Checkpoint:
        self._write("session", run, session, digest)
        self.kept = replace(self.kept, session=session)
        return Checkpoint(bytes([self.site % 256]) * 16, len(self.done), bytes([1]) * 32)

    def begin(self, intent: SealedIntent) -> None:
        self._write("begin", intent)
        newest = (intent.run, intent.step, intent.attempt)
        self.kept = replace(self.kept, newest=newest, cohort=intent.cohort, changes=intent.changes)

    def see_log(self, step: SealedStep) -> Callable[[], None]:
        return lambda: None

    def charge(self, intent: SealedIntent, sent: bytes | None) -> LogFields:
        self._write("charge", intent, sent)
        return LogFields(checkpoint=b"checkpoint")

    def _write(self, *record: object) -> None:
        if self.broken:
            raise OSError("no space")
        self.done.append(record)

    def charged(self) -> list[bytes | None]:
        return [record[2] for record in self.done if record[0] == "charge"]


@dataclass
class SealedWorld:
    """Everything of one study. Site ids are not 1 .. n."""

    sites: tuple[int, ...] = (2, 5, 8, 11)
    steps: int = 40
    attempts: int = 3
    n_min: int = 3
    n_c: int = 0
    most_changes: int = 6
    lanes: int = LANES
    bits: int = BITS
    clock: list[float] = field(default_factory=lambda: [NOW])
    sums: list[OpenedSum] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roster = roster_of(self.sites)
        self.study = SealedStudy(
            study_digest=b"\1" * 32,
            roster_digest=self.roster.digest(),
            terms_digest=b"\2" * 32,
            base=b"\3" * 32,
            layout=b"\4" * 32,
            frozen=b"\5" * 32,
            lanes=self.lanes,
            bits=self.bits,
            steps=self.steps,
            attempts=self.attempts,
            n_min=self.n_min,
            most_changes=self.most_changes,
            coordinator=COORDINATOR.public,
        )
        self.disks = {site: Disk(site) for site in self.sites}
        self.clients = {site: self.client(site) for site in self.sites}
        self.sessions = 0

    def client(self, site: int, label: str = "first", **changes) -> SealedClient:
        """A machine of the site with its disk; another `label` for one after a restart."""
        return SealedClient(
            changes.pop("identity", identity_of(site)),
            self.roster,
            changes.pop("study", self.study),
            changes.pop("policy", SealedPolicy(RUN, self.n_min, self.n_c, 3600)),
            changes.pop("journal", self.disks[site]),
            MemoryWitness(),
            Effects(lambda: self.clock[0], counting(f"sealed site {site} {label}")),
        )

    def restart(self, site: int) -> None:
        """The agent dies: its memory is gone, its disk is not."""
        self.clients[site] = self.client(site, f"after {len(self.disks[site].done)} records")

    def chain(self, sums: list[OpenedSum] | None = None) -> ChainDigests:
        """A stand-in for the chain: digests of all sums so far."""
        data = b"".join(one.encode() for one in (self.sums if sums is None else sums))
        return ChainDigests(*(hashlib.sha256(tag + data).digest() for tag in (b"a", b"b", b"c")))

    def offer(self, session: int = 1, **changes) -> SessionOffer:
        return offered_session(
            COORDINATOR,
            self.study,
            changes.pop("run", RUN),
            session,
            changes.pop("members", self.sites),
            changes.pop("expiry", int(self.clock[0]) + 1800),
            changes.pop("first", 1),
        )

    def open(self, silent: tuple[int, ...] = (), **changes) -> SealedServer:
        """A new session, opened up to IDLE with the sites that are not silent."""
        self.sessions += 1
        offer = self.offer(self.sessions, **changes)
        server = SealedServer(COORDINATOR, self.roster, self.study, offer)
        for site, body in server.requests().items():
            if site not in silent:
                server.receive(site, carried(self.clients[site].open(carried(body))))
        server.close_keys()
        for site, body in server.requests().items():
            server.receive(site, carried(self.clients[site].deal(carried(body))))
        assert server.stage is SealedStage.IDLE
        return server

    def begin(
        self,
        server: SealedServer,
        step: int = 1,
        attempt: int = 1,
        cohort: tuple[int, ...] | None = None,
        form: StepForm = StepForm.DIRECT,
    ) -> SealedStep:
        for site in self.sites:
            server.tell(site, tuple(self.sums[-1:]))
        slot = int(1000 * self.clock[0]) + SLOT
        return server.begin(self.chain(), step, attempt, slot, cohort or server.members, form)

    def ask(self, site: int, body: Body) -> Running | Sealed | SealedReady:
        """What a site answers to a step, with the chain that it has itself."""
        step = carried(body)
        return carried(self.clients[site].step(step, lambda _: self.chain()))

    def take_up(self, server: SealedServer, silent: tuple[int, ...] = ()) -> None:
        """The step reaches everybody, who answers Running."""
        for site, body in server.requests().items():
            if site not in silent:
                answer = self.ask(site, body)
                assert isinstance(answer, Running)
                server.receive(site, answer)

    def vectors(self, seed: int = 0) -> dict[int, np.ndarray]:
        """Small signed numbers for every site, packed: uint64 [L]."""
        rng = np.random.default_rng(seed)
        count = 64 * self.lanes // self.bits
        return {site: packed(rng.integers(-90, 90, count), self.bits) for site in self.sites}

    def provide(self, vectors: dict[int, np.ndarray], silent: tuple[int, ...] = ()) -> None:
        for site, client in self.clients.items():
            if site in vectors and site not in silent and client.pending is not None:
                client.noise_seed(client.pending.label, bytes(32))
                client.provide(client.pending.label, numbers_of(vectors[site]))

    def to_slot(self) -> None:
        self.clock[0] += SLOT / 1000

    def collect(
        self, server: SealedServer, silent: tuple[int, ...] = ()
    ) -> dict[int, Sealed | SealedReady]:
        """At the slot the same requests again."""
        answers = {}
        for site, body in server.requests().items():
            if site not in silent:
                answers[site] = self.ask(site, body)
                server.receive(site, answers[site])
        return answers

    def run_step(
        self,
        server: SealedServer,
        step: int = 1,
        attempt: int = 1,
        cohort: tuple[int, ...] | None = None,
        seed: int | None = None,
    ) -> OpenedSum:
        """One whole attempt, in which everybody of K answers."""
        self.begin(server, step, attempt, cohort)
        self.take_up(server)
        in_cohort = server.current.cohort
        vectors = self.vectors(step if seed is None else seed)
        self.provide({site: vectors[site] for site in in_cohort})
        self.to_slot()
        self.collect(server)
        opened = server.result()
        assert np.array_equal(opened.packed, total_of(vectors, in_cohort))
        self.sums.append(opened)
        return opened


def carried(body):
    """What arrives: the body of its bytes."""
    return type(body).decode(body.encode())


def packed(numbers: np.ndarray, bits: int = BITS) -> np.ndarray:
    """Signed numbers, int64 [64 G], as lanes."""
    return np.array(oracle.packed(numbers.tolist(), bits), np.uint64)


def numbers_of(lanes: np.ndarray, bits: int = BITS) -> np.ndarray:
    """The reverse: what a site drew, int64 [64 G], if none of it was beyond b bits."""
    return np.array(oracle.signed(oracle.numbers(lanes.tolist(), bits), bits), np.int64)


def added(rows: list[np.ndarray], bits: int = BITS, proof: int = 0) -> np.ndarray:
    """What rows of lanes add up to, of which the last `proof` are 64-bit words."""
    return np.array(oracle.added([row.tolist() for row in rows], bits, proof), np.uint64)


def total_of(vectors: dict[int, np.ndarray], sites) -> np.ndarray:
    return added([vectors[site] for site in sites])


def state_of(world: SealedWorld, site: int) -> tuple:
    """A machine's whole state and its disk's, for comparison."""
    client, disk = world.clients[site], world.disks[site]
    memory = client._memory
    return (
        id(client._session),
        id(client._open),
        None if client._open is None else tuple(id(part) for part in vars(client._open).values()),
        (memory._before, dict(memory._secrets), dict(memory._labels)),
        tuple(disk.done),
        disk.kept,
    )


@contextmanager
def refused(world: SealedWorld, check: Check, site: int | None = None) -> Iterator[None]:
    """The block is refused with this check (for this site), and no site's state has changed."""
    before = [state_of(world, one) for one in world.sites]
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.check is check
    assert site is None or caught.value.site == site
    assert [state_of(world, one) for one in world.sites] == before


def begun(world: SealedWorld, form: StepForm = StepForm.DIRECT) -> tuple[SealedServer, SealedStep]:
    """A session, and the request of its first step, which nobody has received."""
    server = world.open()
    world.begin(server, form=form)
    return server, server.requests()[2]


def ask(world: SealedWorld, site: int, step: SealedStep) -> Running | Sealed | SealedReady:
    """What a site answers to a step, as it arrives over the wire."""
    return world.clients[site].step(carried(step), lambda _: world.chain())


def resigned(step: SealedStep, /, **changes) -> SealedStep:
    """What a malicious coordinator sends: it has its own key, so its signature is always good."""
    return signed_step(COORDINATOR, replace(step, **changes))


def relabelled(
    world: SealedWorld,
    server: SealedServer,
    step: SealedStep,
    /,
    chain: ChainDigests | None = None,
    opening: SessionOpening | None = None,
    **changes,
) -> SealedStep:
    """As `resigned`, with the label that fits the changes, the chain and the opening."""
    own = chain or world.chain()
    digests = {"adapter": own.adapter, "state": own.state, "sums": own.sums} if chain else {}
    changed = replace(step, **digests, **changes)
    parts = session_digests(server.offer, opening or server._opening())
    epoch = epoch_of(server.offer, changed.step, changed.attempt)
    return resigned(changed, label=label_of(world.study, parts, epoch, own, changed))


def secrets_in(root: object) -> set[bytes]:
    """All byte strings of 8 to 64 bytes that can be reached from an object."""
    seen: set[int] = set()
    found: set[bytes] = set()
    todo = [root]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType | Disk):
            continue
        seen.add(id(one))
        if isinstance(one, bytes) and 8 <= len(one) <= 64:
            found.add(one)
        todo.extend(gc.get_referents(one))
    return found
