"""Secure aggregation without I/O: one machine for the server, one for each site.

Both machines take and return messages; who carries the bytes is the caller's business. One attempt
is a loop (examples/aggregate.py runs it for three sites in one process):

    while server.waiting:
        for site, request in server.requests().items():
            server.receive(site, clients[site].receive(request))
        server.deadline()
    outcome = server.result()

A message that is not allowed raises `Refused` with the check that failed and changes nothing; an
attempt that too few sites are left for ends with `Aborted`.

>>> from craftsfl.api.secagg import most_colluders, threshold
>>> [(n, threshold(n), most_colluders(n)) for n in (3, 8, 32)]
[(3, 3, 1), (8, 6, 3), (32, 22, 11)]

The protocol is in docs/secure-aggregation.md, message by message. Works without torch.
"""

from __future__ import annotations

from privacy.errors import CraftsflError, SecAggError
from privacy.identity import Identity
from privacy.secagg.client import Effects, SecAggClient
from privacy.secagg.encoding import Encoding
from privacy.secagg.offer import (
    Expected,
    SecAggPolicy,
    encoding_of,
    most_colluders,
    threshold,
)
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.roster import (
    Member,
    Roster,
    SignedRoster,
    add_signature,
    propose_roster,
    verify_roster,
)
from privacy.secagg.server import SecAggServer, UnmaskedSum
from privacy.secagg.width import choose_width, coordinate_bound, relative_error
from privacy.secagg.witness import Ledgers, MemoryWitness, Witness
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.offer import VERSION as OFFER_VERSION
from privacy.wire.offer import MechanismNumber, Offer, Terms

__all__ = [
    "OFFER_VERSION",
    "Aborted",
    "Checkpoint",
    "CraftsflError",
    "Effects",
    "Encoding",
    "Expected",
    "Identity",
    "Ledgers",
    "MechanismNumber",
    "Member",
    "MemoryWitness",
    "Offer",
    "Refused",
    "Roster",
    "SecAggClient",
    "SecAggError",
    "SecAggPolicy",
    "SecAggServer",
    "SignedRoster",
    "Terms",
    "UnmaskedSum",
    "Witness",
    "add_signature",
    "choose_width",
    "coordinate_bound",
    "encoding_of",
    "most_colluders",
    "propose_roster",
    "relative_error",
    "threshold",
    "verify_roster",
]
