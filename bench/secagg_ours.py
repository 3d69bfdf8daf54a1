"""One attempt of our secure aggregation in one process, with real cryptography and real bytes."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.secagg_timing import CPU, Cost, SecAggCell, Watch
from craftsfl.simulation.members import SimulatedMembers
from privacy.errors import SecAggError
from privacy.identity import Identity
from privacy.secagg import width
from privacy.secagg.client import SecAggClient
from privacy.secagg.encoding import Encoding
from privacy.secagg.offer import Expected, SecAggPolicy, threshold
from privacy.secagg.roster import Roster
from privacy.secagg.server import SecAggServer, Stage
from privacy.secagg.stream import CHUNK_LANES, Keystream, apply_masks
from privacy.secagg.witness import Ledgers, MemoryWitness
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.offer import VERSION, MechanismNumber, Offer, Terms

RUN, ROUND, ATTEMPT = 1, 1, 1
_MODEL = bytes(32)


@dataclass(frozen=True)
class KernelSeconds:
    """CPU seconds of what a site does with its vector, and the lower bound for `mask_s`."""

    rotate_s: float
    quantise_s: float
    pack_s: float
    mask_s: float
    floor_s: float


def update(d: int) -> NDArray[np.float32]:
    """A heavy-tailed vector of norm 1, as adapters' updates are."""
    values = np.random.default_rng(d).standard_t(2.1, d)
    return np.asarray(values / np.linalg.norm(values), dtype=np.float32)


def parts(cell: SecAggCell, repeats: int) -> KernelSeconds:
    """The kernels alone, the least of `repeats` passes; mask and floor take turns."""
    bound = width.coordinate_bound(1.0, cell.d, cell.n)
    encoding = Encoding(cell.d, cell.n, cell.bits, bound, os.urandom(32))
    vector = update(cell.d)
    seeds = [(os.urandom(32), 1 if k % 2 else -1) for k in range(cell.n)]
    rows = []
    for _ in range(repeats):
        marks = [CPU()]
        turned = encoding.rotate(vector)
        marks.append(CPU())
        levels = encoding.quantise(turned)
        marks.append(CPU())
        lanes = encoding.pack(levels)
        marks.append(CPU())
        apply_masks(lanes, seeds)
        marks.append(CPU())
        _floor(len(lanes) * len(seeds))
        marks.append(CPU())
        rows.append(np.diff(marks))
    return KernelSeconds(*(float(value) for value in np.min(rows, axis=0)))


def _floor(lanes: int) -> None:
    """The same number of keystream lanes, each added once to memory that stays in the cache."""
    stream = Keystream(os.urandom(32))
    total = np.zeros(CHUNK_LANES, np.uint64)
    for chunk, start in enumerate(range(0, lanes, CHUNK_LANES)):
        count = min(CHUNK_LANES, lanes - start)
        total[:count] += stream.lanes(chunk, count)


def _ledgers(site: int) -> Ledgers:
    checkpoint = Checkpoint(site.to_bytes(16, "big"), 1, bytes(32))
    return Ledgers(lambda: checkpoint, MemoryWitness())


class Attempt:
    """All sites and the server of one attempt. Only the first site's cost is counted."""

    def __init__(self, cell: SecAggCell) -> None:
        self._cell = cell
        self._identities = {site: Identity.generate() for site in range(1, cell.n + 1)}
        named = {f"site-{site}": identity for site, identity in self._identities.items()}
        roster = SimulatedMembers.of(named, consortium="benchmark").roster
        offer = _offer(cell, roster)
        policy = SecAggPolicy(roster.digest(), offer.terms)
        expected = Expected(RUN, ROUND, ATTEMPT, _MODEL)
        self._server = SecAggServer(roster, offer)
        self._clients = {
            site: SecAggClient(identity, roster, policy, expected, _ledgers(site))
            for site, identity in self._identities.items()
        }
        self._client_watch, self._server_watch = Watch(), Watch()
        self._up = self._down = 0

    def run(self) -> Cost:
        """From the offer to the decoded sum; `SecAggError` if the sum is not what it should be."""
        vector = update(self._cell.d)
        while self._server.stage is not Stage.DONE:
            if self._server.stage is Stage.SHARE:
                self._provide(vector)
            if self._server.stage is Stage.INPUT:
                for site in range(self._cell.n - self._cell.dropped + 1, self._cell.n + 1):
                    del self._clients[site]
            self._exchange()
        self._decode(vector)
        client, server = self._client_watch.seconds, self._server_watch.seconds
        return Cost(client, server, self._up, self._down)

    def _provide(self, vector: NDArray[np.float32]) -> None:
        """The first site encodes; the others provide copies of its lanes."""
        with self._client_watch.running():
            lanes = self._clients[1].encoding.encode(vector)
        for client in self._clients.values():
            client.provide(lanes.copy())

    def _exchange(self) -> None:
        with self._server_watch.running():
            bodies = self._server.requests()
            requests = {site: body.encode() for site, body in bodies.items()}
        for site, client in self._clients.items():
            watch = self._client_watch if site == 1 else Watch()
            with watch.running():
                answer = client.receive(type(bodies[site]).decode(requests[site]))
                data = answer.encode()
            if site == 1:
                self._up, self._down = self._up + len(data), self._down + len(requests[site])
            with self._server_watch.running():
                self._server.receive(site, type(answer).decode(data))
        with self._server_watch.running():
            self._server.deadline()

    def _decode(self, vector: NDArray[np.float32]) -> None:
        cell = self._cell
        with self._server_watch.running():
            outcome = self._server.result()
            encoding = self._clients[1].encoding
            total = encoding.decode_sum(outcome.lanes, len(outcome.survivors))
        mean = total / len(outcome.survivors)
        # All sites send the same lanes, so nothing averages out: up to a whole level a coordinate.
        if np.linalg.norm(mean - vector) > 2 * width.relative_error(cell.bits, cell.d, cell.n):
            raise SecAggError("The sum of the benchmark's vectors is not what it should be.")


def setup(n: int, repeats: int) -> float:
    """CPU seconds of one site for an attempt with one lane: keys, shares, signatures, seeds."""
    return min(Attempt(SecAggCell(n, 1, 16, 0)).run().client_s for _ in range(repeats))


def _offer(cell: SecAggCell, roster: Roster) -> Offer:
    terms = Terms(
        recipe_digest=bytes(32),
        dimension=cell.d,
        bits=cell.bits,
        bound=width.coordinate_bound(1.0, cell.d, cell.n),
        clipping_norm=1.0,
        weight_cap=1.0,
        mechanism=MechanismNumber.LOCAL,
        noise_multiplier=1.0,
    )
    return Offer(
        version=VERSION,
        run=RUN,
        round=ROUND,
        attempt=ATTEMPT,
        roster_digest=roster.digest(),
        model_digest=_MODEL,
        terms=terms,
        threshold=threshold(cell.n),
        expiry=math.floor(time.time()) + 3600,
        cohort=tuple(range(1, cell.n + 1)),
    )
