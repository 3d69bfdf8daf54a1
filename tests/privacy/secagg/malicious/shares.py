"""What a malicious server does with keys and shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from privacy.identity import Identity
from privacy.secagg import transcript
from privacy.secagg.keys import KeyPair
from privacy.secagg.server import Stage
from privacy.wire.checks import Check
from privacy.wire.secagg import Advertisements, Deliver
from tests.privacy.secagg.consortium import reach
from tests.privacy.secagg.malicious.strikes import (
    Strike,
    against_all,
    attack,
    entries_of,
    signed_entry,
    world,
)


@attack
def key_swap() -> Iterator[Strike]:
    """The server puts itself in the middle, with its own keys in a site's name."""
    server, clients, _ = reach(world(), Stage.SHARE)
    entries, own = entries_of(server), KeyPair.generate().public
    victim = entries[0]
    swaps = [replace(victim, mask_key=own), replace(victim, share_key=own)]
    signed = transcript.advertised(transcript.offer_digest(server.offer()), swaps[0])
    swaps.append(replace(swaps[0], signature=Identity.generate().sign(signed)))
    swaps.append(replace(victim, commitment=bytes(32)))
    for swap in swaps:
        body = Advertisements((swap, *entries[1:]))
        yield from against_all(clients, body, Check.SIGNATURE)


@attack
def keys_under_another_name() -> Iterator[Strike]:
    """One site's signed keys are listed for another site."""
    server, clients, _ = reach(world(), Stage.SHARE)
    entries = entries_of(server)
    moved = replace(entries[0], site=entries[1].site)
    body = Advertisements((entries[0], moved, *entries[2:]))
    yield from against_all(clients, body, Check.SIGNATURE)


@attack
def replayed_keys() -> Iterator[Strike]:
    """Keys of an earlier attempt, whose secrets may have been opened since."""
    old_server, _, _ = reach(world(attempt=1), Stage.SHARE)
    old = entries_of(old_server)
    server, clients, _ = reach(world(attempt=2), Stage.SHARE)
    entries = entries_of(server)
    body = Advertisements((old[0], *entries[1:]))
    yield from against_all(clients, body, Check.SIGNATURE)
    yield from against_all(clients, Advertisements(tuple(old)), Check.SIGNATURE)


@attack
def sybil_keys() -> Iterator[Strike]:
    """Advertisements of sites that were not in the offer, in the roster or not."""
    server, clients, _ = reach(world(), Stage.SHARE)
    od = transcript.offer_digest(server.offer())
    fake = signed_entry(9999, od, KeyPair.generate().public, KeyPair.generate().public)
    body = Advertisements((*entries_of(server), fake))
    yield from against_all(clients, body, Check.NOT_IN_COHORT)


@attack
def keys_from_outside_the_cohort() -> Iterator[Strike]:
    """A colluding member of the roster that the offer does not name joins all the same."""
    made = world(9)
    offer = made.offer(cohort=made.sites[:8], threshold=6)
    clients = {site: made.client(site) for site in made.sites[:8]}
    entries = [client.receive(offer) for client in clients.values()]
    od, keys = transcript.offer_digest(offer), [KeyPair.generate().public for _ in range(2)]
    body = Advertisements((*entries, signed_entry(made.sites[8], od, *keys)))
    yield from against_all(clients, body, Check.NOT_IN_COHORT)


@attack
def own_keys_missing() -> Iterator[Strike]:
    server, clients, _ = reach(world(), Stage.SHARE)
    entries = entries_of(server)
    for entry in entries[:2]:
        body = Advertisements(tuple(other for other in entries if other != entry))
        yield Strike(clients[entry.site], body, Check.OWN_KEY)


@attack
def few_keys() -> Iterator[Strike]:
    """Supposedly fewer than t sites have advertised."""
    server, clients, _ = reach(world(), Stage.SHARE)
    entries = entries_of(server)
    for count in (1, 2, 5):
        part = entries[:count]
        victims = {entry.site: clients[entry.site] for entry in part}
        yield from against_all(victims, Advertisements(tuple(part)), Check.TOO_FEW)


