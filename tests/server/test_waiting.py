"""What a run waits for before an attempt, and what the operator may want of it meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from privacy.wire.bodies import Hello, Refusal, RunOver
from privacy.wire.envelope import open_envelope
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import UnmaskRequest
from server.farewell import FAREWELL_SECONDS
from server.inprocess import Drop, GridFault
from server.life import RunStopped
from server.nodes import refused_words
from server.rounds import NoTracker, run_federation
from server.runs import Runs
from server.status import RunStatus
from server.status_reader import read_status
from server.tables import AttemptState, RunState, Wish
from tests.server.fakes import RUN, WaitsForEver
from tests.server.masked import LARGE, FourSites, MaskedWorld

MakeWorld = Callable[..., FourSites]
MakeMasked = Callable[..., MaskedWorld]
Events = Callable[[str], list[dict[str, Any]]]


class Diary:
    """Does things at certain times of a world's clock."""

    def __init__(self, world: FourSites) -> None:
        self._world = world
        self._sleep = world.clock.sleep
        self._due: list[tuple[float, Callable[[], object]]] = []
        world.clock.sleep = self.sleep  # type: ignore[method-assign]

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        self._due.append((self._world.clock.now + seconds, action))

    def sleep(self, seconds: float) -> None:
        self._sleep(seconds)
        due = [item for item in self._due if item[0] <= self._world.clock.now]
        self._due = [item for item in self._due if item not in due]
        for _, action in due:
            action()


def asks(world: FourSites, wish: Wish) -> Callable[[], None]:
    def ask() -> None:
        with Runs(world.url, world.clock) as runs:
            found = runs.open_run()
            assert found is not None
            runs.ask(found.name, wish)

    return ask


def test_a_laptop_that_is_shut_between_two_rounds_costs_no_attempt(
    consortium: MakeMasked, events: Events
) -> None:
    world = consortium(3, rounds=2, privacy={"attempts": 1})
    site, diary = world.sites["site-001"], Diary(world)

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if asked.round == 1 and isinstance(asked.body, UnmaskRequest) and node == 1003:
            del world.handlers[1002]  # it has been asked before
            diary.after(120, lambda: world.handlers.update({1002: site.handle}))
        return None

    world.faults = faults
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, 2 * world.mean(), atol=world.tolerance(2))
    history = read_status(world.url).history
    assert [(item.round, item.attempt, item.updates) for item in history] == [(1, 1, 3), (2, 1, 3)]
    assert site.trained == [(1, 1), (2, 1)]
    (waited,) = events("run-waiting")
    assert waited["reason"].startswith(
        "site-001 (2 of 3 are there). site-001: its gateway is not connected (since "
    )
    assert len(events("run-goes-on")) == 1


def test_what_is_waited_for_can_be_read_while_it_is(world: FourSites) -> None:
    diary, seen = Diary(world), []

    def look() -> None:
        status = read_status(world.url)
        seen.append((status.state, status.awaited))

    world.handlers.pop(22)
    handler = world.handlers.pop(33)
    diary.after(100, look)
    diary.after(101, lambda: world.handlers.update({33: handler}))
    run_federation(world.federation())
    ((state, awaited),) = seen
    assert state is RunState.WAITING
    assert "hillside: It did not connect in time" in awaited
    status = read_status(world.url)
    assert (status.state, status.awaited) == (RunState.RUNNING, "")


@pytest.mark.parametrize(
    "reason", [Reason.NOT_READY, Reason.AGENT_UNREACHABLE, Reason.STOPPED, Reason.PAUSED]
)
def test_a_site_whose_agent_does_not_answer_is_waited_for_by_its_reason(
    make_world: MakeWorld, events: Events, reason: Reason
) -> None:
    world = make_world(cohort={"min_sites": 4})
    site = world.sites["north"]

    class Reloads(NoTracker):
        """Its agent ends after the first round, and takes its time to come back."""

        def round_finished(self, status: RunStatus) -> None:
            if status.rounds_done == 1:
                world.clock.sleep(60)
                site.refusals.extend([reason] * 30)

    run_federation(world.federation(tracker=Reloads()))
    assert [item.attempt for item in read_status(world.url).history] == [1, 1]
    words = refused_words(Refusal(reason)).rstrip(".")
    assert {f"north: {words}" in event["reason"] for event in events("run-waiting")} == {True}


def test_a_silent_node_does_not_hold_up_every_round(make_world: MakeWorld) -> None:
    world = make_world(rounds=6)
    world.handlers[99] = lambda data: data
    world.faults = lambda node, number, request: Drop() if node == 99 else None
    began = world.clock.now
    run_federation(world.federation())
    assert world.clock.now - began < 30 + 60 + 6 * 6  # the join deadline and one roll call


