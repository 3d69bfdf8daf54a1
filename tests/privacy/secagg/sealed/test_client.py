"""The site's machine: what it refuses, in which order it does things, what it forgets."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import SecAggError
from privacy.secagg.refusals import Refused
from privacy.secagg.sealed import epochs
from privacy.secagg.sealed.attempt import sent_digest
from privacy.secagg.sealed.rules import SealedPolicy
from privacy.wire.bodies import Running
from privacy.wire.checks import Check
from privacy.wire.sealed import SealedCollect, StepForm
from privacy.wire.session import SessionKeys
from tests.privacy.secagg.consortium import NOW, RUN, identity_of, roster_of
from tests.privacy.secagg.sealed.world import (
    SLOT,
    SealedWorld,
    ask,
    begun,
    numbers_of,
    refused,
    relabelled,
    resigned,
    secrets_in,
    state_of,
)

OTHER = identity_of(999)


# --- a step


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        (Check.NO_SESSION, {"session_digest": bytes(32)}),
        (Check.NOT_IN_COHORT, {"cohort": (2, 5, 9)}),
        (Check.COHORT, {"cohort": (5, 8, 11)}),
        (Check.COHORT_SIZE, {"cohort": (2, 5)}),
        (Check.SLOT, {"slot": int(1000 * NOW)}),
        (Check.SLOT, {"slot": 1000 * (int(NOW) + 1800)}),
        (Check.SUMS, {"sums": bytes(32)}),
        (Check.ADAPTER, {"adapter": bytes(32)}),
        (Check.STATE, {"state": bytes(32)}),
        (Check.LABEL, {"label": bytes(32)}),
    ],
    ids=lambda value: value.name if isinstance(value, Check) else str(value),
)
def test_a_step_that_is_not_the_sites_own_is_refused_uncharged(world, check, changes):
    server, request = begun(world)
    changed = relabelled(world, server, request, **changes) if "label" not in changes else request
    with refused(world, check):
        ask(world, 2, resigned(changed, **changes))
    assert world.disks[2].charged() == []
    assert isinstance(ask(world, 2, request), Running)  # the honest one is still taken


def test_an_adapter_that_differs_in_one_bit_is_refused_before_it_is_journalled(world):
    server, request = begun(world)
    adapter = bytes([request.adapter[0] ^ 1]) + request.adapter[1:]
    with refused(world, Check.ADAPTER):
        ask(world, 2, relabelled(world, server, request, adapter=adapter))
    assert [record[0] for record in world.disks[2].done] == ["session"]


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, bytes(32)) for name in ("base", "layout", "frozen")), ("lanes", 36), ("bits", 8)],
)
def test_the_label_is_worked_out_from_the_sites_own_data(name, value):
    world = SealedWorld()
    assert getattr(world.study, name) != value
    other = replace(world.study, **{name: value})
    world.clients[8] = world.client(8, study=other)
    server = world.open()
    world.begin(server)
    with refused(world, Check.LABEL):
        ask(world, 8, server.requests()[8])


def test_a_step_that_the_coordinator_has_not_signed_is_refused(world):
    _, request = begun(world)
    with refused(world, Check.SIGNATURE, 0):
        ask(world, 2, replace(request, slot=request.slot + 1))


def test_what_the_chain_raises_is_passed_on_and_nothing_has_changed(world):
    _, request = begun(world)

    def missing(_):
        raise Refused(Check.SUMS)

    with refused(world, Check.SUMS):
        world.clients[2].step(request, missing)


@pytest.mark.parametrize("sites", [3, 4, 5, 8])
def test_the_boundaries_of_k_and_of_the_colluders(sites):
    ids = tuple(range(1, sites + 1))
    most = sites - 2
    world = SealedWorld(ids, n_c=most)
    world.run_step(world.open())
    world = SealedWorld(ids, n_c=most + 1)
    with refused(world, Check.COLLUDERS):
        world.clients[1].open(world.offer())
    world = SealedWorld(ids, n_min=sites)
    world.run_step(world.open())
    if sites > 3:
        server = world.open()
        request = world.begin(server, 2)
        with refused(world, Check.COHORT_SIZE):
            changed = relabelled(world, server, server.requests()[1], cohort=ids[:-1])
            ask(world, 1, changed)
        assert request.cohort == ids


@pytest.mark.parametrize(("n_min", "n_c"), [(2, 0), (3, -1)])
def test_rules_that_protect_nobody_are_refused(n_min, n_c):
    with pytest.raises(SecAggError):
        SealedPolicy(RUN, n_min, n_c)


def test_a_site_asks_for_its_own_smallest_cohort():
    world = SealedWorld()
    server = world.open()
    world.run_step(server)
    world.clients[2]._policy = SealedPolicy(RUN, 4, 0, 3600)
    world.begin(server, 2, cohort=(2, 5, 8))
    with refused(world, Check.COHORT_SIZE):
        ask(world, 2, server.requests()[2])


def test_the_cohort_shrinks_within_a_step_and_changes_a_few_times(world):
    world = SealedWorld(most_changes=2)
    server = world.open()
    world.run_step(server, 1)
    world.begin(server, 2, 1, cohort=(2, 5, 8))
    world.take_up(server)
    world.begin(server, 2, 2, cohort=(2, 5, 11))
    with refused(world, Check.COHORT_GREW, 11):
        ask(world, 2, server.requests()[2])
    world.run_step(server, 3)  # the second change
    world.begin(server, 4, 1, cohort=(2, 5, 8))
    with refused(world, Check.COHORT_CHANGES):
        ask(world, 2, server.requests()[2])
    world.run_step(server, 4, 2)


# --- the order of things


def test_the_label_is_journalled_before_a_mask_is_made(world, monkeypatch):
    _, request = begun(world)
    world.disks[5].broken = True
    before = state_of(world, 5)
    used = []
    monkeypatch.setattr(epochs.EpochKeys, "at", lambda *_: used.append(1))
    with pytest.raises(OSError):
        ask(world, 5, request)
    assert (used, state_of(world, 5)) == ([], before)
    monkeypatch.undo()
    world.disks[5].broken = False
    assert isinstance(ask(world, 5, request), Running)
    intent = world.disks[5].done[-1][1]
    assert (intent.label, intent.epoch) == (request.label, 1)


def test_the_attempt_is_charged_before_its_vector_leaves(world):
    server, request = begun(world)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    world.disks[2].broken = True
    with pytest.raises(OSError):
        ask(world, 2, request)
    assert world.clients[2]._open.sealed is None
    world.disks[2].broken = False
    sealed = ask(world, 2, request)
    assert world.disks[2].done[-1][2] == sent_digest(sealed.lanes)
    assert sealed.checkpoint == b"checkpoint"


def test_a_request_repeated_has_the_same_answer_whatever_rides_on_it(world):
    server, request = begun(world)
    world.take_up(server)
    done = len(world.disks[2].done)
    assert isinstance(ask(world, 2, request), Running)
    world.provide(world.vectors())
    assert isinstance(ask(world, 2, request), Running)  # not before the slot
    world.clock[0] += SLOT / 1000 - 0.001
    assert isinstance(ask(world, 2, request), Running)
    world.clock[0] += 0.001
    first = ask(world, 2, request)
    assert ask(world, 2, request) == first
    assert ask(world, 2, replace(request, opening=None, opened=())) == first
    assert len(world.disks[2].done) == done + 1


def test_the_epoch_of_an_earlier_attempt_is_over_whatever_the_disk_says(world):
    """A journal that was put back under a living machine does not open an epoch again."""
    server = world.open()
    world.run_step(server, 1)
    earlier = world.disks[2].kept
    world.run_step(server, 2)
    world.disks[2].kept = replace(earlier, newest=None)
    world.begin(server, 1, 2)
    with refused(world, Check.NOT_NEWER):
        ask(world, 2, server.requests()[2])


@pytest.mark.parametrize("when", ["late", "failed"])
def test_without_a_vector_at_the_slot_there_is_none_ever(world, when):
    server, request = begun(world)
    world.take_up(server)
    label, vectors = request.label, world.vectors()
    if when == "late":  # its trainer has summed, and the noise is being drawn
        world.clients[2].noise_seed(label, bytes(32))
    world.to_slot()
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            ask(world, 2, request)
        assert caught.value.check is Check.NO_VECTOR
    assert world.disks[2].charged() == [None]
    with pytest.raises(SecAggError):
        world.clients[2].noise_seed(label, bytes(32))
    with pytest.raises(SecAggError):
        world.clients[2].provide(label, numbers_of(vectors[2]))
    with pytest.raises(Refused):
        ask(world, 2, request)


def test_a_session_that_has_expired_answers_nothing(world):
    server, request = begun(world)
    world.take_up(server)
    world.provide(world.vectors())
    world.clock[0] = NOW + 1800
    for call in (lambda: ask(world, 2, request), lambda: world.clients[2].deal(SessionKeys(()))):
        with refused(world, Check.EXPIRED):
            call()
    world.clients[2].close()
    with refused(world, Check.NO_SESSION):
        ask(world, 2, request)


def test_a_clock_that_steps_over_the_slot_loses_at_most_the_attempt(world):
    server, request = begun(world)
    world.take_up(server)
    world.provide(world.vectors())
    world.clock[0] -= 300
    assert isinstance(ask(world, 2, request), Running)
    world.clock[0] += 301
    world.collect(server)
    assert len(server.result().packed) == world.lanes


# --- vectors and noise


def test_a_vector_is_taken_once_and_only_for_its_label(world):
    server, request = begun(world)
    world.take_up(server)
    client, drawn = world.clients[2], numbers_of(world.vectors()[2])
    wrongs = np.zeros(len(drawn), np.uint64), np.zeros(len(drawn) + 1, np.int64), drawn[None]
    for wrong in wrongs:
        with pytest.raises(SecAggError):
            client.provide(request.label, wrong)
    with pytest.raises(SecAggError):
        client.provide(bytes(32), drawn)
    kept = drawn.copy()
    client.provide(request.label, drawn)
    assert np.array_equal(drawn, kept)
    with pytest.raises(SecAggError):
        client.provide(request.label, drawn)
    with pytest.raises(SecAggError):
        client.noise_seed(request.label, bytes(32))


def test_the_noises_seed_hangs_on_the_label_and_on_the_centres(world):
    server, request = begun(world)
    world.take_up(server)
    seed = world.clients[2].noise_seed(request.label, b"\1" * 32)
    assert world.clients[2].noise_seed(request.label, b"\1" * 32) == seed
    with pytest.raises(SecAggError):
        world.clients[2].noise_seed(request.label, b"\2" * 32)
    with pytest.raises(SecAggError):
        world.clients[2].noise_seed(bytes(32), b"\1" * 32)
    assert seed != world.clients[5].noise_seed(request.label, b"\1" * 32)


def test_nothing_can_be_provided_before_there_is_an_attempt(world):
    world.open()
    with pytest.raises(SecAggError):
        world.clients[2].provide(bytes(32), numbers_of(world.vectors()[2]))


# --- what is forgotten


def test_keys_are_gone_as_soon_as_they_have_been_used(world):
    server = world.open(silent=())
    client = world.clients[5]
    private = client._session.pair.private
    world.begin(server)
    assert private in secrets_in(client)
    ask(world, 5, server.requests()[5])
    assert private not in secrets_in(client)
    assert client._session.pair is None
    past = set(client._session.keys.pairs.values()) | {client._session.keys.noise}
    seeds = {seed for seed, _ in client._open._secrets.seeds} | {client._open._noise}
    assert past <= secrets_in(client)
    world.take_up(server, silent=(5,))
    world.provide(world.vectors())
    assert not seeds & secrets_in(client)  # burned with the vector
    world.to_slot()
    world.collect(server)
    world.sums.append(server.result())
    world.run_step(server, 2)
    assert not past & secrets_in(client)
    assert client._session.keys.epoch == 1 + server.offer.attempts + 1
    client.close()
    assert client.pending is None


def test_no_text_shows_a_secret(world):
    server, _ = begun(world)
    world.take_up(server)
    client = world.clients[5]
    session, opened = client._session, client._open
    for secret in (*session.keys.pairs.values(), session.secret, opened._noise):
        for text in map(repr, (client, session, session.keys, opened, opened._secrets)):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text


# --- in the form READY


def ready(world):
    server, _ = begun(world, StepForm.READY)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    world.collect(server)
    return server, server.requests()[2]


def test_commitments_of_all_of_k_and_of_nobody_else(world):
    _, collect = ready(world)
    rows = collect.commitments
    other = (5, bytes(32) + rows[1][1][32:])
    own = identity_of(2).sign(b"")
    wrong = {
        Check.COMMITMENT: SealedCollect(collect.label, rows[:-1]),
        Check.LABEL: SealedCollect(bytes(32), rows),
        Check.SIGNATURE: SealedCollect(collect.label, (rows[0], other, *rows[2:])),
    }
    for check, body in wrong.items():
        with refused(world, check):
            world.clients[2].collect(body)
    with refused(world, Check.SIGNATURE, 2):
        changed = SealedCollect(collect.label, ((2, rows[0][1][:32] + own), *rows[1:]))
        world.clients[2].collect(changed)
    assert world.disks[2].charged() == []


def test_there_is_nothing_to_collect_before_the_commitment(world):
    with refused(world, Check.NO_SESSION):
        world.clients[2].collect(SealedCollect(bytes(32), ()))
    begun(world, StepForm.READY)
    with refused(world, Check.OUT_OF_ORDER):
        world.clients[2].collect(SealedCollect(bytes(32), ()))


def test_the_roster_has_to_be_the_studys():
    world = SealedWorld()
    with pytest.raises(SecAggError):
        world.client(2, identity=OTHER)
    world.roster = roster_of((2, 5, 8))
    with pytest.raises(SecAggError):
        world.client(2)
