"""Masked rounds where sites, messages or the coordinator itself come late, twice or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.accounting import epsilon
from privacy.errors import FederationError
from privacy.study.terms import event_of
from privacy.wire.envelope import open_envelope
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import (
    Advertisements,
    Deliver,
    MaskedInput,
    Survivors,
    UnmaskRequest,
)
from server.inprocess import Delay, Drop, Duplicate, Fail, GridFault
from server.rounds import run_federation
from server.status_reader import read_status
from strategies import Strategy
from tests.server.masked import LARGE, MaskedWorld

MakeWorld = Callable[..., MaskedWorld]
Events = Callable[[str], list[dict[str, Any]]]


class Killed(BaseException):
    """The server dies."""


@pytest.mark.parametrize("fault", [Drop(), Duplicate(), Delay(3.0), Delay(12.0), Fail(code=4)])
def test_lost_late_and_repeated_messages_change_nothing(
    consortium: MakeWorld, events: Events, fault: GridFault
) -> None:
    world = consortium(4, cohort={"round_deadline": 1000.0})
    world.faults = lambda node, number, request: fault if number % 3 == node % 3 else None
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, 2 * world.mean(), atol=world.tolerance(2))
    assert [item.attempt for item in read_status(world.url).history] == [1, 1]
    assert events("site-dropped") == []
    assert world.sites["site-000"].trained == [(1, 1), (2, 1)]


def test_an_agent_that_restarts_has_dropped_out(consortium: MakeWorld, events: Events) -> None:
    world = consortium(5, rounds=2)
    site = world.sites["site-003"]

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if node == world.nodes[site.name] and asked.round == 1 and isinstance(asked.body, Deliver):
            site.forget()
        return None

    world.faults = faults
    run_federation(world.federation())
    (dropped,) = events("site-dropped")
    assert (dropped["site"], dropped["exchange"]) == (site.name, "masked input")
    assert "does not know this attempt" in dropped["reason"]
    assert [item.updates for item in read_status(world.url).history] == [4, 5]


def test_a_site_without_an_update_has_dropped_out_and_its_charge_counts(
    consortium: MakeWorld, events: Events
) -> None:
    world = consortium(4, rounds=2)
    site = world.sites["site-003"]

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if node == world.nodes[site.name] and asked.round == 1 and isinstance(asked.body, Deliver):
            site.refusals = [Reason.NO_UPDATE]
        return None

    world.faults = faults
    run_federation(world.federation())
    (dropped,) = events("site-dropped")
    assert (dropped["site"], dropped["exchange"]) == (site.name, "masked input")
    assert "late, or training failed; only the site knows which" in dropped["reason"]
    (finished,) = (event for event in events("site-finished") if event["site"] == site.name)
    two = epsilon([event_of(world.study)] * 2, world.study.privacy.delta)
    assert (finished["round"], finished["epsilon"]) == (2, two)


def test_a_site_is_asked_for_its_update_once_its_slot_has_come(consortium: MakeWorld) -> None:
    world = consortium(3, rounds=1, cohort={"reply_slot": 40.0})
    site, asked = world.sites["site-001"], []
    site.running = 0

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if node == world.nodes[site.name]:
            asked.append((world.clock.now, type(open_envelope(request, limit=LARGE).body)))
        return None

    world.faults = faults
    run_federation(world.federation())
    (began,) = (at for at, body in asked if body is TrainMasked)
    (at,) = (at for at, body in asked if body is Deliver)
    assert began + 40 <= at < began + 41


def test_a_site_that_is_loading_is_asked_again(consortium: MakeWorld, events: Events) -> None:
    world = consortium(3, rounds=1)

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if node == 1002 and isinstance(asked.body, Advertisements) and not flags:
            flags.append(True)
            world.sites["site-001"].refusals = [Reason.AGENT_UNREACHABLE, Reason.NOT_READY]
        return None

    flags: list[bool] = []
    world.faults = faults
    run_federation(world.federation())
    assert flags
    assert events("site-dropped") == []


def test_an_interrupted_attempt_is_lost_and_the_next_has_new_keys(consortium: MakeWorld) -> None:
    world = consortium(3, rounds=1, privacy={"attempts": 2})

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if isinstance(open_envelope(request, limit=LARGE).body, Survivors):
            raise Killed
        return None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation())
    world.faults = None
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, world.mean(), atol=world.tolerance())
    history = read_status(world.url).history
    assert [(item.attempt, item.state.value) for item in history] == [
        (1, "failed"),
        (2, "finished"),
    ]
    assert "interrupted" in history[0].reason
    assert world.sites["site-000"].trained == [(1, 1), (1, 2)]


def test_too_few_sites_ask_nobody_to_train(consortium: MakeWorld) -> None:
    world = consortium(4, rounds=2, privacy={"attempts": 1})

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if isinstance(open_envelope(request, limit=LARGE).body, UnmaskRequest):
            world.handlers.pop(1001, None)
            world.handlers.pop(1002, None)
        return None

    world.faults = faults
    with pytest.raises(FederationError, match=r"2 site\(s\) of the 3|0 site\(s\) of the 3|1 of"):
        run_federation(world.federation())
    asked = [e.body for e in world.sites["site-003"].asked if e.round == 2]
    assert asked == []


def test_a_late_agent_is_waited_for_before_an_attempt(consortium: MakeWorld) -> None:
    world = consortium(3, rounds=1)
    away = {}
    sleep = world.clock.sleep

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        return None

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        if away and world.clock.now > away["until"]:
            world.handlers[1002] = world.sites["site-001"].handle

    world.faults = faults
    world.clock.sleep = sleeping  # type: ignore[method-assign]
    federation = world.federation()

    def leaving(parameters: int) -> Strategy:  # all have joined, and no attempt has begun
        away["until"] = world.clock.now + 600
        del world.handlers[1002]
        return federation.strategy(parameters)

    run_federation(replace(federation, strategy=leaving))
    assert world.clock.now > away["until"]
    assert [item.attempt for item in read_status(world.url).history] == [1]


def test_a_site_that_registers_again_in_a_round_may_still_be_in_the_sum(
    consortium: MakeWorld, events: Events
) -> None:
    """Its masked update is on its way when its SuperNode comes back as another node."""
    world = consortium(5, rounds=1)
    world.handlers.pop(world.nodes["site-004"])  # so that all are waited for
    old, new, site = world.nodes["site-001"], 1099, world.sites["site-001"]
    began, site.running = world.clock.now, 0

    def leaving(data: bytes) -> bytes:
        reply = site.handle(data)
        if isinstance(open_envelope(reply, limit=LARGE).body, MaskedInput):
            del world.handlers[old]
        return reply

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if node == new:
            return Drop() if world.clock.now - began < 75 else Delay(13.0)
        late = node == old and isinstance(open_envelope(request, limit=LARGE).body, Deliver)
        return Delay(4.0) if late else None

    world.handlers.update({old: leaving, new: site.handle})
    world.faults = faults
    run_federation(world.federation())
    assert [item.updates for item in read_status(world.url).history] == [4]
    assert len(events("site-joined")) == 5
