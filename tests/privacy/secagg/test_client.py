import random
import time
from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import SecAggError
from privacy.identity import Identity
from privacy.secagg.client import ClientStage, SecAggClient
from privacy.secagg.offer import SecAggPolicy, encoding_of, most_colluders, threshold
from privacy.secagg.refusals import Refused
from privacy.secagg.server import Stage as ServerStage
from privacy.secagg.transcript import offer_digest
from privacy.wire.bodies import Body, Running
from privacy.wire.checks import Check
from privacy.wire.offer import MechanismNumber
from privacy.wire.reasons import RefusedMessage
from privacy.wire.secagg import Advertise, Deliver, MaskedInput, Survivors
from tests.privacy.secagg.consortium import (
    NOW,
    RUN,
    TERMS,
    World,
    exchange,
    frozen,
    identity_of,
    ledgers_of,
    reach,
    roster_of,
    run_all,
    site_ids,
    total,
    unchanged,
)
from tests.privacy.secagg.messages import KNOWN as SECAGG
from tests.privacy.wire.messages import KNOWN as OTHERS

SITES = site_ids(4)
FIRST = SITES[0]
# Where the machine of a site stands before the server's exchange.
STAGES = {
    ClientStage.OFFER: ServerStage.ADVERTISE,
    ClientStage.KEYS: ServerStage.SHARE,
    ClientStage.DELIVERY: ServerStage.INPUT,
    ClientStage.INPUT: ServerStage.CONSISTENCY,
    ClientStage.SIGNED: ServerStage.UNMASK,
    ClientStage.DONE: ServerStage.DONE,
}


def refusal(client: SecAggClient, body: Body) -> Refused:
    before = frozen(client)
    with pytest.raises(Refused) as refused:
        client.receive(body)
    assert unchanged(before, client)
    return refused.value


def genuine(world: World) -> dict[ServerStage, Body]:
    """The message to the first site in every exchange."""
    found = {}
    for stage in list(ServerStage)[:5]:
        server, _, _ = reach(world, stage)
        found[stage] = server.requests()[FIRST]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_every_illegal_message_in_every_state_changes_nothing(stage):
    """Samples of every kind there is, then the genuine messages of all other stages."""
    world = World(SITES)
    server, clients, lanes = reach(world, STAGES[stage])
    client = clients[FIRST]
    assert client.stage is stage
    for body, _ in [*SECAGG, *OTHERS]:
        refusal(client, body)
    messages = genuine(world)
    due = list(ServerStage).index(STAGES[stage])
    for number, body in enumerate(messages.values()):
        if number not in (due, due - 1):
            assert refusal(client, body).check in (Check.OUT_OF_ORDER, Check.ANSWERED)
    while server.stage is not ServerStage.DONE:
        if server.stage is ServerStage.SHARE:
            for site, one in clients.items():
                one.provide(lanes[site].copy())
        exchange(server, clients)
    assert np.array_equal(server.result().lanes, total(lanes, SITES))


def test_illegal_messages_while_the_update_is_awaited_change_nothing():
    client, deliver, lanes = waiting()
    assert client.stage is ClientStage.WAITING
    for body, _ in [*SECAGG, *OTHERS]:
        refusal(client, body)
    world = World(SITES)
    for stage, body in genuine(world).items():
        if stage is not ServerStage.INPUT:
            refusal(client, body)
    client.provide(lanes)
    assert isinstance(client.receive(deliver), MaskedInput)


def waiting() -> tuple[SecAggClient, Deliver, np.ndarray]:
    """A site that has its shares and still trains, the message it got, and its update."""
    world = World(SITES)
    server, clients, lanes = world.server(), world.clients(), world.lanes()
    exchange(server, clients)
    exchange(server, clients)
    deliver = server.requests()[FIRST]
    assert clients[FIRST].receive(deliver) == Running()
    return clients[FIRST], deliver, lanes[FIRST]


