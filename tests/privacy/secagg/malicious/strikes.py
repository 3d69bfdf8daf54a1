"""A malicious server: attacks by name, each a list of messages that honest sites have to refuse.

An attack runs an honest attempt up to the point where it strikes. `Strike` is one message to one
site with the check that has to stop it. Where sites collude with the server, they are in the
roster and sign whatever it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from privacy.secagg import transcript
from privacy.secagg.client import SecAggClient
from privacy.secagg.keys import commitment
from privacy.secagg.server import SecAggServer
from privacy.wire.bodies import Body
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.secagg import Advertise, Advertisements
from tests.privacy.secagg.consortium import World, identity_of, site_ids


@dataclass(frozen=True)
class Strike:
    client: SecAggClient
    body: Body
    check: Check


Attack = Callable[[], Iterator[Strike]]
ATTACKS: dict[str, Attack] = {}


def attack(make: Attack) -> Attack:
    ATTACKS[make.__name__] = make
    return make


def world(count: int = 8, **changes) -> World:
    return World(site_ids(count), **changes)


def entries_of(server: SecAggServer) -> list[Advertise]:
    (body, *_) = server.requests().values()
    assert isinstance(body, Advertisements)
    return list(body.entries)


def signed_entry(site: int, od: bytes, share: bytes, mask: bytes) -> Advertise:
    """A colluding site's advertisement, with arbitrary keys and a valid signature."""
    ledger = Checkpoint(bytes(16), 1, bytes(32))
    entry = Advertise(site, share, mask, commitment(bytes(32), site, od), ledger, bytes(64))
    return replace(entry, signature=identity_of(site).sign(transcript.advertised(od, entry)))


def against_all(
    clients: dict[int, SecAggClient], body: Body, check: Check, spared: tuple[int, ...] = ()
) -> Iterator[Strike]:
    for site, client in clients.items():
        if site not in spared:
            yield Strike(client, body, check)
