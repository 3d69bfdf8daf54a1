"""Attacks by name. The coordinator has its own key, so all of its requests are well signed."""

import copy
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from privacy.errors import SecAggError
from privacy.secagg.refusals import Refused
from privacy.secagg.sealed.epochs import pair_root, seal_group
from privacy.secagg.sealed.label import group_commitment, keys_digest, session_digest
from privacy.secagg.sealed.opening import signed_group
from privacy.secagg.sealed.server import SealedServer
from privacy.wire.bodies import Running
from privacy.wire.checks import Check
from privacy.wire.sealed import PROOF_LANES, SealedCollect, StepForm
from privacy.wire.session import SessionGroup, SessionKeys, SessionOpening
from tests.privacy.secagg.consortium import identity_of
from tests.privacy.secagg.sealed.world import (
    COORDINATOR,
    added,
    ask,
    numbers_of,
    refused,
    relabelled,
)

# --- two labels, two vectors


def test_two_labels_for_one_attempt(world):
    server = world.open()
    request = world.begin(server)
    asked = server.requests()
    world.take_up(server)
    world.provide(world.vectors())
    other = relabelled(world, server, request, slot=request.slot + 1)
    assert other.label != request.label
    with refused(world, Check.SECOND_LABEL):
        ask(world, 2, other)
    world.to_slot()
    first = ask(world, 2, asked[2])
    with refused(world, Check.SECOND_LABEL):
        ask(world, 2, other)
    assert ask(world, 2, asked[2]) == first


def test_two_labels_for_one_attempt_in_two_sessions(world):
    """The journal goes up over sessions: a new one is not a second chance."""
    server = world.open()
    world.begin(server, 3, 2)
    world.take_up(server)
    server = world.open()
    for numbers in ((3, 2), (3, 1), (2, 3)):
        request = world.begin(server, *numbers)
        with refused(world, Check.NOT_NEWER):
            ask(world, 5, replace(request, opening=server._opening()))
    world.restart(5)
    server = world.open()
    request = world.begin(server, 3, 2)
    with refused(world, Check.NOT_NEWER):
        ask(world, 5, replace(request, opening=server._opening()))


def test_two_vectors_for_one_label(world):
    server = world.open()
    world.begin(server)
    world.take_up(server)
    world.provide(world.vectors(1))
    other = world.vectors(2)[2]
    with pytest.raises(SecAggError):
        world.clients[2].provide(world.clients[2].pending.label, numbers_of(other))
    world.to_slot()
    first = world.collect(server)[2]
    with pytest.raises(SecAggError):
        world.clients[2].provide(world.clients[2].pending.label, numbers_of(other))
    again = SealedServer.restored(COORDINATOR, world.roster, world.study, server.stored())
    assert ask(world, 2, again.requests()[2]) == first


@pytest.mark.parametrize("first", [True, False], ids=["first step", "second step"])
def test_a_snapshot_put_back_cannot_send_two_vectors(world, first):
    """The disk alone refuses. Where it was put back too, the noise hangs on label and centres."""
    server = world.open()
    step = 1
    if not first:
        world.run_step(server, 1)
        step = 2
    request = world.begin(server, step)
    request = replace(request, opening=server._opening(), opened=tuple(world.sums))
    client, disk = world.clients[5], world.disks[5]
    keep = {id(one): one for one in (client._identity, client._roster, client._session.pair, disk)}
    same, other, memory = (copy.deepcopy(client, dict(keep)) for _ in range(3))
    before = disk.kept
    seeds = []
    for machine, centres in ((client, b"\1" * 32), (same, b"\1" * 32), (other, b"\2" * 32)):
        disk.kept = before  # snapshot of memory and disk
        world.clients[5] = machine
        assert isinstance(ask(world, 5, request), Running)
        seeds.append(machine.noise_seed(request.label, centres))
    assert seeds[0] == seeds[1] != seeds[2]
    world.clients[5] = memory  # of memory alone
    with refused(world, Check.NOT_NEWER):
        ask(world, 5, request)


# --- halves


def halves(world, changed_for, **changes):
    """One attempt in which some sites get another request; the masks of the halves do not fit."""
    server = world.open()
    request = world.begin(server)
    asked = server.requests()
    other = relabelled(world, server, request, **changes)
    sent = {
        site: replace(other, opening=body.opening) if site in changed_for else body
        for site, body in asked.items()
    }
    return server, request, sent