@pytest.mark.parametrize("stage", list(STAGES)[1:])
def test_a_message_that_is_repeated_is_answered_with_the_same_bytes(stage):
    world = World(SITES)
    server, clients, _ = reach(world, list(ServerStage)[list(STAGES).index(stage) - 1])
    for site, client in clients.items():
        if client.stage is ClientStage.KEYS:
            client.provide(world.lanes()[site].copy())
    body = server.requests()[FIRST]
    first = clients[FIRST].receive(body)
    assert clients[FIRST].stage is stage
    before = frozen(clients[FIRST])
    for _ in range(2):
        again = clients[FIRST].receive(type(body).decode(body.encode()))
        assert again.encode() == first.encode()
    assert frozen(clients[FIRST])[:1] == before[:1]


def test_it_says_that_it_trains_until_the_update_is_there():
    client, deliver, lanes = waiting()
    assert client.receive(deliver) == Running()
    assert client.stage is ClientStage.WAITING
    client.provide(lanes)
    masked = client.receive(deliver)
    assert isinstance(masked, MaskedInput)
    assert client.stage is ClientStage.INPUT
    assert client.receive(deliver) == masked


def test_while_it_trains_no_other_shares_are_taken():
    client, deliver, lanes = waiting()
    fewer = Deliver(deliver.shares[:-1])
    assert refusal(client, fewer).check is Check.ANSWERED
    client.provide(lanes)
    assert refusal(client, fewer).check is Check.ANSWERED


def test_an_update_is_provided_once_and_burned():
    client, deliver, lanes = waiting()
    original = lanes.copy()
    client.provide(lanes)
    with pytest.raises(SecAggError, match="burned"):
        client.provide(original.copy())
    masked = client.receive(deliver)
    assert not np.array_equal(masked.lanes, original)
    assert not np.array_equal(lanes, original)
    with pytest.raises(SecAggError, match="burned"):
        client.provide(original)
    with pytest.raises(ValueError, match="read-only"):
        lanes[0] = 0


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(2, np.uint64), np.zeros((3, 1), np.uint64), np.zeros(3, np.int64)],
    ids=["length", "shape", "type"],
)
def test_an_update_of_another_form_is_no_update(wrong):
    client, _, _ = waiting()
    with pytest.raises(SecAggError, match="3 writable"):
        client.provide(wrong)


def test_without_an_offer_there_is_no_encoding():
    client = World(SITES).client(FIRST)
    with pytest.raises(SecAggError, match="No offer"):
        _ = client.encoding
    with pytest.raises(SecAggError, match="No offer"):
        client.provide(np.zeros(3, np.uint64))


def test_the_encoding_is_the_offered_one():
    world = World(SITES)
    client = world.client(FIRST)
    client.receive(world.offer())
    assert client.encoding == encoding_of(world.offer())
    assert (client.encoding.sites, client.encoding.lanes) == (4, 3)


def test_a_closed_machine_knows_nothing_any_more():
    client, deliver, _ = waiting()
    client.close()
    assert client.stage is ClientStage.DONE
    assert refusal(client, deliver).check is Check.OUT_OF_ORDER
    with pytest.raises(SecAggError):
        client.provide(np.zeros(3, np.uint64))


def test_a_new_process_does_not_resume_an_open_round():
    """Its journal names the attempt, so even the genuine offer is refused."""
    world = World(SITES)
    _, clients, _ = reach(world, ServerStage.CONSISTENCY)
    restarted = world.client(FIRST, newest=(RUN, 1, 1))
    assert refusal(restarted, world.offer()).check is Check.NOT_NEWER
    messages = genuine(world)
    for stage in list(ServerStage)[1:5]:
        assert refusal(restarted, messages[stage]).check is Check.OUT_OF_ORDER
    assert clients[FIRST].stage is ClientStage.INPUT


