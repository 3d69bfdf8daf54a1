"""A malicious server: attacks by name, each a list of messages that honest sites have to refuse.

An attack runs an honest attempt up to the point where it strikes. `Strike` is one message to one
site with the check that has to stop it. Where sites collude with the server, they are in the
roster and sign whatever it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from privacy.identity import Identity
from privacy.secagg import transcript
from privacy.secagg.client import SecAggClient
from privacy.secagg.keys import KeyPair, commitment
from privacy.secagg.server import SecAggServer, Stage
from privacy.wire.bodies import Body
from privacy.wire.checks import Check
from privacy.wire.secagg import (
    Advertise,
    Advertisements,
    Deliver,
    Survivors,
    UnmaskRequest,
)
from tests.privacy.secagg.consortium import World, exchange, identity_of, reach, site_ids


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
    """An advertisement of a colluding site, with whatever keys and a good signature."""
    entry = Advertise(site, share, mask, commitment(bytes(32), site, od), bytes(64))
    return replace(entry, signature=identity_of(site).sign(transcript.advertised(od, entry)))


def against_all(
    clients: dict[int, SecAggClient], body: Body, check: Check, spared: tuple[int, ...] = ()
) -> Iterator[Strike]:
    for site, client in clients.items():
        if site not in spared:
            yield Strike(client, body, check)


# --- the offer


def offers(check: Check, *changes: dict) -> Iterator[Strike]:
    made = world()
    for change in changes:
        yield from against_all(made.clients(), made.offer(**change), check)


@attack
def sybil_cohort() -> Iterator[Strike]:
    """Sites that the server invented sit in the cohort."""
    made = world()
    padded = tuple(sorted((*made.sites[:3], *range(1000, 1010))))
    victims = {site: made.client(site) for site in made.sites[:3]}
    yield from against_all(victims, made.offer(cohort=padded, threshold=9), Check.COHORT)


@attack
def tiny_cohort() -> Iterator[Strike]:
    """Two sites, or fewer than the policy allows: a peer or the server reads the other."""
    for count, n_min in ((1, 3), (2, 3), (4, 5)):
        made = world(n_min=n_min)
        cohort = made.sites[:count]
        victims = {site: made.client(site) for site in cohort}
        offer = made.offer(cohort=cohort, threshold=2 * count // 3 + 1)
        yield from against_all(victims, offer, Check.COHORT_SIZE)


@attack
def low_threshold() -> Iterator[Strike]:
    """A threshold that lets the server and few helpers open shares."""
    yield from offers(Check.THRESHOLD, *({"threshold": t} for t in (0, 1, 2, 5)))


@attack
def high_threshold() -> Iterator[Strike]:
    """A threshold that no drop-out would leave reachable."""
    yield from offers(Check.THRESHOLD, {"threshold": 7}, {"threshold": 8}, {"threshold": 65535})


@attack
def too_many_colluders() -> Iterator[Strike]:
    """A cohort in which n_c colluders could make two survivor sets pass."""
    made = world(8, n_c=4)
    yield from against_all(made.clients(), made.offer(), Check.COLLUDERS)


@attack
def alone_among_colluders() -> Iterator[Strike]:
    """A cohort of the victim and two sites that side with the server: the sum less their own."""
    made = world(8, n_c=2)
    victim, cohort = made.client(made.sites[0]), made.sites[:3]
    yield Strike(victim, made.offer(cohort=cohort, threshold=3), Check.COLLUDERS)


@attack
def another_model() -> Iterator[Strike]:
    yield from offers(Check.MODEL, {"model_digest": bytes([9]) * 32})


@attack
def another_recipe_or_noise() -> Iterator[Strike]:
    terms = world().terms
    yield from offers(Check.RECIPE, {"terms": replace(terms, recipe_digest=bytes(32))})
    less = replace(terms, noise_multiplier=0.5)
    looser = replace(terms, clipping_norm=9.0)
    yield from offers(Check.PRIVACY, {"terms": less}, {"terms": looser})


@attack
def another_roster() -> Iterator[Strike]:
    yield from offers(Check.ROSTER, {"roster_digest": bytes(32)})


@attack
def offer_without_end() -> Iterator[Strike]:
    yield from offers(Check.EXPIRED, {"expiry": 2**63}, {"expiry": 0})


@attack
def second_offer_for_one_attempt() -> Iterator[Strike]:
    """The same attempt again with other contents, at every later stage."""
    for stage in list(Stage)[1:6]:
        made = world()
        _, clients, _ = reach(made, stage)
        other = made.offer(expiry=made.offer().expiry + 1)
        yield from against_all(clients, other, Check.SECOND_OFFER)


@attack
def two_offers_to_two_halves() -> Iterator[Strike]:
    """Half of the sites train another model; their keys are put together all the same."""
    made = world()
    first, second = made.offer(), made.offer(model_digest=bytes([9]) * 32)
    half = made.sites[:4]
    clients = {
        site: made.client(site, **({} if site in half else {"model_digest": bytes([9]) * 32}))
        for site in made.sites
    }
    entries = []
    for site, client in clients.items():
        entry = client.receive(first if site in half else second)
        assert isinstance(entry, Advertise)
        entries.append(entry)
    yield from against_all(clients, Advertisements(tuple(entries)), Check.SIGNATURE)
    for part in (entries[:4], entries[4:]):
        victims = {entry.site: clients[entry.site] for entry in part}
        yield from against_all(victims, Advertisements(tuple(part)), Check.TOO_FEW)


# --- keys and shares


@attack
def key_swap() -> Iterator[Strike]:
    """The server puts itself in the middle: its keys in a site's name."""
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
    """Fewer than t sites are said to have advertised."""
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
    """So few are said to have shared their keys that a coalition knows all pair masks."""
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


