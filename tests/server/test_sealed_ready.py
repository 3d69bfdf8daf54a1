"""Steps in the form READY: all commit to a vector before anybody is asked for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from privacy.wire.envelope import open_envelope
from privacy.wire.sealed import SealedCollect, SealedStep, StepForm
from server import sealed_attempt
from server.inprocess import Drop, GridFault
from server.rounds import run_federation
from server.sealed_attempt import LARGEST_DIRECT, form_of
from server.status_reader import read_status
from tests.server.sealed import LARGE, SealedWorld, charges, four, outcomes


def test_when_commitments_are_asked_for() -> None:
    assert form_of(3, 0) is StepForm.DIRECT
    assert form_of(LARGEST_DIRECT, 0) is StepForm.DIRECT
    assert form_of(LARGEST_DIRECT + 1, 0) is StepForm.READY
    assert form_of(3, 1) is StepForm.READY


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cohort is a large one."""
    monkeypatch.setattr(sealed_attempt, "LARGEST_DIRECT", 2)


def exchanges(events: Any, step: int) -> list[tuple[str, int, int]]:
    return [
        (event["exchange"], event["asked"], event["answered"])
        for event in events("exchange-finished")
        if event["round"] == step
    ]


def test_a_study_of_steps_with_commitments(
    committed: None, pooled: Callable[..., SealedWorld], events: Any
) -> None:
    world = pooled()
    run_federation(world.federation())
    assert outcomes(read_status(world.url)) == [(step, 1, "finished", 3) for step in (1, 2, 3)]
    assert charges(world) == [3, 3, 3]
    for step in (1, 2, 3):
        assert exchanges(events, step) == [("start", 3, 3), ("ready", 3, 3), ("vectors", 3, 3)]
    assert len({agent._chain.current.state_digest for agent in world.sites.agents.values()}) == 1


class LostInTheSlot:
    """site-4 answers that it is at work in the steps `given`, and then nothing in that attempt."""

    def __init__(self, world: SealedWorld, given: tuple[int, ...]) -> None:
        self.world, self.steps = world, given
        self.asked: dict[tuple[int, int], int] = {}

    def __call__(self, node: int, number: int, request: bytes) -> GridFault | None:
        envelope = open_envelope(request, limit=LARGE)
        if node != self.world.nodes["site-4"] or not isinstance(envelope.body, SealedStep):
            return None
        key = (envelope.round, envelope.attempt)
        self.asked[key] = self.asked.get(key, 0) + 1
        lost = key[0] in self.steps and key[1] == 1 and self.asked[key] > 1
        return Drop() if lost else None


def test_a_run_that_has_missed_a_vector_asks_for_commitments_from_then_on(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """The first loss costs the others a charge; the second one costs nobody any."""
    world = four(pooled)
    world.faults = LostInTheSlot(world, (2, 3))
    run_federation(world.federation())
    status = read_status(world.url)
    assert outcomes(status) == [
        (1, 1, "finished", 4),
        (2, 1, "failed", 3),
        (2, 2, "finished", 4),
        (3, 1, "failed", 0),
        (3, 2, "finished", 4),
        (4, 1, "finished", 4),
    ]
    assert charges(world) == [5, 5, 5, 5]  # four steps, and the one attempt that was DIRECT
    assert status.lost == 1
    assert exchanges(events, 1) == [("start", 4, 4), ("vectors", 4, 4)]
    assert exchanges(events, 2)[-3:] == [("start", 4, 4), ("ready", 4, 4), ("vectors", 4, 4)]
    assert exchanges(events, 3)[:2] == [("start", 4, 4), ("ready", 4, 3)]
    lost = [event for event in events("site-dropped") if event["round"] == 3]
    assert [(event["site"], event["exchange"]) for event in lost] == [("site-4", "ready")]


def test_a_site_without_a_vector_costs_the_others_nothing(
    committed: None, pooled: Callable[..., SealedWorld]
) -> None:
    """It charges before it says so, and only itself: that attempt counts as lost."""
    world = pooled()
    second: list[int] = []

    def fail() -> None:
        attempt = world.sites.agents[1]._attempt
        if attempt is not None and attempt.key.round == 2 and not second:
            second.append(attempt.key.attempt)
            attempt.work.result_by = lambda slot: None  # type: ignore[method-assign]

    world.clock.watch = fail
    run_federation(world.federation())
    status = read_status(world.url)
    assert outcomes(status)[1:3] == [(2, 1, "failed", 0), (2, 2, "finished", 3)]
    assert charges(world) == [4, 3, 3]
    assert status.lost == 1


class Killed(BaseException):
    """The ServerApp dies."""


PLACES = [1, 4, 6, 7, 8, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 5, 9, 10, 12))]


@pytest.mark.parametrize("place", PLACES)
def test_a_coordinator_that_is_killed_collects_the_same_vectors(
    committed: None, pooled: Callable[..., SealedWorld], events: Any, place: int
) -> None:
    """Killed at any message of a step, three of each exchange; one more question at the end."""
    world = pooled()
    sent: list[bytes] = []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        body = open_envelope(request, limit=LARGE).body
        if isinstance(body, SealedStep | SealedCollect):
            sent.append(request)
            if len(sent) == place:
                raise Killed
        return None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation())
    run_federation(world.federation())
    status = read_status(world.url)
    assert (status.rounds_done, status.lost) == (3, 0)
    assert len(events("session-opened")) == 1
    assert all(len(vectors) == 1 for vectors in world.released.values())
    assert charges(world) == [3, 3, 3]


def test_a_site_whose_vector_is_here_may_go_while_the_coordinator_is_away(
    committed: None, pooled: Callable[..., SealedWorld]
) -> None:
    """Two vectors are here and one is lost on its way; killed before it is asked for again.

    From then on, one of the two who have sent theirs answers nothing any more in that step.
    """
    world = pooled()
    asked: list[int] = []
    gone, late = world.nodes["harbour"], world.nodes["hillside"]

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        envelope = open_envelope(request, limit=LARGE)
        if envelope.round != 1:
            return None
        if isinstance(envelope.body, SealedCollect) and node == late:
            asked.append(node)
            if len(asked) == 2:
                raise Killed
            return Drop() if len(asked) == 1 else None
        return Drop() if len(asked) > 1 and node == gone else None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation())
    assert sorted(world.store().steps.vectors((1, 1))) == ["harbour", "north"]
    run_federation(world.federation())
    assert outcomes(read_status(world.url))[0] == (1, 1, "finished", 3)
    assert charges(world) == [3, 3, 3]


def test_a_site_that_has_lost_its_keys_after_it_committed_costs_nobody_else_a_charge(
    committed: None, pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """The first of the three is asked for its vector; the two others have charged by then."""
    world = pooled()
    done: list[bool] = []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        body = open_envelope(request, limit=LARGE).body
        if isinstance(body, SealedCollect) and node == world.nodes["hillside"] and not done:
            done.append(True)
            world.sites.start(3)
        return None

    world.faults = faults
    run_federation(world.federation())
    status = read_status(world.url)
    assert outcomes(status)[:2] == [(1, 1, "failed", 2), (1, 2, "finished", 3)]
    _, second = events("session-opened")
    assert second["reason"] == "hillside has lost its keys."
    assert status.lost == 1
