"""The end of a run: who can prove the last sum says so; nothing else is changed or believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from privacy.secagg.refusals import Refused
from privacy.secagg.sealed.closing import FinalDigests, closing, confirms
from privacy.wire.checks import Check
from privacy.wire.closing import SealedClose
from privacy.wire.sealed import OpenedSum
from tests.privacy.secagg.consortium import RUN, identity_of
from tests.privacy.secagg.oracle import h
from tests.privacy.secagg.sealed.world import COORDINATOR, SealedWorld, carried, refused

PUBLISHED = b"\7" * 32


@pytest.fixture
def world() -> SealedWorld:
    made = SealedWorld(steps=2)
    server = made.open()
    made.run_step(server, 1)
    made.run_step(server, 2)
    return made


def final(world: SealedWorld, sums: list[OpenedSum] | None = None) -> FinalDigests:
    return FinalDigests(world.chain(sums), PUBLISHED)


def close_of(world: SealedWorld, of: list[OpenedSum] | None = None, **changes) -> SealedClose:
    """What the coordinator, which has its own key, says about these sums."""
    made = world.sums if of is None else of
    asked = closing(COORDINATOR, world.study, RUN, made[-1].session, final(world, made))
    signed = replace(asked, **changes)
    text = h("sealed-close", signed.signed_part())
    return replace(signed, signature=COORDINATOR.sign(text), opened=tuple(made[-1:]))


def ask(world: SealedWorld, close: SealedClose, site: int = 5):
    """The answer of a site that has worked the chain out from the sums that it was given."""
    own = [*world.sums[:1], *(one for one in close.opened if one.step == 2)]
    return carried(world.clients[site].confirm(carried(close), lambda _: final(world, own)))


def test_everybody_confirms_and_nothing_changes(world):
    close = close_of(world)
    done = [list(disk.done) for disk in world.disks.values()]
    for site in world.sites:
        first = ask(world, close, site)
        assert confirms(first, close, identity_of(site).public)
        assert ask(world, close, site) == first
        assert not confirms(first, close, identity_of(2 if site != 2 else 5).public)
        assert not confirms(first, replace(close, published=bytes(32)), identity_of(site).public)
    assert [disk.done for disk in world.disks.values()] == done


def test_what_is_signed_is_as_specified(world):
    close = close_of(world)
    data = close.signed_part()
    assert close.encode()[: len(data)] == data
    assert COORDINATOR.sign(h("sealed-close", data)) == close.signature
    assert ask(world, close, 5).signature == identity_of(5).sign(h("sealed-confirmed", data))


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"run": RUN + 1}, Check.RUN),
        ({"steps": 1}, Check.SESSION_STEPS),
        ({"study_digest": bytes(32)}, Check.RECIPE),
        ({"adapter": bytes(32)}, Check.ADAPTER),
        ({"published": bytes(32)}, Check.ADAPTER),
        ({"state": bytes(32)}, Check.STATE),
        ({"sums": bytes(32)}, Check.SUMS),
    ],
    ids=lambda value: value.name if isinstance(value, Check) else next(iter(value)),
)
def test_another_end_is_refused(world, changes, check):
    with refused(world, check):
        ask(world, close_of(world, **changes))


def test_nobody_else_ends_a_run(world):
    close = close_of(world)
    with refused(world, Check.SIGNATURE):
        ask(world, replace(close, published=bytes(32)))


def forged(opened: OpenedSum) -> dict[str, OpenedSum]:
    more = np.eye(1, len(opened.lanes), dtype=np.uint64)[0]
    return {
        "one more": replace(opened, lanes=opened.lanes + more),
        "nothing": replace(opened, lanes=np.zeros_like(opened.lanes)),
        "another label": replace(opened, label=bytes(32)),
        "another attempt": replace(opened, attempt=2),
        "an older session": replace(opened, session=0),
        "a later session": replace(opened, session=9),
        "another cohort": replace(opened, cohort=(2, 5, 8)),
    }


@pytest.mark.parametrize("name", forged(OpenedSum(1, 2, 1, b"l" * 32, (2, 5), np.ones(9, "u8"))))
def test_a_forged_last_sum_is_confirmed_by_nobody(world, name):
    """The coordinator publishes what follows from a sum that nobody has sent."""
    false = [world.sums[0], forged(world.sums[1])[name]]
    for site in world.sites:
        with refused(world, Check.FALSE_SUM):
            ask(world, close_of(world, false), site)


def test_the_last_sum_has_to_be_there(world):
    close = close_of(world)
    for opened in ((), (world.sums[0],)):
        with refused(world, Check.SUMS):
            ask(world, replace(close, opened=opened))


def test_a_site_that_cannot_prove_the_last_sum_says_so(world):
    """Its memory is gone; a session that it has opened since does not bring it back."""
    world.restart(5)
    with refused(world, Check.NO_SESSION):
        ask(world, close_of(world))
    world.open()
    with refused(world, Check.NO_SESSION):
        ask(world, close_of(world))
    assert confirms(
        ask(world, close_of(world), 8), close_of(world), identity_of(8).public
    )  # a new session takes nothing from those who remember


def test_a_member_that_missed_the_last_step_proves_its_sum_too(world):
    world = SealedWorld(steps=2)
    server = world.open()
    world.run_step(server, 1)
    world.run_step(server, 2, cohort=(2, 5, 8))
    assert confirms(ask(world, close_of(world), 11), close_of(world), identity_of(11).public)
    with refused(world, Check.FALSE_SUM):
        ask(world, close_of(world, [world.sums[0], forged(world.sums[1])["one more"]]), 11)


def test_what_the_chain_raises_is_passed_on(world):
    def missing(_):
        raise Refused(Check.COMMITMENT)

    with refused(world, Check.COMMITMENT):
        world.clients[5].confirm(close_of(world), missing)