# --- survivors and unmasking


@attack
def unmask_without_consistency() -> Iterator[Strike]:
    """Straight to the shares."""
    server, clients, _ = reach(world(), Stage.CONSISTENCY)
    finished, _, _ = reach(world(), Stage.UNMASK)
    assert server.stage is Stage.CONSISTENCY
    for site, body in finished.requests().items():
        yield Strike(clients[site], body, Check.OUT_OF_ORDER)


@attack
def self_omitted() -> Iterator[Strike]:
    """The victim is told that it dropped out: its mask key is asked for, its vector kept."""
    made = world()
    _, clients, _ = reach(made, Stage.CONSISTENCY)
    for site, client in clients.items():
        others = tuple(other for other in made.sites if other != site)
        yield Strike(client, Survivors(others), Check.SELF_OMITTED)


@attack
def few_survivors() -> Iterator[Strike]:
    made = world()
    _, clients, _ = reach(made, Stage.CONSISTENCY)
    for site, client in clients.items():
        for count in (1, 2, 5):
            few = tuple(sorted({site, *[s for s in made.sites if s != site][: count - 1]}))
            yield Strike(client, Survivors(few), Check.TOO_FEW)


@attack
def strangers_survive() -> Iterator[Strike]:
    made = world()
    _, clients, _ = reach(made, Stage.CONSISTENCY)
    yield from against_all(clients, Survivors((*made.sites, 9999)), Check.SURVIVORS)


@attack
def survivors_who_never_shared() -> Iterator[Strike]:
    """A site that dropped out before its shares were dealt is called a survivor."""
    made = world()
    server, clients = made.server(), made.clients()
    exchange(server, clients)
    gone = made.sites[0]
    for client in clients.values():
        client.provide(made.lanes()[made.sites[0]].copy())
    exchange(server, clients, silent=(gone,))
    exchange(server, clients, silent=(gone,))
    victims = {site: client for site, client in clients.items() if site != gone}
    yield from against_all(victims, Survivors(made.sites), Check.SURVIVORS)


@attack
def second_survivor_set() -> Iterator[Strike]:
    """After one set was signed another one is shown."""
    made = world()
    _, clients, _ = reach(made, Stage.UNMASK)
    for site, client in clients.items():
        out = next(other for other in reversed(made.sites) if other != site)
        other = tuple(s for s in made.sites if s != out)
        yield Strike(client, Survivors(other), Check.ANSWERED)