def answers(world, sent):
    for site, body in sent.items():
        ask(world, site, body)
    vectors = world.vectors()
    world.provide(vectors)
    world.clock[0] += 10
    return vectors, {site: ask(world, site, body) for site, body in sent.items()}


def sum_of(sealed) -> np.ndarray:
    return added([one.lanes for one in sealed], proof=PROOF_LANES)


def test_another_slot_to_one_half_makes_no_sum(world):
    slot = int(1000 * world.clock[0]) + 5
    server, request, sent = halves(world, (8, 11), slot=slot)
    vectors, sealed = answers(world, sent)
    assert len({one.label for one in sealed.values()}) == 2
    for site in (8, 11):
        with pytest.raises(Refused) as caught:
            server.receive(site, sealed[site])
        assert caught.value.check is Check.LABEL
    for some in (sealed.values(), (sealed[2], sealed[5]), (sealed[8], sealed[11])):
        assert sum_of(some)[-3] != 0  # the lane of zero
    assert request.label == sealed[2].label
    assert not np.array_equal(sum_of(sealed.values())[:-3], added_up(vectors))


def test_another_form_to_one_half_makes_no_sum(world):
    server, _, sent = halves(world, (8, 11), form=StepForm.READY)
    _, sealed = answers(world, sent)
    with pytest.raises(Refused) as caught:
        server.receive(8, sealed[8])
    assert caught.value.check is Check.OUT_OF_ORDER
    mine = sealed[8]
    rows = tuple((site, mine.commitment + mine.signature) for site in world.sites)
    with refused(world, Check.SIGNATURE, 2):  # the other half has signed no commitment
        world.clients[8].collect(SealedCollect(mine.label, rows))


def added_up(vectors) -> np.ndarray:
    return added(list(vectors.values()))


def test_another_cohort_to_one_half_makes_no_sum(world):
    """K to one half, K without site 11 to the other: neither the whole nor any part opens."""
    _, _, sent = halves(world, (8,), cohort=(2, 5, 8))
    vectors, sealed = answers(world, sent)
    full = sum_of(sealed.values())
    assert full[-3] != 0
    assert not np.array_equal(full[:-3], added_up(vectors))
    assert sum_of([sealed[2], sealed[5], sealed[8]])[-3] != 0


def test_another_model_to_one_half_is_refused_there_and_makes_no_sum(world):
    """Each site compares with its own adapter (2111.07380 needs one that does not)."""
    server, _, sent = halves(world, (8, 11), adapter=bytes(32))
    with refused(world, Check.ADAPTER):
        ask(world, 8, sent[8])
    # Where two sites do hold another adapter than the others, nothing opens either.
    other = replace(world.chain(), adapter=b"\7" * 32)
    step = server.current
    changed = relabelled(world, server, step, chain=other)
    for site in (8, 11):
        body = replace(changed, opening=server._opening())
        world.clients[site].step(body, lambda _: other)
        sent[site] = body
    for site in (2, 5):
        ask(world, site, sent[site])
    world.provide(world.vectors())
    world.to_slot()
    sealed = [world.clients[site].step(sent[site], lambda _: other) for site in world.sites]
    assert sum_of(sealed)[-3] != 0


def test_two_lists_of_keys_make_no_sum(world):
    """A shorter list to one site: another root for every pair of it, and another label."""
    server = world.open()
    request = world.begin(server, cohort=(2, 5, 8))
    short = SessionKeys(server._listed.entries[:3])
    with refused(world, Check.SECOND_KEYS):  # site 2 has dealt for the long list
        world.clients[2].deal(short)
    opening = SessionOpening(short, dealt_by(world, 5, session_digest(server.offer), short))
    other = relabelled(world, server, request, opening=opening)
    sent = {site: replace(request, opening=server._opening()) for site in (2, 5)}
    sent[8] = replace(other, opening=opening)
    _, sealed = answers(world, sent)
    assert sealed[8].label != sealed[2].label
    assert sum_of(sealed.values())[-3] != 0


def dealt_by(world, site, sd, listed, secrets=MappingProxyType({})):
    """What a site that sides with the coordinator deals for a list, whatever its machine says."""
    session, kd, boxes = world.clients[site]._session, keys_digest(sd, listed), []
    for entry in listed.entries:
        if entry.site != site:
            ends = (site, session.own.key), (entry.site, entry.key)
            root = pair_root(session.pair.exchange(entry.key), sd, kd, *ends)
            boxes.append((entry.site, seal_group(root, site, secrets.get(entry.site, b"\6" * 32))))
    commitment = group_commitment(sd, kd, b"\6" * 32)
    group = SessionGroup(site, commitment, tuple(boxes), bytes(64))
    return signed_group(identity_of(site), sd, kd, group)