@attack
def low_order_points() -> Iterator[Strike]:
    """A colluding site advertises keys with which every secret is known."""
    server, clients, _ = reach(world(), Stage.SHARE)
    od, entries = transcript.offer_digest(server.offer()), entries_of(server)
    good, colluder = KeyPair.generate().public, entries[0].site
    zero, one = bytes(32), (1).to_bytes(32, "little")
    eight = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
    for weak in (zero, one, eight, (2**255 - 20).to_bytes(32, "little"), bytes([0xFF]) * 32):
        for pair in ((weak, good), (good, weak)):
            body = Advertisements((signed_entry(colluder, od, *pair), *entries[1:]))
            yield from against_all(clients, body, Check.KEY, spared=(colluder,))


@attack
def repeated_keys() -> Iterator[Strike]:
    """A colluding site advertises a victim's keys as its own, or one key for both uses."""
    server, clients, _ = reach(world(), Stage.SHARE)
    od, entries = transcript.offer_digest(server.offer()), entries_of(server)
    good, colluder, victim = KeyPair.generate().public, entries[0].site, entries[1]
    pairs = [(victim.share_key, good), (good, victim.mask_key), (victim.mask_key, good)]
    for pair in [*pairs, (good, good)]:
        body = Advertisements((signed_entry(colluder, od, *pair), *entries[1:]))
        yield from against_all(clients, body, Check.REPEATED_KEY, spared=(colluder,))


@attack
def two_lists_of_keys() -> Iterator[Strike]:
    """Two halves see different keys (here: six and seven of the eight sites)."""
    made = world()
    server, clients, _ = reach(made, Stage.SHARE)
    entries = entries_of(server)
    shorter, longer = Advertisements(tuple(entries[:7])), Advertisements(tuple(entries))
    halves = {site: shorter if site in made.sites[:4] else longer for site in made.sites}
    for site, client in clients.items():
        client.receive(halves[site])
    honest, _, _ = reach(made, Stage.INPUT)
    # Shares sealed under the one list do not open under the other.
    for site, body in honest.requests().items():
        if halves[site] is shorter:
            cut = Deliver(tuple(pair for pair in body.shares if pair[0] != made.sites[7]))
            yield Strike(clients[site], cut, Check.SHARE)


@attack
def tampered_share() -> Iterator[Strike]:
    server, clients, _ = reach(world(), Stage.INPUT)
    for site, body in server.requests().items():
        assert isinstance(body, Deliver)
        (sender, sealed), *rest = body.shares
        for at in (0, 40, 81):
            changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            yield Strike(clients[site], Deliver(((sender, changed), *rest)), Check.SHARE)


@attack
def redirected_share() -> Iterator[Strike]:
    """Shares for another site, from another site, or sent back to where they came from."""
    server, clients, _ = reach(world(), Stage.INPUT)
    bodies = server.requests()
    first, second, third = list(bodies)[:3]
    for_second = dict(bodies[second].shares)
    for_first = dict(bodies[first].shares)
    swapped = {**for_first, third: for_second[third]}
    yield Strike(clients[first], Deliver(tuple(sorted(swapped.items()))), Check.SHARE)
    crossed = {**for_first, second: for_first[third], third: for_first[second]}
    yield Strike(clients[first], Deliver(tuple(sorted(crossed.items()))), Check.SHARE)
    returned = {**for_first, second: for_second[first]}
    yield Strike(clients[first], Deliver(tuple(sorted(returned.items()))), Check.SHARE)


@attack
def replayed_shares() -> Iterator[Strike]:
    """The shares of an earlier attempt."""
    old, _, _ = reach(world(attempt=1), Stage.INPUT)
    _, clients, _ = reach(world(attempt=2), Stage.INPUT)
    for site, body in old.requests().items():
        yield Strike(clients[site], body, Check.SHARE)


@attack
def few_shares() -> Iterator[Strike]:
    """So few sites supposedly shared their keys that a coalition knows all pair masks."""
    server, clients, _ = reach(world(), Stage.INPUT)
    for site, body in server.requests().items():
        for count in (0, 1, 4):
            yield Strike(clients[site], Deliver(body.shares[:count]), Check.TOO_FEW)


@attack
def own_share_returned() -> Iterator[Strike]:
    """A share that names the receiver as its sender."""
    server, clients, _ = reach(world(), Stage.INPUT)
    for site, body in server.requests().items():
        named = sorted([*body.shares[1:], (site, body.shares[0][1])])
        yield Strike(clients[site], Deliver(tuple(named)), Check.NOT_IN_COHORT)
