"""Sites that are missing from a step, come late, or have lost their keys: what each costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.errors import FederationError
from privacy.secagg.sealed.server import SealedServer
from privacy.wire.bodies import Hello, Refusal
from privacy.wire.checks import Check
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.reasons import Reason
from privacy.wire.sealed import OpenedSum, SealedCollect, SealedStep, StepForm
from privacy.wire.secagg import SecAggRefusal
from privacy.wire.session import SessionGroup, SessionKeys, SessionOffer
from server.inprocess import Drop, GridFault
from server.rounds import run_federation
from server.status import RunStatus
from server.status_reader import read_status
from tests.client.sealed import NAMES, sealed_values
from tests.server.sealed import FOUR, LARGE, SealedWorld, charges, four, outcomes

_ANSWERED_TWICE = 2
_PAUSED_ANSWERS = 9  # longer than a slot, at growing intervals


def asks_for(step: int) -> Callable[[bytes], bool]:
    """Whether a request is one at `step`."""

    def asks(request: bytes) -> bool:
        envelope = open_envelope(request, limit=LARGE)
        return isinstance(envelope.body, SealedStep) and envelope.round == step

    return asks


def test_an_agent_that_was_restarted_costs_an_attempt_and_a_session(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    world = pooled()
    third, restarted = asks_for(3), []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if not restarted and third(request) and node == world.nodes["hillside"]:
            restarted.append(world.sites.start(3))
        return None

    world.faults = faults
    run_federation(world.federation())
    status = read_status(world.url)
    assert outcomes(status) == [
        (1, 1, "finished", 3),
        (2, 1, "finished", 3),
        (3, 1, "failed", 0),
        (3, 2, "finished", 3),
    ]
    first, second = events("session-opened")
    assert second["session"] > first["session"]
    assert second["reason"] == "hillside has lost its keys."
    # Nobody was asked for a vector of the lost attempt, so it is charged nowhere.
    assert charges(world) == [3, 3, 3]
    # The new agent had no adapter, and has worked the old ones' out from the sums.
    chains = {agent._chain.current.state_digest for agent in world.sites.agents.values()}
    assert len(chains) == 1


def test_a_site_whose_slot_passed_while_it_paused_is_told_as_that(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """And not as a clock that is off."""
    world = pooled(cohort={"min_sites": 3, "round_deadline": 120.0, "reply_slot": 10.0})
    second, node = asks_for(2), world.nodes["hillside"]
    handle, paused = world.handlers[node], []

    def pausing(request: bytes) -> bytes:
        if second(request) and len(paused) < _PAUSED_ANSWERS:
            paused.append(request)
            envelope = open_envelope(request, limit=LARGE)
            return seal(replace(envelope, body=Refusal(Reason.PAUSED)))
        return handle(request)

    world.handlers[node] = pausing
    run_federation(world.federation())
    assert outcomes(read_status(world.url))[1:3] == [(2, 1, "failed", 0), (2, 2, "finished", 3)]
    (dropped,) = events("site-dropped")
    assert (
        "Its slot had passed when it could begin. It said: The hospital has paused"
        in (dropped["reason"])
    )
    assert charges(world) == [3, 3, 3]


def test_an_agent_that_is_restarted_within_a_step_costs_that_step_and_a_session(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """It had begun to train. The others' vectors were asked for, so they have charged it too."""
    world = pooled()
    second, asked = asks_for(2), []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if second(request) and node == world.nodes["hillside"]:
            asked.append(request)
            if len(asked) == _ANSWERED_TWICE:
                world.sites.start(3)
        return None

    world.faults = faults
    run_federation(world.federation())
    assert outcomes(read_status(world.url)) == [
        (1, 1, "finished", 3),
        (2, 1, "failed", 2),
        (2, 2, "finished", 3),
        (3, 1, "finished", 3),
    ]
    assert len(events("session-opened")) == _ANSWERED_TWICE
    assert charges(world) == [4, 4, 4]


