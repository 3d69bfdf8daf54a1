"""What sealed steps cost: one process, one core, all sites and the coordinator in it.

One row per cohort `n` and parameters `parameters`, both of real noise and real cryptography; `bits`
is the width of a field, `lanes` of how many 64-bit words a vector is. CPU seconds of a step in
which everybody answers: `site_s` of one site (two requests, proof of the last sum, noise, packing,
masks, signature), of it `noise_s` (the share's draw and packing) and `prove_s`; `server_s` of the
coordinator for the whole cohort; `steps_per_s` is 1 / (n site_s + server_s). `set_up_s`: one
site's share of opening a session. `bytes_up_per_param` is all of Sealed, `bytes_down_per_param` a
step with one opened sum, without the session's opening. `memory_mb` is the peak of one site's
allocations over a step, with its centres. Training is not in any of it.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from bench.output import BenchRow, parser, print_rows
from privacy.identity import Identity
from privacy.mechanisms.pooled import PooledTerms
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.packing import unpack_signed
from privacy.mechanisms.pooled.share import noised
from privacy.secagg.client import Effects
from privacy.secagg.roster import Member, Roster, propose_roster
from privacy.secagg.sealed.client import SealedClient
from privacy.secagg.sealed.journal import SealedIntent, SealedPast
from privacy.secagg.sealed.label import ChainDigests, SealedStudy
from privacy.secagg.sealed.mac import mac_key, proves
from privacy.secagg.sealed.opening import offered_session
from privacy.secagg.sealed.rules import SealedPolicy
from privacy.secagg.sealed.server import SealedServer
from privacy.secagg.witness import MemoryWitness
from privacy.wire.bodies import Body
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.log import NO_LOG, LogFields
from privacy.wire.sealed import OpenedSum, SealedStep
from privacy.wire.session import SessionKeys, SessionOffer

SEALED_CELLS = ((100, 20_000), (12, 20_000), (12, 400_000), (12, 1_000_000), (3, 1_536))
QUICK_SEALED_CELLS = ((3, 500),)
SEALED_PATIENTS = 160  # declared by each site
STEPS = 40
SPARE = 4

_DIGEST = bytes(32)
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(slots=True)
class MemoryJournal:
    """A journal without a disk: its time is the disk's, not the protocol's."""

    kept: SealedPast = field(default_factory=SealedPast)

    def past(self) -> SealedPast:
        """See `SealedJournal.past`."""
        return self.kept

    def open_session(self, run: int, session: int, digest: bytes) -> Checkpoint:
        """See `SealedJournal.open_session`."""
        self.kept = replace(self.kept, session=session)
        return Checkpoint(bytes(16), session, _DIGEST)

    def begin(self, intent: SealedIntent) -> None:
        """See `SealedJournal.begin`."""
        newest = (intent.run, intent.step, intent.attempt)
        self.kept = replace(self.kept, newest=newest, cohort=intent.cohort)

    def see_log(self, step: SealedStep) -> Callable[[], None]:
        """See `SealedJournal.see_log`."""
        return lambda: None

    def charge(self, intent: SealedIntent, sent: bytes | None) -> LogFields:
        """See `SealedJournal.charge`."""
        return NO_LOG


@dataclass(slots=True)
class StepCost:
    """CPU seconds by part, and bytes of one site."""

    site: float = 0.0
    noise: float = 0.0
    prove: float = 0.0
    server: float = 0.0
    set_up: float = 0.0
    up: int = 0
    down: int = 0
    memory: int = 0


class SealedCell:
    """A consortium of `n` sites for P = `parameters`."""

    def __init__(self, n: int, parameters: int) -> None:
        self.cost = StepCost()
        self._terms = PooledTerms(
            sites=n,
            smallest_cohort=max(3, n - 1),
            noise_colluders=1,
            noise_multiplier=4.65,
            clipping_norm=0.002,
            parameters=parameters,
            steps=STEPS,
            spare_attempts=SPARE,
            patients=SEALED_PATIENTS * n,
        )
        self.grid = PooledGrid.of(self._terms, n, _DIGEST)
        coordinator, identities = Identity.generate(), [Identity.generate() for _ in range(n)]
        roster = _roster(identities)
        study = SealedStudy(
            *(_DIGEST, roster.digest(), _DIGEST, _DIGEST, _DIGEST, _DIGEST),
            lanes=self.grid.lanes,
            bits=self.grid.bits,
            steps=STEPS,
            attempts=1 + SPARE,
            n_min=self._terms.smallest_cohort,
            most_changes=0,
            coordinator=coordinator.public,
        )
        self._study = study
        policy = SealedPolicy(1, 3, 1)
        self._sites = {
            site: SealedClient(identity, roster, study, policy, MemoryJournal(), MemoryWitness())
            for site, identity in enumerate(identities, 1)
        }
        expiry = int(time.time()) + 3600
        offer = offered_session(coordinator, study, 1, 1, tuple(self._sites), expiry)
        self._server = SealedServer(coordinator, roster, study, offer)
        self._sums: list[OpenedSum] = []

    def open(self) -> None:
        """Set-up; `cost.set_up` is one site's share but for the list, which rides on a step."""
        for site, body in self._server.requests().items():
            key, spent = _timed(self._sites[site].open, cast(SessionOffer, body))
            self._server.receive(site, key)
            self.cost.set_up = spent
        self._server.close_keys()
        for site, body in self._server.requests().items():
            self._server.receive(site, self._sites[site].deal(cast(SessionKeys, body)))

    def step(self, number: int) -> None:
        """One step with everybody, checked; the cost is this step's, the first one's aside."""
        n, cost = len(self._sites), StepCost(set_up=self.cost.set_up)
        for site in self._sites:
            self._server.tell(site, tuple(self._sums[-1:]))
        slot = int(1000 * time.time()) + 1000 * 60 * 30
        chain = self._chain()
        _, cost.server = _timed(self._asked, chain, number, slot)
        requests = self._requests()
        cost.down = len(requests[1].encode())
        total = np.zeros(self.grid.padded, np.int64)
        for site, request in requests.items():
            _, spent = _timed(self._ask, site, request, chain)
            cost.site += spent / n
            shares, spent = self._noised(site, number)
            total += shares
            cost.noise += spent / n
            cost.site += spent / n
            _, spent = _timed(self._provide, site, shares)
            cost.site += spent / n
        self._collect(requests, chain, slot, cost)
        opened, spent = _timed(self._server.result)
        cost.server += spent
        found = unpack_signed(opened.packed.copy(), self.grid.padded, self.grid.bits)
        if not np.array_equal(found, total):
            raise RuntimeError("The opened sum is not the sum.")
        self._sums.append(opened)
        cost.prove = self._prove(opened)
        self.cost = cost

    def peak(self, number: int) -> int:
        """Bytes that one site allocates at most over a step."""
        for site in self._sites:
            self._server.tell(site, tuple(self._sums[-1:]))
        slot = int(1000 * time.time()) + 1500
        chain = self._chain()
        self._asked(chain, number, slot)
        request = self._requests()[1]
        tracemalloc.start()
        self._ask(1, request, chain)
        shares, _ = self._noised(1, number)
        self._provide(1, shares)
        del shares
        time.sleep(max(0.0, slot / 1000 - time.time()))
        self._ask(1, request, chain).encode()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    def _asked(self, chain: ChainDigests, number: int, slot: int) -> SealedStep:
        return self._server.begin(chain, number, 1, slot, tuple(self._sites))

    def _requests(self) -> dict[int, SealedStep]:
        """The step as it arrives at each site: of its bytes."""
        bodies = self._server.requests().items()
        return {site: SealedStep.decode(body.encode()) for site, body in bodies}

    def _ask(self, site: int, request: SealedStep, chain: ChainDigests) -> Body:
        """The answer as it arrives."""
        answer = self._sites[site].step(request, lambda _: chain)
        return type(answer).decode(answer.encode())

    def _noised(self, site: int, number: int) -> tuple[NDArray[np.int64], float]:
        """A share around centres of plausible size; they are made outside of the time."""
        rng = np.random.default_rng([site, number])
        unit = 1 << self.grid.centre_bits
        centres = rng.integers(-3 * unit, 3 * unit, self.grid.padded)
        pending = self._sites[site].pending
        if pending is None:
            raise RuntimeError("The site has not taken the step up.")
        digest = hashlib.sha256(centres.tobytes()).digest()
        seed = self._sites[site].noise_seed(pending.label, digest)
        return _timed(noised, centres, self.grid, seed)

    def _provide(self, site: int, shares: NDArray[np.int64]) -> None:
        pending = self._sites[site].pending
        if pending is not None:
            self._sites[site].provide(pending.label, shares)

    def _collect(
        self, requests: dict[int, SealedStep], chain: ChainDigests, slot: int, cost: StepCost
    ) -> None:
        """The same requests at the slot: every machine's clock is put there."""
        for site, request in requests.items():
            client = self._sites[site]
            effects, client._effects = client._effects, _at(client._effects, slot)
            sealed, spent = _timed(self._ask, site, request, chain)
            client._effects = effects
            cost.site += spent / len(requests)
            cost.up = len(sealed.encode())
            _, spent = _timed(self._server.receive, site, sealed)
            cost.server += spent

    def _prove(self, opened: OpenedSum) -> float:
        secret = self._sites[1]._memory._secrets[opened.session]
        when = (opened.session, opened.step, opened.attempt)
        key = mac_key(secret, opened.label, when, opened.cohort)
        true, spent = _timed(proves, opened, self.grid.bits, key)
        if not true:
            raise RuntimeError("The sum does not prove itself.")
        return spent

    def _chain(self) -> ChainDigests:
        seen = hashlib.sha256(b"".join(one.label for one in self._sums)).digest()
        return ChainDigests(seen, seen, seen)