@pytest.mark.parametrize(
    ("newest", "taken"),
    [
        (None, True),
        ((RUN, 1, 0), True),
        ((RUN, 0, 9), True),
        ((RUN - 1, 9, 9), True),
        ((RUN, 1, 1), False),
        ((RUN, 1, 2), False),
        ((RUN, 2, 1), False),
        ((RUN + 1, 0, 0), False),
    ],
)
def test_only_what_is_newer_than_the_journal_is_taken(newest, taken):
    world = World(SITES)
    client = world.client(FIRST, newest=newest)
    if taken:
        assert isinstance(client.receive(world.offer()), Advertise)
    else:
        assert refusal(client, world.offer()).check is Check.NOT_NEWER


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"version": 1}, Check.VERSION),
        ({"run": RUN + 1}, Check.RUN),
        ({"round": 2}, Check.RUN),
        ({"attempt": 2}, Check.RUN),
        ({"roster_digest": bytes(32)}, Check.ROSTER),
        ({"model_digest": bytes(32)}, Check.MODEL),
        ({"cohort": SITES[1:]}, Check.COHORT),
        ({"cohort": (*SITES, 999)}, Check.COHORT),
        ({"cohort": SITES[:2]}, Check.COHORT_SIZE),
        ({"cohort": SITES[:3], "threshold": 2}, Check.THRESHOLD),
        ({"threshold": 4}, Check.THRESHOLD),
        ({"expiry": int(NOW)}, Check.EXPIRED),
        ({"expiry": int(NOW) + 3601}, Check.EXPIRED),
    ],
    ids=str,
)
def test_an_offer_that_is_not_the_expected_one_is_refused(change, check):
    world = World(SITES)
    client = world.client(FIRST)
    assert refusal(client, world.offer(**change)).check is check
    assert isinstance(client.receive(world.offer()), Advertise)


@pytest.mark.parametrize(
    ("field", "value", "check"),
    [
        ("recipe_digest", bytes(32), Check.RECIPE),
        ("dimension", 11, Check.ENCODING),
        ("bits", 21, Check.ENCODING),
        ("bound", 2.0, Check.ENCODING),
        ("clipping_norm", 2.0, Check.PRIVACY),
        ("weight_cap", 3.0, Check.PRIVACY),
        ("noise_multiplier", 0.5, Check.PRIVACY),
        ("mechanism", MechanismNumber.POOLED, Check.PRIVACY),
    ],
)
def test_terms_come_from_the_policy(field, value, check):
    world = World(SITES)
    offer = world.offer(terms=replace(TERMS, **{field: value}))
    assert refusal(world.client(FIRST), offer).check is check


def test_everything_in_an_offer_is_in_its_digest():
    """So two sites that were offered anything different do not take each other's keys."""
    data = World(SITES).offer().encode()
    rng, seen = random.Random(0), {offer_digest(World(SITES).offer())}
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        try:
            seen.add(offer_digest(type(World(SITES).offer()).decode(changed)))
        except RefusedMessage:  # an offer that is none needs no digest
            seen.add(bytes([at]))
    assert len(seen) == len(data) + 1


@pytest.mark.parametrize(
    ("n", "t"), [(3, 3), (4, 3), (8, 6), (12, 9), (32, 22), (100, 67), (1000, 667)]
)
def test_thresholds(n, t):
    assert threshold(n) == t


@pytest.mark.parametrize("n", range(3, 120))
def test_the_largest_number_of_colluders(n):
    """n_c <= 2t - n - 1, and two honest survivors are left to hide in each other's update."""
    t, most = threshold(n), most_colluders(n)
    assert 2 * t > n + most
    assert t - most >= 2
    assert 2 * t <= n + most + 1 or t - most == 2


@pytest.mark.parametrize("n_c", [0, 3, 4])
def test_colluders_of_eight_sites(n_c):
    world = World(site_ids(8), n_c=n_c)
    client = world.client(world.sites[0])
    if n_c <= 3:
        assert isinstance(client.receive(world.offer()), Advertise)
    else:
        assert refusal(client, world.offer()).check is Check.COLLUDERS


@pytest.mark.parametrize("change", [{"n_min": 2}, {"n_min": 0}, {"n_c": -1}], ids=str)
def test_a_policy_under_which_no_round_is_safe_is_refused(change):
    with pytest.raises(SecAggError):
        SecAggPolicy(bytes(32), TERMS, **change)


def test_a_roster_that_is_not_pinned_is_refused():
    world = World(SITES)
    for policy, identity in [
        (SecAggPolicy(bytes(32), TERMS), identity_of(FIRST)),
        (world.policy, Identity.generate()),
    ]:
        with pytest.raises(SecAggError, match="roster"):
            SecAggClient(identity, roster_of(SITES), policy, world.expected(), ledgers_of(1))