def test_a_site_that_cannot_go_on_in_a_session_gets_another(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """Whoever carries the messages has asked it to deal, with a shorter list of keys."""
    world = pooled()
    first, shown = asks_for(1), []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if not shown and first(request) and node == world.nodes["hillside"]:
            envelope = open_envelope(request, limit=LARGE)
            opening = envelope.body.opening  # type: ignore[attr-defined]
            shorter = SessionKeys(opening.keys.entries[1:])
            message = seal(Envelope(envelope.run, 0, 0, shorter))
            shown.append(open_envelope(world.sites.agents[3].handle(message), limit=LARGE).body)
        return None

    world.faults = faults
    run_federation(world.federation())
    assert isinstance(shown[0], SessionGroup)
    assert outcomes(read_status(world.url))[:2] == [(1, 1, "failed", 0), (1, 2, "finished", 3)]
    assert [event["reason"] for event in events("session-opened")] == [
        "The run has none.",
        "hillside cannot go on in it.",
    ]
    assert charges(world) == [3, 3, 3]


def test_a_silent_site_costs_its_step_and_is_left_out_until_it_answers(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    world = four(pooled)
    silent = True
    second = asks_for(2)

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        nonlocal silent
        envelope = open_envelope(request, limit=LARGE)
        if envelope.round == 3:
            silent = False
        if node != world.nodes["site-4"] or not silent:
            return None
        began = world.released.get((4, 1, 1)) is not None
        return Drop() if began and (second(request) or isinstance(envelope.body, Hello)) else None

    world.faults = faults
    run_federation(world.federation())
    status = read_status(world.url)
    assert outcomes(status) == [
        (1, 1, "finished", 4),
        (2, 1, "failed", 0),
        (2, 2, "finished", 3),
        (3, 1, "finished", 3),
        (4, 1, "finished", 4),
    ]
    lost = next(item for item in status.history if item.state == "failed")
    assert "site-4: It missed the deadline of 60 s to begin." in lost.reason
    assert len(events("session-opened")) == 1  # it still has its keys
    # It was away for two steps, and knew their sums when the fourth began.
    assert world.sites.agents[4]._chain.current.steps == 3
    assert charges(world) == [4, 4, 4, 2]


def test_a_site_that_sends_no_vector_costs_all_a_charge(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    world = pooled()
    second, asked = asks_for(2), []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if node == world.nodes["north"] and second(request):
            asked.append(open_envelope(request, limit=LARGE).attempt)
            if asked[-1] == 1 and asked.count(1) >= _ANSWERED_TWICE:
                return Drop()
        return None

    world.faults = faults
    run_federation(world.federation())
    status = read_status(world.url)
    assert outcomes(status) == [
        (1, 1, "finished", 3),
        (2, 1, "failed", 2),
        (2, 2, "finished", 3),
        (3, 1, "finished", 3),
    ]
    assert charges(world) == [4, 4, 4]
    assert len(events("session-opened")) == 1
    # What did arrive is kept all the same: it was charged.
    assert sorted(world.store().steps.vectors((2, 1))) == ["harbour", "hillside"]
    # The retry costs no training of anybody's.
    assert all(len(vectors) == 1 for vectors in world.released.values())


def test_a_step_has_so_many_attempts_even_if_none_is_charged(
    pooled: Callable[..., SealedWorld],
) -> None:
    world = pooled()
    second = asks_for(2)

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        return Drop() if node == world.nodes["north"] and second(request) else None

    world.faults = faults
    with pytest.raises(FederationError, match=r"Step 2 of 3 failed after 3 attempt\(s\); 0 of 2"):
        run_federation(world.federation())
    status = read_status(world.url)
    assert outcomes(status)[1:] == [
        (2, 1, "failed", 0),
        (2, 2, "failed", 0),
        (2, 3, "failed", 0),
    ]
    assert charges(world) == [1, 1, 1]


def test_a_session_is_renewed_before_it_expires(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    values = sealed_values()
    world = pooled(pooled={**values["pooled"], "session_hours": 0.1})
    run_federation(world.federation())
    reasons = [event["reason"] for event in events("session-opened")]
    assert reasons == ["The run has none.", "It expires."]
    assert read_status(world.url).lost == 0


def test_a_site_that_gives_no_key_is_waited_for_and_then_left_out(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """With four sites three are enough. The fourth does not bring about a session a step."""
    world = four(pooled, rounds=3)

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        offers = isinstance(open_envelope(request, limit=LARGE).body, SessionOffer)
        return Drop() if offers and node == world.nodes["site-4"] else None

    world.faults = faults
    run_federation(world.federation())
    assert [count for *_, count in outcomes(read_status(world.url))] == [3, 3, 3]
    (opened,) = events("session-opened")
    assert opened["sites"] == sorted(NAMES[:3])


def test_too_few_keys_are_waited_for_and_cost_no_attempt(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    world = pooled(rounds=1)
    refused = []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        offers = isinstance(open_envelope(request, limit=LARGE).body, SessionOffer)
        if offers and node == world.nodes["north"] and world.clock.now < 1150:
            refused.append(node)
            return Drop()
        return None

    world.faults = faults
    run_federation(world.federation())
    assert refused
    assert outcomes(read_status(world.url)) == [(1, 1, "finished", 3)]
    assert any("keys for a session of steps" in event["reason"] for event in events("run-waiting"))


def test_a_site_that_comes_and_goes_stays_out_before_the_cohort_changes_too_often(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """With one spare attempt a study bears four changes; the last one is kept for a loss."""
    values = sealed_values(FOUR, rounds=8, sites=4)
    world = four(pooled, rounds=8, pooled={**values["pooled"], "spare_attempts": 1})
    at_home = world.handlers[world.nodes["site-4"]]

    class ComesAndGoes:
        def round_finished(self, status: RunStatus) -> None:
            if status.rounds_done % 2:
                world.handlers.pop(world.nodes["site-4"], None)
            else:
                world.handlers[world.nodes["site-4"]] = at_home

    run_federation(world.federation(ComesAndGoes()))
    assert [count for *_, count in outcomes(read_status(world.url))] == [4, 3, 4, 3, 3, 3, 3, 3]
    assert {event["round"] for event in events("site-left-out")} == {5, 7}


def test_no_attempt_is_left_after_the_spare_ones(pooled: Callable[..., SealedWorld]) -> None:
    """One vector is lost in each of the first three steps, and two may be."""
    world = pooled()
    asked: dict[tuple[int, int], int] = {}

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        envelope = open_envelope(request, limit=LARGE)
        key, body = (envelope.round, envelope.attempt), envelope.body
        if node != world.nodes["north"] or not isinstance(body, SealedStep | SealedCollect):
            return None
        asked[key] = asked.get(key, 0) + 1
        # From the second step on there are commitments first: a vector is what Collect asks for.
        direct = isinstance(body, SealedStep) and body.form is StepForm.DIRECT
        vector = isinstance(body, SealedCollect) or (direct and asked[key] >= _ANSWERED_TWICE)
        return Drop() if envelope.attempt == 1 and vector else None

    world.faults = faults
    with pytest.raises(FederationError, match=r"Step 3 of 3 failed after 1 attempt\(s\); 3 of 2"):
        run_federation(world.federation())
    assert charges(world) == [5, 5, 5]  # as many as the study may charge


def test_a_sum_that_does_not_verify_is_forgotten_and_its_step_is_run_again(
    pooled: Callable[..., SealedWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = pooled()
    right, wrong = SealedServer.result, []

    def result(server: SealedServer) -> OpenedSum:
        opened = right(server)
        if opened.step == 2 and not wrong:
            wrong.append(opened)
            lanes = opened.lanes.copy()
            lanes[0] += np.uint64(1)
            return replace(opened, lanes=lanes)
        return opened

    monkeypatch.setattr(SealedServer, "result", result)
    run_federation(world.federation())
    status = read_status(world.url)
    assert outcomes(status) == [
        (1, 1, "finished", 3),
        (2, 1, "failed", 3),
        (2, 2, "finished", 3),
        (3, 1, "failed", 0),
        (3, 2, "finished", 3),
    ]
    assert status.history[1].reason == "No site takes its opened sum, which does not verify."
    assert status.lost == 1
    assert charges(world) == [4, 4, 4]
    assert [number for number, _, _ in world.store().steps.sums()] == [1, 2, 3]


def test_one_site_alone_cannot_have_a_sum_forgotten(pooled: Callable[..., SealedWorld]) -> None:
    world = pooled()
    at_home, doubted = world.handlers[world.nodes["north"]], []

    def doubts(data: bytes) -> bytes:
        envelope = open_envelope(data, limit=LARGE)
        if isinstance(envelope.body, SealedStep) and envelope.round == 3 and not doubted:
            doubted.append(envelope.attempt)
            return seal(replace(envelope, body=SecAggRefusal(Check.FALSE_SUM, 0)))
        return at_home(data)

    world.handlers[world.nodes["north"]] = doubts
    run_federation(world.federation())
    assert outcomes(read_status(world.url)) == [
        (1, 1, "finished", 3),
        (2, 1, "finished", 3),
        (3, 1, "failed", 0),
        (3, 2, "finished", 3),
    ]


def test_a_session_whose_members_are_too_few_is_renewed_with_who_is_there(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """The fourth had given no key; then a member leaves, and three would not be enough keys."""
    world = four(pooled, rounds=2)

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        offers = isinstance(open_envelope(request, limit=LARGE).body, SessionOffer)
        first = not events_so_far()
        return Drop() if offers and first and node == world.nodes["site-4"] else None

    def events_so_far() -> list[Any]:
        return list(events("session-opened"))

    class Leaves:
        def round_finished(self, status: RunStatus) -> None:
            world.handlers.pop(world.nodes["north"], None)

    world.faults = faults
    run_federation(world.federation(Leaves()))
    assert [count for *_, count in outcomes(read_status(world.url))] == [3, 3]
    first, second = events("session-opened")
    assert "north" in first["sites"] and "site-4" not in first["sites"]
    assert "site-4" in second["sites"] and "north" not in second["sites"]
    assert second["reason"] == "Too few of its members are there."


def test_a_site_that_has_left_is_not_asked_again_and_who_comes_in_between_is_told_why_it_waits(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """Refused costs one attempt, not all of them; and nobody rings a site that is there."""
    world = four(pooled, rounds=3)
    late, leaver = world.nodes[NAMES[0]], world.nodes[NAMES[1]]
    second, gone = asks_for(2), list[int]()
    refused = list[tuple[int, type]]()

    def refusing(node: int, reason: Reason, until: Callable[[], bool]) -> None:
        handle = world.handlers[node]

        def answer(request: bytes) -> bytes:
            body = open_envelope(request, limit=LARGE).body
            if not isinstance(body, Hello | SealedStep) or until():
                return handle(request)
            refused.append((node, type(body)))
            return seal(replace(open_envelope(request, limit=LARGE), body=Refusal(reason)))

        world.handlers[node] = answer

    def has_been_waited_for() -> bool:
        return any("has left the study" in event["reason"] for event in events("run-waiting"))

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if second(request) and not gone:
            gone.append(leaver)
            refusing(leaver, Reason.LEFT, has_been_waited_for)
        return None

    world.faults = faults
    refusing(late, Reason.PAUSED, lambda: bool(events("round-failed")))
    run_federation(world.federation())
    assert outcomes(read_status(world.url))[:3] == [
        (1, 1, "finished", 3),
        (2, 1, "failed", 0),
        (2, 2, "finished", 3),
    ]
    assert refused.count((leaver, SealedStep)) == 1
    waited = events("run-waiting")[-1]["reason"]
    assert f"{NAMES[1]}: The hospital has left the study" in waited
    assert f"{NAMES[0]}: It was not in the first cohort of round 2" in waited
