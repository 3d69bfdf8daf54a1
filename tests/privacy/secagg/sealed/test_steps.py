"""Sealed steps as they should go, and what may go missing."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import SecAggError
from privacy.identity import verify
from privacy.secagg.refusals import Aborted
from privacy.secagg.sealed.attempt import sealed_signed, sent_digest
from privacy.secagg.sealed.server import SealedServer, SealedStage
from privacy.wire.bodies import Running
from privacy.wire.checks import Check
from privacy.wire.sealed import PROOF_LANES, OpenedSum, Sealed, StepForm
from tests.privacy.secagg.sealed.world import (
    COORDINATOR,
    SealedWorld,
    added,
    carried,
    refused,
    resigned,
    total_of,
)


@pytest.mark.parametrize("sites", [(2, 5, 8), tuple(range(3, 40, 3))], ids=["three", "thirteen"])
def test_the_sum_of_every_step_is_exact_and_proven(sites):
    world = SealedWorld(sites)
    server = world.open()
    for step in range(1, 5):
        world.run_step(server, step)
    assert len(world.sums) == 4
    assert not np.array_equal(world.sums[0].lanes, world.sums[1].lanes)


def test_a_session_may_begin_in_the_middle_of_a_study():
    world = SealedWorld()
    world.run_step(world.open(), 1)
    server = world.open(first=2)
    world.run_step(server, 2)
    world.run_step(server, 3)
    assert world.clients[2].session == 2


def test_whoever_has_no_key_is_not_in_the_session_and_the_others_go_on():
    world = SealedWorld()
    server = world.open(silent=(8,))
    assert server.members == (2, 5, 11)
    world.run_step(server)
    assert world.disks[8].charged() == []


def test_another_site_deals_where_the_first_one_is_gone():
    world = SealedWorld()
    server = SealedServer(COORDINATOR, world.roster, world.study, world.offer())
    for site, body in server.requests().items():
        server.receive(site, world.clients[site].open(body))
    server.close_keys()
    assert server.dealer == 2
    lost = world.clients[2].deal(server.requests()[2])  # it has dealt, and its answer was lost
    server.drop(2)
    assert set(server.requests()) == {5}
    server.receive(5, world.clients[5].deal(server.requests()[5]))
    assert lost.dealer == 2
    world.run_step(server)


def test_one_vector_in_two_messages_where_the_form_is_ready():
    world = SealedWorld()
    server = world.open()
    world.begin(server, form=StepForm.READY)
    world.take_up(server)
    vectors = world.vectors()
    world.provide(vectors)
    world.to_slot()
    first = world.collect(server)
    assert server.stage is SealedStage.COLLECT
    assert all(world.disks[site].charged() == [] for site in world.sites)  # nothing has left
    for site, body in server.requests().items():
        sealed = world.clients[site].collect(carried(body))
        assert world.clients[site].collect(carried(body)) == sealed
        server.receive(site, carried(sealed))
        assert world.disks[site].charged() == [sent_digest(sealed.lanes)]
        assert world.ask(site, replace(server.current, opening=None)) == first[site]
    assert np.array_equal(server.result().packed, total_of(vectors, world.sites))
    world.sums.append(server.result())
    world.run_step(server, 2)


def test_a_miss_before_the_commitments_are_complete_is_free():
    world = SealedWorld()
    server = world.open()
    world.begin(server, form=StepForm.READY)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    world.collect(server, silent=(11,))
    server.drop(11)
    assert server.waiting == frozenset()
    assert all(world.disks[site].charged() == [] for site in world.sites)
    world.run_step(server, 1, 2, cohort=(2, 5, 8))


# --- what may go missing


def test_a_site_that_misses_costs_the_attempt_and_the_next_one_opens():
    world = SealedWorld()
    server = world.open()
    world.begin(server)
    world.take_up(server)
    world.provide(world.vectors(), silent=(8,))
    world.to_slot()
    for site, body in server.requests().items():
        if site == 8:
            with pytest.raises(SecAggError):
                world.ask(8, body)
            server.drop(8)
        else:
            server.receive(site, world.ask(site, body))
    with pytest.raises(Aborted) as caught:
        server.result()
    assert caught.value.sites == (8,)
    assert world.disks[8].charged() == [None]  # charged as well: nobody can tell why it missed
    world.run_step(server, 1, 2)


def test_a_site_that_misses_twice_is_left_out_and_may_come_back():
    world = SealedWorld()
    server = world.open()
    for attempt in (1, 2):
        world.begin(server, 1, attempt)
        world.take_up(server, silent=(11,))
        server.drop(11)
    world.run_step(server, 1, 3, cohort=(2, 5, 8))
    world.run_step(server, 2, cohort=(2, 5, 8))
    world.run_step(server, 3)  # its keys have stood still since the start
    assert [one.cohort for one in world.sums] == [(2, 5, 8), (2, 5, 8), (2, 5, 8, 11)]


def test_a_site_that_was_out_for_ten_steps_fetches_the_sums_and_goes_on():
    world = SealedWorld()
    server = world.open()
    world.run_step(server, 1)
    for step in range(2, 12):
        world.run_step(server, step, cohort=(2, 5, 8))
    asked = world.begin(server, 12, cohort=(2, 5, 8, 11))
    server.tell(11, tuple(world.sums[1:]))
    request = server.requests()[11]
    assert len(request.opened) == 10
    assert request.signed_part() == asked.signed_part()
    assert world.clients[11].unproven(request) == ()  # all of them are proven to it
    world.take_up(server)
    world.provide(world.vectors(12))
    world.to_slot()
    world.collect(server)
    world.sums.append(server.result())
    world.run_step(server, 13)


def test_a_jump_to_the_last_epoch_opens_and_one_beyond_it_is_refused():
    world = SealedWorld(steps=10, attempts=2)
    server = world.open()
    step = world.begin(server, 1)
    assert server.offer.epochs == 20
    world.run_step(server, 10, 2)
    assert world.clients[2].pending.intent.epoch == 20
    with pytest.raises(SecAggError):
        world.begin(server, 10, 3)
    for numbers in ({"step": 10, "attempt": 3}, {"step": 11}, {"step": 0}, {"attempt": 0}):
        with refused(world, Check.EPOCH):
            world.clients[2].step(resigned(step, **numbers), lambda _: world.chain())


# --- restarts


def test_a_restarted_coordinator_sends_the_same_request_and_gets_the_same_bytes():
    world = SealedWorld()
    server = world.open()
    world.run_step(server, 1)
    world.begin(server, 2)
    world.take_up(server, silent=(8,))
    stored = server.stored()
    again = SealedServer.restored(COORDINATOR, world.roster, world.study, stored)
    assert again.current.signed_part() == server.current.signed_part()
    assert again.stored() == stored
    world.take_up(again)
    world.provide(world.vectors())
    world.to_slot()
    first = world.collect(server)
    third = SealedServer.restored(COORDINATOR, world.roster, world.study, again.stored())
    assert world.collect(third) == first
    assert third.result() == server.result()
    assert all(len(world.disks[site].charged()) == 2 for site in world.sites)


def test_answers_that_were_kept_may_be_handed_over_again():
    world = SealedWorld()
    server = world.open()
    world.begin(server)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    answers = world.collect(server)
    again = SealedServer.restored(COORDINATOR, world.roster, world.study, server.stored())
    for site, sealed in answers.items():
        again.receive(site, sealed)
        again.receive(site, sealed)
    assert again.result() == server.result()


@pytest.mark.parametrize("stage", ["keys", "group", "idle"])
def test_a_coordinator_may_die_during_the_set_up_too(stage):
    world = SealedWorld()
    server = SealedServer(COORDINATOR, world.roster, world.study, world.offer())

    def restored(server):
        return SealedServer.restored(COORDINATOR, world.roster, world.study, server.stored())

    for site, body in list(server.requests().items()):
        server.receive(site, world.clients[site].open(body))
        if stage == "keys":
            server = restored(server)
    server.close_keys()
    if stage == "group":
        server = restored(server)
    server.receive(2, world.clients[2].deal(server.requests()[2]))
    if stage == "idle":
        server = restored(server)
    world.run_step(server)


def test_a_restarted_site_has_no_keys_and_a_new_session_goes_on():
    world = SealedWorld()
    server = world.open()
    world.run_step(server, 1)
    world.begin(server, 2)
    world.restart(8)
    with refused(world, Check.NO_SESSION):
        world.ask(8, server.requests()[8])
    for site in (2, 5, 11):
        assert isinstance(world.ask(site, server.requests()[site]), Running)
    with refused(world, Check.OLD_SESSION):
        world.clients[8].open(server.offer)
    server = world.open(first=2)
    world.run_step(server, 2, 2)  # attempt 1 is journalled at the others
    world.run_step(server, 3)


def test_a_restarted_site_takes_the_older_sums_on_the_labels_word_alone():
    world = SealedWorld()
    world.run_step(world.open(), 1)
    world.restart(8)
    server = world.open(first=2)
    world.begin(server, 2)
    request = server.requests()[8]
    assert world.clients[8].unproven(request) == tuple(world.sums)
    assert world.clients[5].unproven(request) == ()
    world.run_step(server, 2, 2)
    assert world.clients[8].unproven(replace(request, opened=tuple(world.sums[1:]))) == ()


# --- what is kept


def test_an_auditor_adds_the_signed_vectors_and_finds_each_in_its_ledger():
    world = SealedWorld()
    server = world.open()
    world.begin(server)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    kept = {site: sealed.encode() for site, sealed in world.collect(server).items()}
    opened = OpenedSum.decode(server.result().encode())
    rows = []
    for site, data in kept.items():
        sealed = Sealed.decode(data)
        key = world.roster.member(site).public_key
        assert sealed.label == opened.label
        assert verify(key, sealed.signature, sealed_signed(sealed, key))
        assert world.disks[site].charged() == [sent_digest(sealed.lanes)]
        rows.append(sealed.lanes)
    assert np.array_equal(added(rows, proof=PROOF_LANES), opened.lanes)
