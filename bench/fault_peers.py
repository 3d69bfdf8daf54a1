"""The others of the consortium in `bench.ledger_faults`: its exchanges with one real site.

Peers and coordinator are the real machines in this process. They go as far as the question for the
masked update: what leaves the site then is all that the bench compares.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import numpy as np

from bench.fault_site import FAULT_STUDY, LAYOUT, MEMBERS
from privacy.ledger import AttemptKey
from privacy.secagg.client import SecAggClient
from privacy.secagg.offer import Expected, encoding_of, threshold
from privacy.secagg.server import SecAggServer, Stage
from privacy.secagg.witness import Ledgers, MemoryWitness
from privacy.study.agreement import cohort_of, model_digest, offer_seconds, policy_of, terms_of
from privacy.wire.bodies import Body, StartTraining
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.offer import VERSION, Offer, TrainMasked
from privacy.wire.secagg import Deliver, masked_size_limit

Ask = Callable[[Body], Body | None]  # the site's answer; None if it has died

_START: Final = StartTraining(
    FAULT_STUDY.digest(), LAYOUT.fingerprint(), np.zeros(LAYOUT.parameters, np.float32)
)
_MODEL: Final = model_digest(FAULT_STUDY, _START)
_TERMS: Final = terms_of(FAULT_STUDY, LAYOUT.parameters)
_COHORT: Final = cohort_of(MEMBERS.roster, MEMBERS.identities)
_SITE, *_PEERS = _COHORT
_LENGTHS: Final = itertools.count(1)  # of the peers' ledgers, which only grow


def beginning(key: AttemptKey) -> TrainMasked:
    """The request that begins an attempt; another one at every call."""
    offer = Offer(
        version=VERSION,
        run=key.run,
        round=key.round,
        attempt=key.attempt,
        roster_digest=MEMBERS.roster.digest(),
        model_digest=_MODEL,
        terms=_TERMS,
        threshold=threshold(len(_COHORT)),
        expiry=int(time.time()) + offer_seconds(FAULT_STUDY),
        cohort=_COHORT,
    )
    return TrainMasked(offer, _START)


def question(train: TrainMasked, advertise: Body, ask: Ask) -> Deliver | None:
    """From the site's keys to the question for its update; None if it did not get that far."""
    server = SecAggServer(MEMBERS.roster, train.offer)
    peers = {site: _peer(site, train.offer) for site in _PEERS}
    answer: Body | None = advertise
    while answer is not None:
        for site, body in server.requests().items():
            server.receive(site, answer if site == _SITE else peers[site].receive(body))
        server.deadline()
        request = server.requests().get(_SITE)
        if server.stage is Stage.INPUT:
            return request if isinstance(request, Deliver) else None
        answer = None if request is None else ask(request)
    return None


def largest_answer() -> int:
    """The most bytes of an answer of the site."""
    lanes = encoding_of(beginning(AttemptKey(FAULT_STUDY.digest(), 1, 1, 1)).offer).lanes
    return masked_size_limit(len(_COHORT), lanes, 0)


def _peer(site: int, offer: Offer) -> SecAggClient:
    member = MEMBERS.roster.member(site)
    if member is None:
        raise LookupError(site)
    length = next(_LENGTHS)
    hash_ = sha256(b"%d %d" % (site, length)).digest()
    checkpoint = Checkpoint(bytes([site]) * 16, length, hash_)
    return SecAggClient(
        MEMBERS.identities[member.name],
        MEMBERS.roster,
        policy_of(FAULT_STUDY, MEMBERS.roster, LAYOUT.parameters),
        Expected(offer.run, offer.round, offer.attempt, _MODEL),
        Ledgers(lambda: checkpoint, MemoryWitness()),
    )
