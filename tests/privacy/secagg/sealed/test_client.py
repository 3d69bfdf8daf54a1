"""The site's machine: what it refuses, in which order it does things, what it forgets."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import SecAggError
from privacy.secagg.refusals import Refused
from privacy.secagg.sealed import epochs, opening
from privacy.secagg.sealed.attempt import sent_digest
from privacy.secagg.sealed.label import session_digest
from privacy.secagg.sealed.opening import offered_session, signed_group, signed_key
from privacy.secagg.sealed.rules import SealedPolicy
from privacy.wire.bodies import Running
from privacy.wire.checks import Check
from privacy.wire.sealed import SealedCollect, StepForm
from privacy.wire.session import SessionKeys, SessionOpening
from tests.privacy.secagg.consortium import NOW, RUN, identity_of, roster_of
from tests.privacy.secagg.sealed.world import (
    COORDINATOR,
    SLOT,
    SealedWorld,
    numbers_of,
    refused,
    relabelled,
    resigned,
    secrets_in,
    state_of,
)

OTHER = identity_of(999)


@pytest.fixture
def world():
    return SealedWorld()


def begun(world, form=StepForm.DIRECT):
    """A session, and the request of its first step, which nobody has received."""
    server = world.open()
    world.begin(server, form=form)
    return server, server.requests()[2]


def ask(world, request, site=2):
    return world.clients[site].step(request, lambda _: world.chain())


# --- the set-up


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        (Check.VERSION, {"version": 2}),
        (Check.RECIPE, {"study_digest": bytes(32)}),
        (Check.ROSTER, {"roster_digest": bytes(32)}),
        (Check.PRIVACY, {"terms_digest": bytes(32)}),
        (Check.SESSION_STEPS, {"last": 41}),
        (Check.SESSION_STEPS, {"attempts": 4}),
        (Check.COHORT, {"members": (2, 5, 9)}),
        (Check.COHORT, {"members": (5, 8, 11)}),
        (Check.COHORT_SIZE, {"members": (2, 5)}),
        (Check.RUN, {"run": RUN + 1}),
        (Check.EXPIRED, {"expiry": int(NOW)}),
        (Check.EXPIRED, {"expiry": int(NOW) + 3601}),
        (Check.OLD_SESSION, {"session": 0}),
        (Check.FAR_SESSION, {"session": int(NOW) + 1801}),
        (Check.FAR_SESSION, {"session": 2**32 - 1}),
    ],
    ids=lambda value: value.name if isinstance(value, Check) else str(value),
)
def test_a_session_on_other_terms_is_refused(world, check, changes):
    offer = replace(world.offer(), **changes)
    offer = replace(offer, signature=COORDINATOR.sign(opening._offered(offer)))
    with refused(world, check):
        world.clients[2].open(offer)


def test_a_session_that_the_coordinator_has_not_signed_is_refused(world):
    offer = offered_session(OTHER, world.study, RUN, 1, world.sites, int(NOW) + 60)
    with refused(world, Check.SIGNATURE, 0):
        world.clients[2].open(offer)


def test_the_number_is_journalled_before_a_key_leaves(world):
    world.disks[2].broken = True
    before = state_of(world, 2)
    with pytest.raises(OSError):
        world.clients[2].open(world.offer())
    assert state_of(world, 2) == before
    world.disks[2].broken = False
    key = world.clients[2].open(world.offer())
    assert world.disks[2].done == [("session", RUN, 1, session_digest(world.offer()))]
    assert world.clients[2].open(world.offer()) == key  # a repetition
    assert len(world.disks[2].done) == 1


def test_one_session_lives(world):
    world.open()
    first = world.clients[2]._session
    world.open()
    assert world.clients[2].session == 2
    assert not secrets_in(first.keys) & secrets_in(world.clients[2])


@pytest.mark.parametrize("why", ["second", "own", "low order", "other session", "repeated", "bad"])
def test_another_list_of_keys_is_refused(world, why):
    server, request = begun(world)
    entries = list(request.opening.keys.entries)
    check, last = Check.SIGNATURE, entries[-1]
    if why == "second":
        for site in world.sites:
            ask(world, server.requests()[site], site)
        world.begin(server, 1, 2)
        request, entries, check = server.requests()[2], entries[:-1], Check.SECOND_KEYS
    elif why == "own":
        entries, check = [entry for entry in entries if entry.site != 5], Check.OWN_KEY
    elif why == "low order":
        entries[-1] = resigned_key(server, last, key=bytes(32))
        check = Check.KEY
    elif why == "other session":
        sd = session_digest(world.offer(7))
        entries[-1] = signed_key(identity_of(last.site), sd, last)
    elif why == "repeated":
        entries[-1] = resigned_key(server, last, key=entries[-2].key)
        check = Check.REPEATED_KEY
    elif why == "bad":
        entries[-1] = replace(last, signature=bytes(64))
    changed = SessionOpening(SessionKeys(tuple(entries)), server._opening().group)
    with refused(world, check):
        ask(world, replace(request, opening=changed), 5)  # site 2 has dealt: it knows the list


def resigned_key(server, entry, **changes):
    """A member of the consortium may sign whatever it likes."""
    changed = replace(entry, **changes)
    return signed_key(identity_of(entry.site), session_digest(server.offer), changed)


def test_a_group_for_others_or_one_that_does_not_open_is_refused(world):
    _, request = begun(world)
    group = request.opening.group
    boxes = dict(group.boxes)
    wrong = {
        Check.SIGNATURE: replace(group, boxes=tuple({**boxes, 5: bytes(48)}.items())),
        Check.GROUP: replace(group, boxes=group.boxes[1:]),
    }
    for check, changed in wrong.items():
        with refused(world, check, group.dealer):
            ask(world, replace(request, opening=replace(request.opening, group=changed)), 5)
    session = world.clients[2]._session
    spoilt = signed_group(identity_of(2), session.sd, session.kd, wrong[Check.SIGNATURE])
    with refused(world, Check.GROUP, 2):
        ask(world, replace(request, opening=replace(request.opening, group=spoilt)), 5)


def test_there_is_no_first_step_without_the_opening(world):
    _, request = begun(world)
    with refused(world, Check.NO_KEYS):
        ask(world, replace(request, opening=None), 5)


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
        ask(world, resigned(changed, **changes))
    assert world.disks[2].charged() == []
    assert isinstance(ask(world, request), Running)  # the honest one is still taken


def test_an_adapter_that_differs_in_one_bit_is_refused_before_it_is_journalled(world):
    server, request = begun(world)
    adapter = bytes([request.adapter[0] ^ 1]) + request.adapter[1:]
    with refused(world, Check.ADAPTER):
        ask(world, relabelled(world, server, request, adapter=adapter))
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
        ask(world, server.requests()[8], 8)


def test_a_step_that_the_coordinator_has_not_signed_is_refused(world):
    _, request = begun(world)
    with refused(world, Check.SIGNATURE, 0):
        ask(world, replace(request, slot=request.slot + 1))


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
            ask(world, changed, 1)
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
        ask(world, server.requests()[2])


def test_the_cohort_shrinks_within_a_step_and_changes_a_few_times(world):
    world = SealedWorld(most_changes=2)
    server = world.open()
    world.run_step(server, 1)
    world.begin(server, 2, 1, cohort=(2, 5, 8))
    world.take_up(server)
    world.begin(server, 2, 2, cohort=(2, 5, 11))
    with refused(world, Check.COHORT_GREW, 11):
        ask(world, server.requests()[2])
    world.run_step(server, 3)  # the second change
    world.begin(server, 4, 1, cohort=(2, 5, 8))
    with refused(world, Check.COHORT_CHANGES):
        ask(world, server.requests()[2])
    world.run_step(server, 4, 2)


# --- the order of things


def test_the_label_is_journalled_before_a_mask_is_made(world, monkeypatch):
    _, request = begun(world)
    world.disks[5].broken = True
    before = state_of(world, 5)
    used = []
    monkeypatch.setattr(epochs.EpochKeys, "at", lambda *_: used.append(1))
    with pytest.raises(OSError):
        ask(world, request, 5)
    assert (used, state_of(world, 5)) == ([], before)
    monkeypatch.undo()
    world.disks[5].broken = False
    assert isinstance(ask(world, request, 5), Running)
    intent = world.disks[5].done[-1][1]
    assert (intent.label, intent.epoch) == (request.label, 1)


def test_the_attempt_is_charged_before_its_vector_leaves(world):
    server, request = begun(world)
    world.take_up(server)
    world.provide(world.vectors())
    world.to_slot()
    world.disks[2].broken = True
    with pytest.raises(OSError):
        ask(world, request)
    assert world.clients[2]._open.sealed is None
    world.disks[2].broken = False
    sealed = ask(world, request)
    assert world.disks[2].done[-1][2] == sent_digest(sealed.lanes)
    assert sealed.checkpoint == b"checkpoint"


def test_a_request_repeated_has_the_same_answer_whatever_rides_on_it(world):
    server, request = begun(world)
    world.take_up(server)
    done = len(world.disks[2].done)
    assert isinstance(ask(world, request), Running)
    world.provide(world.vectors())
    assert isinstance(ask(world, request), Running)  # not before the slot
    world.clock[0] += SLOT / 1000 - 0.001
    assert isinstance(ask(world, request), Running)
    world.clock[0] += 0.001
    first = ask(world, request)
    assert ask(world, request) == first
    assert ask(world, replace(request, opening=None, opened=())) == first
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
        ask(world, server.requests()[2])


@pytest.mark.parametrize("when", ["late", "failed"])
def test_without_a_vector_at_the_slot_there_is_none_ever(world, when):
    server, request = begun(world)
    world.take_up(server)
    label, vectors = request.label, world.vectors()
    world.to_slot()
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            ask(world, request)
        assert caught.value.check is Check.NO_VECTOR
    assert world.disks[2].charged() == [None]
    with pytest.raises(SecAggError):
        world.clients[2].noise_seed(label, bytes(32))
    with pytest.raises(SecAggError):
        world.clients[2].provide(label, numbers_of(vectors[2]))
    with pytest.raises(Refused):
        ask(world, request)


def test_a_session_that_has_expired_answers_nothing(world):
    server, request = begun(world)
    world.take_up(server)
    world.provide(world.vectors())
    world.clock[0] = NOW + 1800
    for call in (lambda: ask(world, request), lambda: world.clients[2].deal(SessionKeys(()))):
        with refused(world, Check.EXPIRED):
            call()
    world.clients[2].close()
    with refused(world, Check.NO_SESSION):
        ask(world, request)


def test_a_clock_that_steps_over_the_slot_loses_at_most_the_attempt(world):
    server, request = begun(world)
    world.take_up(server)
    world.provide(world.vectors())
    world.clock[0] -= 300
    assert isinstance(ask(world, request), Running)
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
    ask(world, server.requests()[5], 5)
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
