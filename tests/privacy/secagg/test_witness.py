"""What sites and server remember of each other's ledgers, and what an adversary makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from privacy.errors import LedgerError
from privacy.secagg.refusals import Refused
from privacy.secagg.server import SecAggServer, Stage
from privacy.secagg.witness import Ledgers, MemoryWitness, Shown, accepted, contradiction
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.secagg import Advertise, Advertisements
from tests.privacy.secagg.consortium import (
    World,
    exchange,
    frozen,
    identity_of,
    ledgers_of,
    site_ids,
    unchanged,
)

SITES = site_ids(4)
FIRST, OLD = SITES[0], SITES[2]
NEWER = Checkpoint(bytes([OLD]) * 16, 9, b"\7" * 32)
ANOTHER = Checkpoint(b"\7" * 16, 1, b"\7" * 32)
FORK = Checkpoint(bytes([OLD]) * 16, 1, b"\7" * 32)
KNOWN = [(NEWER, Check.OLDER_LEDGER), (ANOTHER, Check.OTHER_LEDGER), (FORK, Check.OTHER_LEDGER)]


def knows(known: Checkpoint) -> MemoryWitness:
    """A table in which the site `OLD` has shown `known` before."""
    return MemoryWitness({identity_of(OLD).public: known})


@pytest.mark.parametrize(("known", "check"), KNOWN)
def test_an_advertise_with_an_older_head_or_another_ledger_is_refused_by_every_peer(
    known: Checkpoint, check: Check
) -> None:
    world = World(SITES)
    server, clients = world.server(), world.clients()
    witness = knows(known)
    own = replace(ledgers_of(FIRST), witness=witness)
    clients[FIRST] = world.client(FIRST, ledgers=own)
    exchange(server, clients)
    before, table = frozen(clients[FIRST]), dict(witness.held)
    with pytest.raises(Refused) as refused:
        clients[FIRST].receive(server.requests()[FIRST])
    assert (refused.value.check, refused.value.site) == (check, OLD)
    assert unchanged(before, clients[FIRST])
    assert witness.held == table


@pytest.mark.parametrize(("known", "check"), KNOWN)
def test_the_server_names_the_site_and_goes_on_without_it(known: Checkpoint, check: Check) -> None:
    world = World(SITES)
    server = SecAggServer(world.roster, world.offer(), world.n_min, knows(known))
    clients = world.clients()
    with pytest.raises(Refused) as refused:
        exchange(server, {OLD: clients[OLD]})
    assert (refused.value.check, refused.value.site) == (check, OLD)
    server.drop(OLD)
    del clients[OLD]
    lanes = world.lanes()
    while server.stage is not Stage.DONE:
        if server.stage is Stage.SHARE:
            for site, client in clients.items():
                client.provide(lanes[site].copy())
        exchange(server, clients)
    assert server.result().survivors == tuple(site for site in SITES if site != OLD)


def test_the_same_and_later_heads_are_taken_and_kept() -> None:
    first, second = (
        replace(ledgers_of(OLD, length).journal(), hash=bytes([length]) * 32) for length in (1, 2)
    )
    assert contradiction(None, first) is None
    assert contradiction(first, first) is None
    assert contradiction(first, second) is None
    witness = MemoryWitness()
    for shown in (first, first, second):
        witness.see([Shown(OLD, b"\1" * 32, shown)])
    assert witness.held == {b"\1" * 32: second}
    largest = replace(second, length=2**64 - 1)
    witness.see([Shown(OLD, b"\1" * 32, largest)])
    with pytest.raises(Refused):  # it has shut itself out
        witness.see([Shown(OLD, b"\1" * 32, second)])
    witness.see([Shown(FIRST, b"\2" * 32, second)])  # and nobody else


def test_one_that_contradicts_keeps_the_others_out_of_the_table() -> None:
    witness = knows(NEWER)
    fresh = Shown(FIRST, b"\2" * 32, ANOTHER)
    old = Shown(OLD, identity_of(OLD).public, replace(NEWER, length=8))
    with pytest.raises(Refused):
        witness.see([fresh, old])
    assert witness.held == knows(NEWER).held


def test_what_a_person_accepted_may_have_any_length() -> None:
    assert contradiction(accepted(b"\7" * 16), ANOTHER) is None
    assert contradiction(accepted(b"\7" * 16), NEWER) is Check.OTHER_LEDGER


def advertised(world: World, ledgers: Ledgers) -> tuple[SecAggServer, Advertise]:
    server = world.server()
    entry = world.client(OLD, ledgers=ledgers).receive(server.offer())
    assert isinstance(entry, Advertise)
    return server, entry


def test_a_changed_head_breaks_the_signature() -> None:
    """Neither coordinator nor peer can make a site look rolled back, or ahead."""
    server, entry = advertised(World(SITES), ledgers_of(OLD, 5))
    for change in ({"length": 4}, {"length": 6}, {"hash": bytes(32)}, {"ledger": bytes(16)}):
        forged = replace(entry, ledger=replace(entry.ledger, **change))
        with pytest.raises(Refused) as refused:
            server.receive(OLD, forged)
        assert refused.value.check is Check.SIGNATURE
    server.receive(OLD, entry)


def test_an_older_advertise_replayed_in_a_newer_attempt_is_no_signature_of_it() -> None:
    first, second = World(SITES), World(SITES, attempt=2)
    _, replayed = advertised(first, ledgers_of(OLD, 1))
    witness = knows(NEWER)
    server, clients = second.server(), second.clients()
    with pytest.raises(Refused) as refused:
        server.receive(OLD, replayed)
    assert refused.value.check is Check.SIGNATURE
    clients[OLD] = second.client(OLD, ledgers=Ledgers(lambda: NEWER, MemoryWitness()))
    clients[FIRST] = second.client(FIRST, ledgers=replace(ledgers_of(FIRST), witness=witness))
    exchange(server, clients)
    shown = server.requests()[FIRST]
    assert isinstance(shown, Advertisements)
    entries = tuple(replayed if entry.site == OLD else entry for entry in shown.entries)
    with pytest.raises(Refused) as refused:
        clients[FIRST].receive(Advertisements(entries))
    assert (refused.value.check, refused.value.site) == (Check.SIGNATURE, OLD)
    assert witness.held == knows(NEWER).held
    clients[FIRST].receive(shown)  # nobody is condemned for what was replayed


def test_attempts_shown_in_the_wrong_order_cost_that_attempt_alone() -> None:
    """A coordinator that opens two attempts and shows the newer first refuses a site it could
    have left out anyway; the table only goes forward."""
    older, newer, newest = (World(SITES, attempt=number) for number in (1, 2, 3))
    witness = MemoryWitness()

    def show(world: World, length: int) -> None:
        server, clients = world.server(), world.clients()
        clients[OLD] = world.client(OLD, ledgers=ledgers_of(OLD, length))
        own = replace(ledgers_of(FIRST, length), witness=witness)
        clients[FIRST] = world.client(FIRST, ledgers=own)
        for site in set(SITES) - {OLD, FIRST}:
            clients[site] = world.client(site, ledgers=ledgers_of(site, length + 100))
        exchange(server, clients)
        clients[FIRST].receive(server.requests()[FIRST])

    show(newer, 2)
    with pytest.raises(Refused):
        show(older, 1)
    show(newest, 3)
    assert witness.held[identity_of(OLD).public].length == 3


def test_an_attempt_that_cannot_be_journalled_is_not_advertised() -> None:
    world = World(SITES)

    def full() -> Checkpoint:
        raise LedgerError("The disk of the ledger is full.")

    client = world.client(FIRST, ledgers=Ledgers(full, MemoryWitness()))
    before = frozen(client)
    with pytest.raises(LedgerError):
        client.receive(world.offer())
    assert unchanged(before, client)


def test_only_an_offer_that_passed_every_check_is_journalled_and_only_once() -> None:
    world = World(SITES)
    calls = []

    def journal() -> Checkpoint:
        calls.append(1)
        return ANOTHER

    client = world.client(FIRST, ledgers=Ledgers(journal, MemoryWitness()))
    with pytest.raises(Refused):
        client.receive(world.offer(threshold=2))
    assert calls == []
    assert client.receive(world.offer()) == client.receive(world.offer())
    assert calls == [1]
