"""The site's machine while a session is set up: offers, lists of keys, the group's secret."""

from dataclasses import replace

import pytest

from privacy.secagg.sealed import opening
from privacy.secagg.sealed.label import session_digest
from privacy.secagg.sealed.opening import offered_session, signed_group, signed_key
from privacy.wire.checks import Check
from privacy.wire.session import SessionKeys, SessionOpening
from tests.privacy.secagg.consortium import NOW, RUN, identity_of
from tests.privacy.secagg.sealed.world import (
    COORDINATOR,
    ask,
    begun,
    refused,
    secrets_in,
    state_of,
)

OTHER = identity_of(999)


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
            ask(world, site, server.requests()[site])
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
        ask(world, 5, replace(request, opening=changed))  # site 2 has dealt: it knows the list


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
            ask(world, 5, replace(request, opening=replace(request.opening, group=changed)))
    session = world.clients[2]._session
    spoilt = signed_group(identity_of(2), session.sd, session.kd, wrong[Check.SIGNATURE])
    with refused(world, Check.GROUP, 2):
        ask(world, 5, replace(request, opening=replace(request.opening, group=spoilt)))


def test_there_is_no_first_step_without_the_opening(world):
    _, request = begun(world)
    with refused(world, Check.NO_KEYS):
        ask(world, 5, replace(request, opening=None))


def test_nobody_deals_once_a_step_has_begun(world):
    """A second secret for the group would leave sums that nobody can prove."""
    server, request = begun(world)
    world.take_up(server)
    for site in world.sites:
        with refused(world, Check.OUT_OF_ORDER):
            world.clients[site].deal(request.opening.keys)