def plain_world() -> World:
    terms = replace(TERMS, mechanism=MechanismNumber.PLAIN, noise_multiplier=0.0)
    return World(site_ids(8), terms)


@pytest.mark.parametrize(
    ("earlier", "allowed"),
    [
        (site_ids(8), True),
        (site_ids(8)[:7], False),
        (site_ids(8)[:6], True),
        ((*site_ids(8)[:7], 999), True),
    ],
    ids=["the same", "one less", "two less", "one other"],
)
def test_without_noise_two_sums_must_not_tell_of_one_site(earlier, allowed):
    world = plain_world()
    _, clients, _ = reach(world, ServerStage.CONSISTENCY)
    client = clients[world.sites[0]]
    client.remember((frozenset(earlier),))
    if allowed:
        client.receive(Survivors(world.sites))
        assert client.survivors == world.sites
    else:
        assert refusal(client, Survivors(world.sites)).check is Check.DIFFERENCING


def test_with_noise_composition_covers_that():
    world = World(site_ids(8))
    _, clients, _ = reach(world, ServerStage.CONSISTENCY)
    client = clients[world.sites[0]]
    client.remember((frozenset(world.sites[:-1]),))
    client.receive(Survivors(world.sites))
    assert client.survivors == world.sites


@pytest.mark.parametrize(("n_min", "taken"), [(6, True), (7, True), (8, False)])
def test_fewer_survivors_than_the_policy_wants_are_refused(n_min, taken):
    world = World(site_ids(8), n_min=n_min)
    _, clients, _ = reach(world, ServerStage.CONSISTENCY)
    client, seven = clients[world.sites[0]], Survivors(world.sites[:7])
    if taken:
        client.receive(seven)
    else:
        assert refusal(client, seven).check is Check.TOO_FEW


def test_text_shows_no_secret():
    world = World(SITES)
    _, clients, _ = reach(world, ServerStage.INPUT)
    client = clients[FIRST]
    text = f"{client!r} {client._state!r} {client._state.secrets!r} {client._state.shares!r}"
    assert client._state.secrets is not None
    assert client._state.secrets.b.hex() not in text
    assert str(client._state.secrets.b) not in text


def test_a_refusal_says_what_to_do():
    refused = Refused(Check.SIGNATURE, 5)
    assert "site 5" in str(refused)
    assert "Compare the fingerprints" in str(refused)
    assert "the server" in str(Refused(Check.MODEL))


def test_two_attempts_share_no_byte_of_keys_or_masks():
    """With the system's randomness, a new attempt of the same site repeats nothing."""
    world = World(SITES)
    policy = SecAggPolicy(world.roster.digest(), TERMS)
    fresh = world.offer(expiry=int(time.time()) + 60)
    entries = [
        SecAggClient(
            identity_of(FIRST), world.roster, policy, world.expected(), ledgers_of(FIRST)
        ).receive(fresh)
        for _ in range(2)
    ]
    parts = [{entry.share_key, entry.mask_key, entry.commitment} for entry in entries]
    assert not parts[0] & parts[1]


def test_the_whole_attempt_is_five_messages():
    world, seen = World(SITES), []
    run_all(world, world.lanes(), seen=seen)
    kinds = [type(body).__name__ for site, body in seen if site == FIRST]
    assert kinds == ["Advertise", "ShareBundle", "MaskedInput", "Consistency", "Unmask"]


@pytest.mark.parametrize("early", [True, False], ids=["before the shares", "after the shares"])
def test_an_update_whose_masking_failed_is_burned_too(early, monkeypatch):
    """Half masked is neither an update nor random: it never leaves."""
    client, deliver, lanes = waiting()
    if early:
        world = World(SITES)
        server, clients, _ = reach(world, ServerStage.INPUT)
        client, deliver = clients[FIRST], server.requests()[FIRST]
    else:
        client.provide(lanes)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("privacy.secagg.client.apply_masks", fail)
    with pytest.raises(MemoryError):
        client.receive(deliver)
    monkeypatch.undo()
    assert client.receive(deliver) == Running()
    assert client.receive(deliver) == Running()
    with pytest.raises(SecAggError, match="burned"):
        client.provide(lanes)
