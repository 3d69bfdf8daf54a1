"""False sums: who can have one taken, who finds it, and the limits of that."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.secagg.refusals import Aborted
from privacy.secagg.sealed.collector import StepCollector
from privacy.secagg.sealed.mac import mac_key, tags_of
from privacy.wire.checks import Check
from privacy.wire.sealed import PROOF_LANES, OpenedSum
from tests.privacy.secagg.sealed.world import (
    added,
    ask,
    packed,
    refused,
)


def forgeries(opened: OpenedSum, other: OpenedSum) -> dict[str, np.ndarray]:
    true, more = opened.lanes, np.zeros_like(opened.lanes)
    more[0] = 1
    places = np.roll(np.arange(len(opened.packed)), 1)
    turned = true.copy()
    turned[: len(places)] = true[places]
    top = more.copy()
    top[0] = np.uint64(1 << 63)
    return {
        "2S": added([true, true], proof=PROOF_LANES),
        "2S, lane by lane": true + true,
        "0": np.zeros_like(true),
        "+1": true + more,
        "-1": true - more,
        "permuted": turned,
        "S + e_k": true + (more << np.uint64(12)),
        "-S": (~true) + np.uint64(1),
        "another step's": other.lanes,
        "the highest bit of a lane": true + top,
        "the vector of another step": np.concatenate((other.packed, true[-3:])),
        "one tag": true + np.eye(1, len(true), len(true) - 1, dtype=np.uint64)[0],
        "the zero": true + np.eye(1, len(true), len(true) - 3, dtype=np.uint64)[0],
        "short": true[:-1],
    }


NAMES = tuple(
    forgeries(*(OpenedSum(1, 1, 1, bytes(32), (1,), np.arange(10, dtype=np.uint64)),) * 2)
)


@pytest.mark.parametrize("name", NAMES)
def test_the_coordinator_alone_cannot_have_a_false_sum_taken(world, name):
    server = world.open()
    world.run_step(server, 1)
    world.run_step(server, 2)
    true = world.sums.pop()
    lanes = forgeries(true, world.sums[0])[name]
    false = replace(true, lanes=lanes)
    world.sums.append(false)
    world.begin(server, 3)
    requests = server.requests()
    assert requests[2].opened == (false,)
    for site in world.sites:
        with refused(world, Check.FALSE_SUM):
            ask(world, site, requests[site])
        assert len(world.disks[site].charged()) == 2
    world.sums[-1] = true
    world.run_step(server, 3)


@pytest.mark.parametrize("changes", [{"step": 3}, {"attempt": 2}, {"cohort": (2, 5, 8)}])
def test_a_true_sum_under_other_numbers_is_false(world, changes):
    server = world.open()
    world.run_step(server, 1)
    world.sums[0] = replace(world.sums[0], **changes)
    world.begin(server, 2)
    with refused(world, Check.FALSE_SUM):
        ask(world, 11, server.requests()[11])


@pytest.mark.parametrize("session", [0, 1, 2, 3])
@pytest.mark.parametrize("label", [None, bytes(32)], ids=["its label", "another label"])
def test_no_session_can_be_named_in_which_nobody_can_check_the_sum(world, session, label):
    """A sum that names a site has to be of an attempt that it was in, whatever its session."""
    world.open()
    server = world.open()
    world.run_step(server, 1)
    true = world.sums[0]
    lanes = true.lanes * np.uint64(3)
    world.sums[0] = replace(true, session=session, lanes=lanes, label=label or true.label)
    world.begin(server, 2)
    request = server.requests()[2]
    with refused(world, Check.FALSE_SUM):
        ask(world, 2, request)


def test_a_restart_makes_only_the_attempts_before_it_unprovable(world):
    server = world.open()
    world.run_step(server, 1)
    for site in world.sites:
        world.restart(site)
    server = world.open(first=2)
    world.run_step(server, 2)  # with the sum of step 1, which nobody can prove any more
    true = world.sums[1]
    for changes in ({"session": 1}, {"lanes": true.lanes + np.uint64(1)}, {"attempt": 2}):
        world.sums[1] = replace(true, **changes)
        world.begin(server, 3)
        with refused(world, Check.FALSE_SUM):
            ask(world, 5, server.requests()[5])
    world.sums[1] = true
    world.run_step(server, 3)


def test_known_limit_a_sum_of_a_session_without_this_site_is_not_proven_to_it(world):
    """Its members refuse it; to the others it is bound by the label's chain alone."""
    server = world.open(silent=(11,), members=(2, 5, 8, 11))
    world.run_step(server, 1)
    forged = replace(world.sums[0], lanes=world.sums[0].lanes * np.uint64(3))
    server = world.open(first=2)
    world.sums[0] = forged
    world.begin(server, 2)
    requests = server.requests()
    assert world.clients[11].unproven(requests[11]) == (forged,)
    for site in (2, 5, 8):
        with refused(world, Check.FALSE_SUM):
            ask(world, site, requests[site])


def test_known_limit_a_rushing_site_and_the_coordinator_can_set_the_sum(world):
    """Every member knows the group's secret: said in the docs, and no epsilon rests on it."""
    server = world.open()
    world.run_step(server, 1)
    true = world.sums[0]
    secret = world.clients[8]._session.secret
    wanted = packed(np.full(128, 7))
    key = mac_key(secret, true.label, (true.session, true.step, true.attempt), true.cohort)
    proof = tags_of(np.full(128, 7), key, constant=True)
    forged = np.concatenate((wanted, np.zeros(1, np.uint64), proof))
    world.sums[0] = replace(true, lanes=forged)
    world.run_step(server, 2)


def test_known_limit_a_site_that_sends_garbage_is_not_named(world):
    """Its masks fit, so the sum opens; the tags do not fit, and every site refuses the sum."""
    server = world.open()
    world.begin(server)
    world.take_up(server)
    vectors = world.vectors()
    secrets = world.clients[8]._open._secrets
    world.clients[8]._open._secrets = replace(secrets, mac=bytes(32))
    world.provide(vectors)
    world.to_slot()
    world.collect(server)
    world.sums.append(server.result())
    world.begin(server, 2)
    for site, body in server.requests().items():
        with refused(world, Check.FALSE_SUM):
            ask(world, site, body)


def test_masks_that_do_not_fit_name_the_pair(world):
    server = world.open()
    world.begin(server)
    world.take_up(server)
    client = world.clients[8]._open
    seeds = list(client._secrets.seeds)
    seeds[0] = (bytes(32), seeds[0][1])
    checks = (bytes(8), *client._checks[1:])
    client._secrets, client._checks = replace(client._secrets, seeds=tuple(seeds)), checks
    world.provide(world.vectors())
    world.to_slot()
    world.collect(server)
    with pytest.raises(Aborted) as caught:
        server.result()
    assert caught.value.sites == (2, 8)
    collector: StepCollector = server._collector
    assert collector.disagreeing() == ((2, 8),)