def _at(effects: Effects, slot: int) -> Effects:
    return replace(effects, clock=lambda: slot / 1000)


def _roster(identities: list[Identity]) -> Roster:
    members = [
        Member(site, f"site-{site}", identity.public, f"Hospital {site}")
        for site, identity in enumerate(identities, 1)
    ]
    return propose_roster(members, len(members) // 2 + 1, consortium="bench").roster


def _timed(work: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> tuple[_T, float]:
    """What `work` returns, and its CPU seconds."""
    start = time.process_time()
    done = work(*given, **named)
    return done, time.process_time() - start


def cell_row(n: int, parameters: int, steps: int) -> BenchRow:
    """The row of a cell: the least of `steps` steps after the first, which carries the keys."""
    cell = SealedCell(n, parameters)
    cell.open()
    cell.step(1)
    costs = []
    for number in range(2, 2 + steps):
        cell.step(number)
        costs.append(cell.cost)
    best = min(costs, key=lambda cost: n * cost.site + cost.server)
    memory = cell.peak(2 + steps)
    return {
        "n": n,
        "parameters": parameters,
        "bits": cell.grid.bits,
        "lanes": cell.grid.lanes,
        "steps_per_s": 1 / (n * best.site + best.server),
        "site_s": best.site,
        "noise_s": best.noise,
        "prove_s": best.prove,
        "server_s": best.server,
        "set_up_s": best.set_up,
        "bytes_up_per_param": best.up / parameters,
        "bytes_down_per_param": best.down / parameters,
        "memory_mb": memory / 1e6,
    }


def sealed_rows(cells: tuple[tuple[int, int], ...], steps: int) -> Iterator[BenchRow]:
    """A row for each cell."""
    for n, parameters in cells:
        yield cell_row(n, parameters, steps)


def arguments() -> argparse.Namespace:
    """The command line."""
    made = parser("sealed", "Cost of sealed steps.")
    made.add_argument("--quick", action="store_true", help="one small cell")
    return made.parse_args()


def main() -> None:
    """Print the table."""
    given = arguments()
    cells, steps = (QUICK_SEALED_CELLS, 1) if given.quick else (SEALED_CELLS, 3)
    print_rows("sealed", list(sealed_rows(cells, steps)), as_json=given.json)


if __name__ == "__main__":
    main()
