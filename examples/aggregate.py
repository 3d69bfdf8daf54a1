"""One attempt of secure aggregation in one process: three sites, and the server sees the sum.

What a network would carry are the bytes of `request.encode()` and `answer.encode()`.
"""

from __future__ import annotations

import time

import numpy as np

from craftsfl.api.secagg import (
    OFFER_VERSION,
    Checkpoint,
    Expected,
    Identity,
    Ledgers,
    MechanismNumber,
    Member,
    MemoryWitness,
    Offer,
    Roster,
    SecAggClient,
    SecAggPolicy,
    SecAggServer,
    Terms,
    coordinate_bound,
    encoding_of,
    propose_roster,
    threshold,
)

DIMENSION = 1000
RUN, ROUND, ATTEMPT = 1, 1, 1
MODEL = bytes(32)  # digest of what is trained from
RECIPE = bytes(32)  # digest of the study


def members(identities: dict[int, Identity]) -> Roster:
    """Who takes part. A real roster is signed by more than half of its members."""
    listed = [
        Member(site, f"site-{site}", identity.public, f"Hospital {site}")
        for site, identity in identities.items()
    ]
    return propose_roster(listed, quorum=2, consortium="example").roster


def terms(sites: int) -> Terms:
    """What the study fixes for all rounds; each site works it out from its own study file."""
    return Terms(
        recipe_digest=RECIPE,
        dimension=DIMENSION,
        bits=16,
        bound=coordinate_bound(1.0, DIMENSION, sites),
        clipping_norm=1.0,
        weight_cap=1.0,
        mechanism=MechanismNumber.LOCAL,
        noise_multiplier=1.0,
    )


def ledgers(site: int) -> Ledgers:
    """Stands in for a site's ledger: what `journal` returns is on disk in a real agent."""
    checkpoint = Checkpoint(ledger=bytes([site]) * 16, length=1, hash=bytes(32))
    return Ledgers(journal=lambda: checkpoint, witness=MemoryWitness())


def unit_vector() -> np.ndarray:
    """An update of length 1: float32 [DIMENSION]."""
    vector = np.random.default_rng().standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def main() -> None:
    """Mask three vectors, add them up, and compare the sum with the true one."""
    identities = {site: Identity.generate() for site in (1, 2, 3)}
    roster, agreed = members(identities), terms(len(identities))
    offer = Offer(
        version=OFFER_VERSION,
        run=RUN,
        round=ROUND,
        attempt=ATTEMPT,
        roster_digest=roster.digest(),
        model_digest=MODEL,
        terms=agreed,
        threshold=threshold(len(identities)),
        expiry=int(time.time()) + 600,
        cohort=tuple(identities),
    )
    policy = SecAggPolicy(roster.digest(), agreed)
    expected = Expected(RUN, ROUND, ATTEMPT, MODEL)
    clients = {
        site: SecAggClient(identity, roster, policy, expected, ledgers(site))
        for site, identity in identities.items()
    }
    server = SecAggServer(roster, offer)

    updates = {site: unit_vector() for site in identities}
    while server.waiting:
        for site, request in server.requests().items():
            answer = clients[site].receive(type(request).decode(request.encode()))
            server.receive(site, type(answer).decode(answer.encode()))
        if isinstance(request, Offer):  # everybody has taken it: now the updates may be handed over
            for site, client in clients.items():
                client.provide(client.encoding.encode(updates[site]))
        server.deadline()

    outcome = server.result()
    found = encoding_of(offer).decode_sum(outcome.lanes, len(outcome.survivors))
    true = np.sum(list(updates.values()), axis=0)
    error = np.linalg.norm(found - true) / np.linalg.norm(true)
    print(f"sum over sites {outcome.survivors}; relative error of the encoding {error:.1e}")


if __name__ == "__main__":
    main()
