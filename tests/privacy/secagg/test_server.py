from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import SecAggError
from privacy.identity import Identity
from privacy.secagg import transcript
from privacy.secagg.keys import KeyPair
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.server import SecAggServer, Stage
from privacy.wire.bodies import Body, Running
from privacy.wire.checks import Check
from privacy.wire.secagg import (
    Advertise,
    Consistency,
    MaskedInput,
    SecAggRefusal,
    ShareBundle,
    Unmask,
)
from tests.privacy.secagg.consortium import (
    World,
    exchange,
    identity_of,
    reach,
    site_ids,
    total,
)
from tests.privacy.secagg.messages import KNOWN as SECAGG
from tests.privacy.wire.messages import KNOWN as OTHERS

SITES = site_ids(4)
FIRST, SECOND = SITES[:2]
STAGES = list(Stage)[:5]


def snapshot(server: SecAggServer) -> tuple:
    record = server._record
    answers = [dict(record.answers(stage)) for stage in STAGES]
    rest = (server.stage, server.waiting, server._sum.tobytes(), dict(server._lost))
    return answers, rest, set(server._gone), set(server._false), server._survivors


def refusal(server: SecAggServer, site: int, body: Body) -> Refused:
    before = snapshot(server)
    with pytest.raises(Refused) as refused:
        server.receive(site, body)
    assert snapshot(server) == before
    return refused.value


def answer_of(world: World, stage: Stage, site: int) -> Body:
    server, clients, _ = reach(world, stage)
    return clients[site].receive(server.requests()[site])


@pytest.mark.parametrize("stage", list(Stage)[:6])
def test_every_illegal_message_in_every_state_changes_nothing(stage):
    world = World(SITES)
    server, clients, lanes = reach(world, stage)
    for body, _ in [*SECAGG, *OTHERS]:
        legal = isinstance(body, SecAggRefusal) or (
            isinstance(body, Running) and stage is Stage.INPUT
        )
        if not legal or stage is Stage.DONE:
            assert refusal(server, FIRST, body).site == FIRST
        assert refusal(server, 9999, body).check is Check.SENDER
    for other in STAGES:
        if other is not stage:
            genuine = answer_of(world, other, FIRST)
            check = Check.SENDER if stage is Stage.DONE else Check.OUT_OF_ORDER
            assert refusal(server, FIRST, genuine).check is check
    while server.stage is not Stage.DONE:
        if server.stage is Stage.SHARE:
            for site, client in clients.items():
                client.provide(lanes[site].copy())
        exchange(server, clients)
    assert np.array_equal(server.result().lanes, total(lanes, SITES))


@pytest.mark.parametrize("stage", STAGES)
def test_an_answer_that_comes_twice_counts_once(stage):
    world = World(SITES)
    server, clients, lanes = reach(world, stage)
    if stage is Stage.SHARE:
        for site, client in clients.items():
            client.provide(lanes[site].copy())
    body = clients[FIRST].receive(server.requests()[FIRST])
    server.receive(FIRST, body)
    before = snapshot(server)
    server.receive(FIRST, type(body).decode(body.encode()))
    assert snapshot(server) == before
    assert server.waiting == set(SITES[1:])
    while server.stage is not Stage.DONE:
        if server.stage is Stage.SHARE and stage is not Stage.SHARE:
            for site, client in clients.items():
                client.provide(lanes[site].copy())
        exchange(server, clients)
    assert np.array_equal(server.result().lanes, total(lanes, SITES))


def test_another_answer_than_the_first_is_refused():
    server, clients, _ = reach(World(SITES), Stage.SHARE)
    body = clients[FIRST].receive(server.requests()[FIRST])
    server.receive(FIRST, body)
    other = ShareBundle((bytes(82), *body.sealed[1:]))
    assert refusal(server, FIRST, other).check is Check.ANSWERED


def test_running_is_no_answer():
    server, _, _ = reach(World(SITES), Stage.INPUT)
    before = snapshot(server)
    server.receive(FIRST, Running())
    assert snapshot(server) == before