@attack
def two_survivor_sets_to_two_halves() -> Iterator[Strike]:
    """For the victim's two shares: it survives in the eyes of one half only."""
    made = world()
    _, clients, _ = reach(made, Stage.CONSISTENCY)
    victim, half = made.sites[-1], made.sites[:4]
    signatures = []
    for site, client in clients.items():
        seen = made.sites[:-1] if site in half else made.sites
        if site != victim:
            signatures.append((site, client.receive(Survivors(seen)).signature))
    body = UnmaskRequest(tuple(sorted(signatures)))
    yield from against_all(clients, body, Check.SIGNATURE, spared=(victim,))
    for part in (signatures[:4], signatures[4:]):
        few = UnmaskRequest(tuple(sorted(part)))
        yield from against_all(clients, few, Check.UNMASK_SIGNATURES, spared=(victim,))


@attack
def two_sets_of_sharers() -> Iterator[Strike]:
    """One half is given the victim's shares, the other half is not: U2 differs."""
    made = world()
    server, clients, _ = reach(made, Stage.INPUT)
    victim, half = made.sites[-1], made.sites[:4]
    for site, body in server.requests().items():
        kept = tuple(pair for pair in body.shares if pair[0] != victim or site not in half)
        clients[site].receive(Deliver(kept))
    survivors = Survivors(made.sites[:-1])
    signatures = [
        (site, client.receive(survivors).signature)
        for site, client in clients.items()
        if site != victim
    ]
    body = UnmaskRequest(tuple(sorted(signatures)))
    yield from against_all(clients, body, Check.SIGNATURE, spared=(victim,))


@attack
def forged_consistency() -> Iterator[Strike]:
    """Signatures of the server, of strangers, of an earlier attempt, or too few."""
    earlier, _, _ = reach(world(attempt=1), Stage.UNMASK)
    (old, *_) = earlier.requests().values()
    server, clients, _ = reach(world(attempt=2), Stage.UNMASK)
    (good, *_) = server.requests().values()
    (first, _), *rest = good.signatures
    forged = UnmaskRequest(((first, Identity.generate().sign(b"x")), *rest))
    yield from against_all(clients, forged, Check.SIGNATURE)
    yield from against_all(clients, old, Check.SIGNATURE)
    few = UnmaskRequest(good.signatures[:5])
    yield from against_all(clients, few, Check.UNMASK_SIGNATURES)
    yield from against_all(clients, UnmaskRequest(()), Check.UNMASK_SIGNATURES)
    stranger = UnmaskRequest((*good.signatures, (9999, bytes(64))))
    yield from against_all(clients, stranger, Check.UNMASK_SIGNATURES)


@attack
def second_unmask_request() -> Iterator[Strike]:
    """After the shares have left, others are asked for."""
    server, clients, _ = reach(world(), Stage.UNMASK)
    (body, *_) = server.requests().values()
    exchange(server, clients)
    yield from against_all(clients, UnmaskRequest(body.signatures[1:]), Check.ANSWERED)


@attack
def both_shares_after_the_end() -> Iterator[Strike]:
    """The other share of each peer, by replaying every earlier message and new ones."""
    made = world()
    _, clients, _ = reach(made, Stage.DONE)
    for stage in list(Stage)[1:5]:
        server, _, _ = reach(made, stage)
        for site, body in server.requests().items():
            if not isinstance(body, UnmaskRequest):
                yield Strike(clients[site], body, Check.OUT_OF_ORDER)
    yield from against_all(clients, Survivors(made.sites[:-1]), Check.OUT_OF_ORDER)


@attack
def after_the_expiry() -> Iterator[Strike]:
    """Every message, genuine, once the offer is no longer valid."""
    for stage in list(Stage)[1:5]:
        made = world()
        server, clients, _ = reach(made, stage)
        made.clock[0] = float(server.offer().expiry)
        for site, body in server.requests().items():
            yield Strike(clients[site], body, Check.EXPIRED)
