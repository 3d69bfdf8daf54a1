"""The coordinator's machine: what it refuses, whom it asks, what it stores."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import SecAggError
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.sealed.label import session_digest
from privacy.secagg.sealed.opening import signed_key
from privacy.secagg.sealed.server import SealedServer, SealedStage
from privacy.secagg.witness import MemoryWitness
from privacy.wire.bodies import Running
from privacy.wire.checks import Check
from privacy.wire.reasons import RefusedMessage
from privacy.wire.sealed import StepForm
from privacy.wire.secagg import SecAggRefusal
from tests.privacy.secagg.consortium import identity_of
from tests.privacy.secagg.sealed.world import COORDINATOR


def server_of(world, **changes):
    return SealedServer(
        COORDINATOR, world.roster, world.study, world.offer(**changes), MemoryWitness()
    )


def refuses(server, check, site, body):
    before = server.stored(), server.stage, server.waiting
    with pytest.raises(Refused) as caught:
        server.receive(site, body)
    assert (caught.value.check, caught.value.site) == (check, site)
    assert (server.stored(), server.stage, server.waiting) == before


def at_the_slot(world, form=StepForm.DIRECT):
    server = world.open()
    world.begin(server, form=form)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    return server, {site: world.ask(site, body) for site, body in server.requests().items()}


def test_another_key_than_the_studys_cannot_coordinate(world):
    with pytest.raises(SecAggError):
        SealedServer(identity_of(1), world.roster, world.study, world.offer())
    with pytest.raises(Refused):
        SealedServer(COORDINATOR, world.roster, world.study, world.offer(members=(2, 5)))


def test_keys_are_checked_and_count_once(world):
    server = server_of(world)
    keys = {site: client.open(server.offer) for site, client in world.clients.items()}
    assert server.waiting == set(world.sites)
    refuses(server, Check.SENDER, 5, keys[2])
    refuses(server, Check.SENDER, 99, keys[2])
    refuses(server, Check.SIGNATURE, 2, replace(keys[2], key=keys[5].key))
    other = signed_key(identity_of(2), session_digest(world.offer(2)), keys[2])
    refuses(server, Check.SIGNATURE, 2, other)
    refuses(server, Check.OUT_OF_ORDER, 2, Running())
    server.receive(2, keys[2])
    server.receive(2, keys[2])
    sd = session_digest(server.offer)
    refuses(server, Check.ANSWERED, 2, signed_key(identity_of(2), sd, replace(keys[5], site=2)))
    server.receive(5, keys[5])
    with pytest.raises(Aborted):
        server.close_keys()
    server.receive(8, SecAggRefusal(Check.EXPIRED, 0))
    server.receive(11, keys[11])
    assert server.waiting == frozenset()
    server.close_keys()
    with pytest.raises(SecAggError):
        server.close_keys()
    assert server.members == (2, 5, 11)


def test_a_ledger_that_was_put_back_is_refused(world):
    server = server_of(world)
    key = world.clients[2].open(server.offer)
    server.receive(2, key)
    again = SealedServer(COORDINATOR, world.roster, world.study, world.offer(2), server._witness)
    older = replace(key, ledger=replace(key.ledger, length=0))
    sd = session_digest(again.offer)
    refuses(again, Check.OLDER_LEDGER, 2, signed_key(identity_of(2), sd, older))


def test_the_group_comes_from_the_dealer_alone(world):
    server = server_of(world)
    for site, body in server.requests().items():
        server.receive(site, world.clients[site].open(body))
    server.close_keys()
    (listed,) = server.requests().values()
    group, other = world.clients[2].deal(listed), world.clients[5].deal(listed)
    refuses(server, Check.SENDER, 5, group)
    refuses(server, Check.GROUP, 2, replace(group, boxes=group.boxes[1:]))
    refuses(server, Check.SIGNATURE, 2, replace(group, signature=other.signature))
    with pytest.raises(SecAggError):
        server.begin(world.chain(), 1, 1, 1, (2, 5, 8))
    server.receive(2, group)
    assert server.stage is SealedStage.IDLE
    with pytest.raises(SecAggError):
        server.result()
    refuses(server, Check.OUT_OF_ORDER, 2, group)


@pytest.mark.parametrize(
    ("step", "attempt", "cohort"),
    [(0, 1, (2, 5, 8)), (41, 1, (2, 5, 8)), (1, 4, (2, 5, 8)), (1, 1, (2, 5)), (1, 1, (2, 5, 9))],
)
def test_no_step_is_begun_that_no_site_would_take(world, step, attempt, cohort):
    server = world.open()
    with pytest.raises(SecAggError):
        server.begin(world.chain(), step, attempt, 1, cohort)
    assert server.stage is SealedStage.IDLE


def test_the_opening_rides_until_a_site_has_answered(world):
    server = world.open()
    world.begin(server)
    requests = server.requests()
    assert all(body.opening is not None for body in requests.values())
    server.receive(2, world.ask(2, requests[2]))
    assert server.acknowledged == {2}
    requests = server.requests()
    assert (requests[2].opening, requests[5].opening is None) == (None, False)
    assert len({body.signed_part() for body in requests.values()}) == 1


@pytest.mark.parametrize(
    ("check", "change"),
    [
        (Check.LABEL, {"label": bytes(32)}),
        (Check.INPUT_LENGTH, {"lanes": np.zeros(3, np.uint64)}),
        (Check.SHARE_COUNT, {"checks": ()}),
        (Check.SIGNATURE, {"checks": (bytes(8),) * 3}),
        (Check.SIGNATURE, {"nonce": b"\1" * 32}),
        (Check.SIGNATURE, {"head": b"h"}),
        (Check.SIGNATURE, {"checkpoint": b"other"}),
        (Check.SIGNATURE, {"cosignature": b"c"}),
        (Check.SIGNATURE, {"signature": bytes(64)}),
    ],
    ids=lambda value: value.name if isinstance(value, Check) else next(iter(value)),
)
def test_a_vector_that_is_not_the_steps_is_refused(world, check, change):
    server, answers = at_the_slot(world)
    refuses(server, check, 5, replace(answers[5], **change))
    refuses(server, Check.SENDER, 99, answers[5])
    for site, body in answers.items():
        server.receive(site, body)
        server.receive(site, body)
    assert server.stage is SealedStage.OPENED
    server.result()


def test_commitments_come_first_and_then_what_was_committed_to(world):
    server, ready = at_the_slot(world, StepForm.READY)
    refuses(server, Check.LABEL, 5, replace(ready[5], label=bytes(32)))
    refuses(server, Check.SIGNATURE, 5, replace(ready[5], commitment=bytes(32)))
    refuses(server, Check.SENDER, 99, ready[5])
    for site in (2, 5, 8):
        server.receive(site, ready[site])
    assert server.waiting == {11}
    server.receive(11, ready[11])
    assert server.waiting == set(world.sites)
    with pytest.raises(Aborted):
        server.result()


def test_a_member_that_is_dropped_after_its_vector_is_in_the_sum(world):
    server, answers = at_the_slot(world)
    server.receive(2, answers[2])
    server.drop(2)
    for site in (5, 8, 11):
        server.receive(site, answers[site])
    assert server.result().cohort == world.sites


def test_a_refusal_ends_the_attempt_and_a_later_answer_does_not_open_it(world):
    server, answers = at_the_slot(world)
    server.receive(8, SecAggRefusal(Check.NO_VECTOR, 0))
    assert server.waiting == frozenset()
    refuses(server, Check.SENDER, 8, answers[8])
    for site in (2, 5, 11):
        server.receive(site, answers[site])
    with pytest.raises(Aborted) as caught:
        server.result()
    assert caught.value.sites == (8,)


def test_there_is_nothing_to_ask_between_steps(world):
    server = world.open()
    assert server.requests() == {}
    world.run_step(server)
    assert server.requests() == {}


def test_stored_bytes_hold_no_private_key_and_other_bytes_are_refused(world):
    server = world.open()
    world.begin(server)
    data = server.stored()
    for site in world.sites:
        session = world.clients[site]._session
        assert session.secret == b"" or session.secret not in data
    for wrong in (data[:-1], data + b"\0", b"\0\1" + data[2:]):
        with pytest.raises(RefusedMessage):
            SealedServer.restored(COORDINATOR, world.roster, world.study, wrong)
    other = replace(world.study, study_digest=bytes(32))
    with pytest.raises(Refused):
        SealedServer.restored(COORDINATOR, world.roster, other, data)