def test_keys_are_checked():
    world = World(SITES)
    server = world.server()
    od = transcript.offer_digest(world.offer())
    good = world.client(FIRST).receive(world.offer())

    def resigned(entry: Advertise) -> Advertise:
        signature = identity_of(entry.site).sign(transcript.advertised(od, entry))
        return replace(entry, signature=signature)

    assert refusal(server, SECOND, good).check is Check.SENDER
    forged = replace(good, mask_key=KeyPair.generate().public)
    assert refusal(server, FIRST, forged).check is Check.SIGNATURE
    weak = resigned(replace(good, mask_key=bytes(32)))
    assert refusal(server, FIRST, weak).check is Check.KEY
    same = resigned(replace(good, mask_key=good.share_key))
    assert refusal(server, FIRST, same).check is Check.REPEATED_KEY
    server.receive(FIRST, good)
    copied = resigned(replace(good, site=SECOND))
    assert refusal(server, SECOND, copied).check is Check.REPEATED_KEY
    fresh = resigned(replace(good, mask_key=KeyPair.generate().public))
    assert refusal(server, FIRST, fresh).check is Check.ANSWERED


def test_bundles_are_counted():
    server, clients, _ = reach(World(SITES), Stage.SHARE)
    body = clients[FIRST].receive(server.requests()[FIRST])
    for sealed in (body.sealed[:-1], (*body.sealed, bytes(82)), ()):
        assert refusal(server, FIRST, ShareBundle(sealed)).check is Check.SHARE_COUNT


def test_masked_inputs_are_checked():
    server, clients, _ = reach(World(SITES), Stage.INPUT)
    body = clients[FIRST].receive(server.requests()[FIRST])
    changed = body.lanes.copy()
    changed[0] += np.uint64(1)
    wrong = [
        (MaskedInput(changed, body.signature), Check.SIGNATURE),
        (MaskedInput(body.lanes, bytes(64)), Check.SIGNATURE),
        (MaskedInput(body.lanes[:-1].copy(), body.signature), Check.INPUT_LENGTH),
    ]
    for masked, check in wrong:
        assert refusal(server, FIRST, masked).check is check
    assert refusal(server, SECOND, body).check is Check.SIGNATURE
    signed = transcript.masked_input(server._th, SITES, changed)
    server.receive(FIRST, body)
    second = MaskedInput(changed, identity_of(FIRST).sign(signed))
    assert refusal(server, FIRST, second).check is Check.ANSWERED


def test_consistency_is_checked():
    server, _, _ = reach(World(SITES), Stage.CONSISTENCY)
    for signature in (bytes(64), Identity.generate().sign(b"")):
        assert refusal(server, FIRST, Consistency(signature)).check is Check.SIGNATURE
    narrower = transcript.consistency(server._th, SITES, SITES[:3])
    other = Consistency(identity_of(FIRST).sign(narrower))
    assert refusal(server, FIRST, other).check is Check.SIGNATURE


def test_shares_are_counted_and_in_range():
    server, clients, _ = reach(World(SITES), Stage.UNMASK)
    body = clients[FIRST].receive(server.requests()[FIRST])
    assert refusal(server, FIRST, Unmask(body.shares[:-1])).check is Check.SHARE_COUNT
    out = Unmask((bytes([0xFF]) * 33, *body.shares[1:]))
    assert refusal(server, FIRST, out).check is Check.SHARE


def falsified(body: Unmask, places: list[int]) -> Unmask:
    shares = list(body.shares)
    for place in places:
        shares[place] = bytes([0, *bytes(31), 7])
    return Unmask(tuple(shares))


@pytest.mark.parametrize("liars", [(0,), (3,), (7,), (2, 5)], ids=str)
@pytest.mark.parametrize("silent", [(), (site_ids(8)[1],)], ids=["all", "one dropped"])
def test_false_shares_are_found_and_their_sites_named(liars, silent):
    """n = 8, t = 6. As many false shares as there are to spare do not spoil the sum."""
    world = World(site_ids(8))
    server, clients, lanes = reach(world, Stage.INPUT)
    exchange(server, clients, silent=silent)
    for site in silent:
        del clients[site]
    exchange(server, clients)
    names = [world.sites[place] for place in liars if world.sites[place] in clients]
    for site, body in server.requests().items():
        answer = clients[site].receive(body)
        server.receive(site, falsified(answer, list(range(8))) if site in names else answer)
    if len(clients) - len(names) < 6:
        with pytest.raises(Aborted) as aborted:
            server.deadline()
        assert aborted.value.stage == "unmask"
        assert aborted.value.sites == world.sites[:1]
        return
    server.deadline()
    outcome = server.result()
    assert outcome.false == tuple(names)
    assert np.array_equal(outcome.lanes, total(lanes, clients))