def test_every_attempt_begins_with_a_roll_call(make_world: MakeWorld) -> None:
    world = make_world(rounds=3, cohort={"reply_slot": 6.0})
    run_federation(world.federation())
    kinds = [
        type(asked.body).__name__
        for asked in world.sites["north"].asked
        if isinstance(asked.body, Hello | TrainMasked)
    ]
    assert kinds == ["Hello", "TrainMasked"] * 3


def test_a_roll_call_hears_of_a_site_s_new_facts(make_world: MakeWorld, events: Events) -> None:
    """A site that was set up anew in the middle of a run, with another cohort, may not go on."""
    world = make_world(rounds=2, cohort={"reply_slot": 6.0})

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if isinstance(open_envelope(request, limit=LARGE).body, TrainMasked):
            world.sites["north"].facts = {"declared_patients": 3}
        return None

    world.faults = faults
    run_federation(world.federation())
    (refused,) = events("site-refused")
    assert "It declares 3 patients" in refused["reason"]
    assert [item.updates for item in read_status(world.url).history] == [4, 3]


def test_a_paused_run_begins_no_attempt_and_goes_on_when_told(
    make_world: MakeWorld, events: Events
) -> None:
    world = make_world(rounds=2)
    diary = Diary(world)

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if asked.round == 1 and isinstance(asked.body, TrainMasked) and not seen:
            seen.append(RunState.RUNNING)
            asks(world, Wish.PAUSE)()
            diary.after(500, lambda: seen.append(read_status(world.url).state))
            diary.after(600, asks(world, Wish.RUN))
        return None

    seen: list[RunState] = []
    world.faults = faults
    began = world.clock.now
    run_federation(world.federation())
    assert seen == [RunState.RUNNING, RunState.PAUSED]
    assert world.clock.now - began > 600
    assert [item.state for item in read_status(world.url).history] == [AttemptState.FINISHED] * 2
    assert len(events("run-paused")) == len(events("run-goes-on")) == 1
    assert world.sites["north"].trained == [(1, 1), (2, 1)]


def test_a_paused_run_stays_paused_when_its_serverapp_is_replaced(world: FourSites) -> None:
    world.store().begin(world.study)
    asks(world, Wish.PAUSE)()
    for _ in range(2):
        world.clock.latest = world.clock.now + 900  # type: ignore[attr-defined]
        with pytest.raises(WaitsForEver):
            run_federation(world.federation())
        assert read_status(world.url).state is RunState.PAUSED
    assert not any(isinstance(e.body, TrainMasked) for e in world.sites["north"].asked)


def stopping_in_round_one(world: FourSites, wish: Wish) -> None:
    """The operator stops the run while the sites of round 1 train."""

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if asked.round == 1 and isinstance(asked.body, TrainMasked):
            asks(world, wish)()
        return None

    world.faults = faults


def test_a_stop_lets_the_attempt_under_way_end(consortium: MakeMasked) -> None:
    world = consortium(3, rounds=2, cohort={"reply_slot": 20.0})
    stopping_in_round_one(world, Wish.STOP)
    with pytest.raises(RunStopped):
        run_federation(world.federation())
    history = read_status(world.url).history
    assert [(item.round, item.state) for item in history] == [(1, AttemptState.FINISHED)]


def test_a_stop_at_once_does_not(consortium: MakeMasked) -> None:
    world = consortium(3, rounds=2, cohort={"reply_slot": 20.0})
    stopping_in_round_one(world, Wish.STOP_NOW)
    began = world.clock.now
    with pytest.raises(RunStopped):
        run_federation(world.federation())
    assert world.clock.now - began < 5
    (item,) = read_status(world.url).history
    assert (item.state, item.reason) == (
        AttemptState.FAILED,
        "The operator has stopped the run at once.",
    )
    assert world.sites["site-000"].trained == []  # nobody looked, so nobody charges
    for site in world.sites.values():  # each may take another run at once
        assert isinstance(site.asked[-1].body, RunOver)


def test_a_site_that_is_not_reached_holds_no_stop_up(consortium: MakeMasked) -> None:
    world = consortium(3, rounds=2, cohort={"reply_slot": 20.0})
    stopping_in_round_one(world, Wish.STOP_NOW)
    ordinary = world.faults

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        over = isinstance(open_envelope(request, limit=LARGE).body, RunOver)
        return Drop() if over else ordinary(node, number, request)

    world.faults = faults
    began = world.clock.now
    with pytest.raises(RunStopped):
        run_federation(world.federation())
    assert world.clock.now - began < 5 + FAREWELL_SECONDS


def test_a_full_disk_is_waited_for_before_a_round(
    world: FourSites, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [10 * 2**20]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[0]))
    Diary(world).after(300, lambda: free.append(free.pop() * 1000))
    run_federation(world.federation())
    (waited,) = events("run-waiting")
    assert "10 MB are left, a round needs 64 MB" in waited["reason"]
    assert str(world.folder / "adapters") in waited["reason"]
    assert [item.attempt for item in read_status(world.url, RUN).history] == [1, 1]