def test_a_dealer_cannot_give_two_secrets_away(world):
    """With two, the tags of the honest sites would tell more than their sum."""
    server = world.open()
    sd, two = session_digest(server.offer), {8: b"\7" * 32}
    group = dealt_by(world, 5, sd, server._listed, two)
    request = replace(world.begin(server), opening=SessionOpening(server._listed, group))
    with refused(world, Check.GROUP, 5):
        ask(world, 8, relabelled(world, server, request, opening=request.opening))
    assert isinstance(
        ask(world, 11, relabelled(world, server, request, opening=request.opening)), Running
    )


# --- replays


def test_session_keys_replayed_from_an_earlier_session(world):
    server = world.open()
    old = server._opening()
    world.restart(8)
    server = world.open()
    request = world.begin(server)
    for opening in (old, SessionOpening(old.keys, server._opening().group)):
        with refused(world, Check.SIGNATURE):
            ask(world, 8, replace(request, opening=opening))


def test_a_step_of_an_earlier_session_replayed(world):
    server = world.open()
    request = world.begin(server)
    asked = server.requests()[5]
    world.take_up(server)
    world.open()
    for body in (asked, request):
        with refused(world, Check.NO_SESSION):
            ask(world, 5, body)


def test_an_offer_of_an_earlier_session_replayed(world):
    server = world.open()
    world.open()
    with refused(world, Check.OLD_SESSION):
        world.clients[5].open(server.offer)


def test_a_late_vector_is_of_no_use(world):
    """It comes after its attempt was given up: the next one has other masks."""
    server = world.open()
    world.begin(server)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    requests = server.requests()
    early = {site: ask(world, site, requests[site]) for site in (2, 5, 8)}
    request = world.begin(server, 1, 2)
    late = ask(world, 11, requests[11])
    with pytest.raises(Refused) as caught:
        server.receive(11, late)
    assert (caught.value.check, caught.value.site) == (Check.LABEL, 11)
    for site, body in server.requests().items():
        assert isinstance(ask(world, site, body), Running)
    with refused(world, Check.NOT_NEWER):
        ask(world, 11, requests[11])
    with refused(world, Check.NOT_NEWER):
        ask(world, 2, requests[2])
    assert early[2].label != request.label
    vectors = world.vectors(3)
    world.provide(vectors)
    world.to_slot()
    world.collect(server)
    assert np.array_equal(server.result().packed, added_up(vectors))


def test_a_vector_in_the_name_of_another_site(world):
    server = world.open()
    world.begin(server)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    sealed = {site: ask(world, site, body) for site, body in server.requests().items()}
    server.receive(2, sealed[2])
    for site, body in ((5, sealed[2]), (5, replace(sealed[5], lanes=sealed[8].lanes))):
        with pytest.raises(Refused) as caught:
            server.receive(site, body)
        assert caught.value.check is Check.SIGNATURE
    with pytest.raises(Refused):
        server.receive(99, sealed[2])
    for site, body in sealed.items():
        server.receive(site, body)
    server.result()


# --- vectors chosen after others were seen


def test_nobody_chooses_a_vector_after_the_others_were_seen(world):
    """In the form READY a vector that was not committed to is refused by the coordinator."""
    server = world.open()
    world.begin(server, form=StepForm.READY)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    world.collect(server)
    collect = server.requests()
    for site in (2, 5, 8):
        server.receive(site, world.clients[site].collect(collect[site]))
    opened = world.clients[11]._open
    opened.masked = opened.masked + np.uint64(1)  # site 11 would like another vector now
    with pytest.raises(Refused) as caught:
        server.receive(11, world.clients[11].collect(collect[11]))
    assert (caught.value.check, caught.value.site) == (Check.COMMITMENT, 11)


def test_half_of_the_commitments_collect_nothing(world):
    server = world.open()
    world.begin(server, form=StepForm.READY)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    ready = world.collect(server)
    collect = server.requests()[2]
    with refused(world, Check.COMMITMENT):
        world.clients[2].collect(replace(collect, commitments=collect.commitments[:3]))
    assert set(ready) == set(world.sites)
    assert world.disks[2].charged() == []