def test_one_false_share_among_many_names_who_gave_it():
    world = World(site_ids(8))
    server, clients, lanes = reach(world, Stage.UNMASK)
    for site, body in server.requests().items():
        answer = clients[site].receive(body)
        server.receive(site, falsified(answer, [4]) if site == world.sites[2] else answer)
    server.deadline()
    assert server.result().false == (world.sites[2],)
    assert np.array_equal(server.result().lanes, total(lanes, world.sites))


def test_a_site_that_dealt_false_shares_is_named():
    """Its commitment does not open: no t-subset helps, and there is no sum."""
    world = World(SITES)
    server, clients, _ = reach(world, Stage.UNMASK)
    for site, body in server.requests().items():
        server.receive(site, falsified(clients[site].receive(body), [2]))
    with pytest.raises(Aborted) as aborted:
        server.deadline()
    assert (aborted.value.check, aborted.value.sites) == (Check.SELF_MASK, (SITES[2],))
    assert server.stage is Stage.ABORTED


def test_a_dropped_site_that_dealt_false_shares_is_named():
    world = World(SITES)
    server, clients, _ = reach(world, Stage.INPUT)
    exchange(server, clients, silent=(SITES[3],))
    exchange(server, clients)
    for site, body in server.requests().items():
        server.receive(site, falsified(clients[site].receive(body), [3]))
    with pytest.raises(Aborted) as aborted:
        server.deadline()
    assert (aborted.value.check, aborted.value.sites) == (Check.MASK_KEY, (SITES[3],))


def test_who_has_refused_or_is_gone_is_not_waited_for():
    world = World(SITES)
    server = world.server()
    server.receive(FIRST, SecAggRefusal(Check.MODEL, 0))
    server.drop(SECOND)
    assert server.waiting == set(SITES[2:])
    assert set(server.requests()) == set(SITES[2:])
    # It may think again: its answer counts.
    server.receive(FIRST, world.client(FIRST).receive(world.offer()))
    for site in SITES[2:]:
        server.receive(site, world.client(site).receive(world.offer()))
    assert not server.waiting
    server.deadline()
    assert server.stage is Stage.SHARE
    assert server.waiting == set(SITES[2:])


def test_there_is_no_sum_before_the_end():
    server, _, _ = reach(World(SITES), Stage.UNMASK)
    with pytest.raises(SecAggError, match="no sum"):
        server.result()


@pytest.mark.parametrize("over", [Stage.DONE, Stage.ABORTED])
def test_after_the_end_nothing_goes_on(over):
    server, _, _ = reach(World(SITES), Stage.DONE if over is Stage.DONE else Stage.SHARE)
    if over is Stage.ABORTED:
        with pytest.raises(Aborted):
            server.deadline()
    assert server.stage is over
    assert server.requests() == {}
    with pytest.raises(SecAggError):
        server.deadline()
    assert refusal(server, FIRST, Running()).check is Check.SENDER


@pytest.mark.parametrize(
    "change",
    [
        {"cohort": (*SITES, 999), "threshold": 4},
        {"roster_digest": bytes(32)},
        {"threshold": 2},
        {"cohort": SITES[:2], "threshold": 2},
    ],
    ids=str,
)
def test_an_offer_that_no_site_would_take_is_not_made(change):
    with pytest.raises(SecAggError):
        World(SITES).server(**change)


def test_a_width_that_does_not_fit_is_refused_before_anything_is_sent():
    world = World(site_ids(8))
    with pytest.raises(SecAggError, match="bits"):
        world.server(terms=replace(world.terms, bits=2))


def test_it_says_who_dropped_out_where():
    world = World(site_ids(16))  # t = 11: five may drop out
    gone = dict(zip(STAGES, world.sites, strict=False))
    server, clients, lanes = world.server(), world.clients(), world.lanes()
    while server.stage is not Stage.DONE:
        clients.pop(gone.get(server.stage, -1), None)
        if server.stage is Stage.SHARE:
            for site, client in clients.items():
                client.provide(lanes[site].copy())
        exchange(server, clients)
    outcome = server.result()
    before_the_sum = STAGES[:3]
    assert outcome.lost == {gone[stage]: stage for stage in before_the_sum}
    assert outcome.survivors == world.sites[3:]
    assert np.array_equal(outcome.lanes, total(lanes, world.sites[3:]))
