"""What a malicious server claims about survivors, and how it asks for shares."""

from __future__ import annotations

from collections.abc import Iterator

from privacy.identity import Identity
from privacy.secagg.server import Stage
from privacy.wire.checks import Check
from privacy.wire.secagg import Deliver, Survivors, UnmaskRequest
from tests.privacy.secagg.consortium import exchange, reach
from tests.privacy.secagg.malicious.strikes import Strike, against_all, attack, world


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
    """The victim supposedly dropped out: its mask key is requested, its vector kept."""
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
    """After one set has been signed, another one is shown."""
    made = world()
    _, clients, _ = reach(made, Stage.UNMASK)
    for site, client in clients.items():
        out = next(other for other in reversed(made.sites) if other != site)
        other = tuple(s for s in made.sites if s != out)
        yield Strike(client, Survivors(other), Check.ANSWERED)


@attack
def two_survivor_sets_to_two_halves() -> Iterator[Strike]:
    """To get both of the victim's shares: it survives for one half of the sites only."""
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
    """One half gets the victim's shares, the other half does not: U2 differs."""
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
    """After the shares have left, others are requested."""
    server, clients, _ = reach(world(), Stage.UNMASK)
    (body, *_) = server.requests().values()
    exchange(server, clients)
    yield from against_all(clients, UnmaskRequest(body.signatures[1:]), Check.ANSWERED)


@attack
def both_shares_after_the_end() -> Iterator[Strike]:
    """Each peer's other share, by replaying every earlier message and new ones."""
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
