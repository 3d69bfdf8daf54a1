from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.errors import FederationError, ModelError
from privacy.wire.bodies import Body, Refusal
from privacy.wire.envelope import Envelope, open_envelope
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Deliver
from server.inprocess import Fail, GridFault
from server.rounds import run_federation
from server.status_reader import read_status
from server.store import Store
from server.tables import AttemptState, PartState, SiteState
from tests.server.fakes import NODES, RUN
from tests.server.masked import LARGE, FourSites

MakeWorld = Callable[..., FourSites]
Events = Callable[[str], list[dict[str, Any]]]


class Killed(BaseException):
    """The process dies: nothing that handles errors runs."""


def test_all_rounds_run_and_weights_are_declared_patients(world: FourSites, events: Events) -> None:
    for name, step in {"north": 1.0, "harbour": 2.0, "hillside": 3.0}.items():
        world.sites[name].step = step
    adapter = run_federation(world.federation())
    mean = (500 * 1 + 800 * 2 + 1200 * 3 + 1500 * 1) / 4000
    np.testing.assert_allclose(adapter, 2 * mean, atol=world.tolerance(2))
    status = read_status(world.url)
    assert (status.run, status.rounds_done, status.rounds) == (RUN, 2, 2)
    assert {site.name: site.rounds for site in status.sites} == dict.fromkeys(NODES, 2)
    (epsilon,) = {site.epsilon for site in status.sites}
    assert epsilon is not None
    assert epsilon > 0
    assert [item.updates for item in status.history] == [4, 4]
    assert status.history[1].adapter_norm == pytest.approx(2 * 2 * mean, abs=1e-5)
    assert [event["round"] for event in events("round-finished")] == [1, 2]
    assert len(events("site-started")) == len(events("site-finished")) == 8


def test_each_round_starts_from_the_last_adapter(world: FourSites) -> None:
    run_federation(world.federation())
    starts = [e for e in world.sites["north"].asked if isinstance(e.body, TrainMasked)]
    assert [(e.round, e.attempt) for e in starts] == [(1, 1), (2, 1)]
    firsts = [float(e.body.start.adapter[0]) for e in starts]
    assert firsts == pytest.approx([0.0, 1.0], abs=world.tolerance())


def test_a_dead_supernode_costs_its_own_update_and_is_named(
    world: FourSites, events: Events
) -> None:
    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        dead = node == NODES["north"] and asked.round == 1 and isinstance(asked.body, Deliver)
        return Fail() if dead else None

    world.faults = faults
    run_federation(world.federation())
    (dropped,) = events("site-dropped")
    assert (dropped["site"], dropped["round"]) == ("north", 1)
    assert dropped["reason"] == "Its SuperNode is gone."
    first, second = read_status(world.url).history
    assert [part.state for part in first.sites if part.name == "north"] == [PartState.DROPPED]
    assert (first.updates, second.updates) == (3, 4)  # it is asked again in the next round


def test_text_of_flower_errors_is_never_kept(world: FourSites) -> None:
    world.faults = lambda node, number, request: Fail() if node == 22 and number == 1 else None
    run_federation(world.federation())
    stored = (world.folder / "events.jsonl").read_text() + str(read_status(world.url))
    assert "not for anybody's eyes" not in stored


def test_a_site_that_misses_the_deadline_is_dropped(world: FourSites, events: Events) -> None:
    world.sites["harbour"].running = 10**6
    run_federation(world.federation())
    assert {event["site"] for event in events("site-dropped")} == {"harbour"}
    assert "deadline of 60 s" in events("site-dropped")[0]["reason"], events("site-dropped")


def test_a_site_without_budget_is_dropped_with_its_figures(
    world: FourSites, events: Events
) -> None:
    world.sites["harbour"].start_refusal = Refusal(Reason.BUDGET, 7.5, 8.25, 8.0)
    run_federation(world.federation())
    reason = events("site-dropped")[0]["reason"]
    assert "epsilon 7.5 of 8; this round would make it 8.25" in reason


def test_an_agent_that_restarts_is_waited_for(world: FourSites, events: Events) -> None:
    site = world.sites["harbour"]
    site.refusals = [Reason.AGENT_UNREACHABLE, Reason.NOT_READY]
    federation = world.federation()
    run_federation(federation)
    assert events("site-dropped") == []
    assert [event["site"] for event in events("site-joined")].count("harbour") == 1


def test_an_agent_that_stays_away_is_dropped(make_world: MakeWorld, events: Events) -> None:
    world = make_world(
        cohort={"round_deadline": 1000.0}, secure_aggregation={"exchange_deadline": 500.0}
    )

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if node == NODES["north"] and number == 1:
            world.sites["north"].refusals = [Reason.AGENT_UNREACHABLE] * 50
        return None

    world.faults = faults
    run_federation(world.federation())
    assert "does not answer on its socket" in events("site-dropped")[0]["reason"]


def test_too_few_updates_end_the_run_and_name_the_reasons(world: FourSites, events: Events) -> None:
    for name in ("north", "harbour"):
        world.sites[name].start_refusal = Refusal(Reason.NO_UPDATE)
    with pytest.raises(FederationError, match=r"Round 1 of 2 failed.*harbour: The site had no"):
        run_federation(world.federation())
    assert len(events("round-failed")) == 1
    assert read_status(world.url).history[0].state is AttemptState.FAILED


def test_attempts_of_a_round_are_capped_by_the_study(make_world: MakeWorld) -> None:
    world = make_world(privacy={"attempts": 2}, cohort={"min_sites": 4})
    site = world.sites["north"]

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        return Fail() if node == NODES["north"] and asked.attempt == 1 else None

    world.faults = faults
    run_federation(world.federation())
    history = read_status(world.url).history
    assert [(item.round, item.attempt, item.state.value) for item in history] == [
        (1, 1, "failed"),
        (1, 2, "finished"),
        (2, 1, "failed"),
        (2, 2, "finished"),
    ]
    assert {e.attempt for e in site.asked if isinstance(e.body, TrainMasked)} == {2}


def test_an_answer_to_something_else_drops_the_site(world: FourSites, events: Events) -> None:
    site = world.sites["north"]
    honest = site.answer

    def answer(envelope: Envelope) -> Body:
        return site.site_facts() if isinstance(envelope.body, Deliver) else honest(envelope)

    site.answer = answer  # type: ignore[method-assign]
    run_federation(world.federation())
    assert events("site-dropped")[0]["reason"] == "Its reply does not answer what it was asked."


def test_bytes_that_are_no_envelope_keep_the_site_out(world: FourSites, events: Events) -> None:
    honest = world.handlers[22]
    world.handlers[22] = lambda data: honest(data) + b"\0\0"
    run_federation(world.federation())
    (missing,) = events("site-missing")
    assert missing["site"] == "harbour"
    assert "not a message of this protocol" in missing["reason"]


def test_kill_in_a_round_then_resume_with_the_last_adapter(
    make_world: MakeWorld, events: Events
) -> None:
    world = make_world(privacy={"attempts": 2})

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if asked.round == 2 and isinstance(asked.body, Deliver):
            raise Killed
        return None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation())
    assert read_status(world.url).state == "running"
    assert read_status(world.url).rounds_done == 1

    world.faults = None
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, np.full(4, 2.0), atol=world.tolerance(2))
    status = read_status(world.url)
    assert [(item.round, item.attempt) for item in status.history] == [(1, 1), (2, 1), (2, 2)]
    assert world.sites["north"].trained == [(1, 1), (2, 2)]  # nobody had looked at the lost one
    assert [event["resumed"] for event in events("run-started")] == [False, True]
    assert [event["round"] for event in events("round-started")] == [1, 2, 2]
    resent = [e for e in world.sites["north"].asked if isinstance(e.body, TrainMasked)]
    assert [e.round for e in resent] == [1, 2, 2]
    np.testing.assert_array_equal(resent[1].body.start.adapter, resent[2].body.start.adapter)


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_a_resumed_run_ends_as_one_that_never_stopped(make_world: MakeWorld, strategy: str) -> None:
    world = make_world(
        rounds=3,
        privacy={"attempts": 2},
        aggregation={"strategy": strategy, "learning_rate": 0.1},
    )
    whole = run_federation(world.federation(run=1))

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if open_envelope(request, limit=LARGE).round == 3:
            raise Killed
        return None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation(run=2))
    world.faults = None
    # Rotations, and so roundings of the sums, are another run's own.
    np.testing.assert_allclose(run_federation(world.federation(run=2)), whole, atol=1e-4)


def test_an_interrupted_attempt_counts(make_world: MakeWorld) -> None:
    world = make_world(cohort={"min_sites": 4}, privacy={"attempts": 1})

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if isinstance(open_envelope(request, limit=LARGE).body, Deliver):
            raise Killed
        return None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation())
    world.faults = None
    with pytest.raises(FederationError, match=r"after 1 attempt.*interrupted"):
        run_federation(world.federation())


def test_a_run_whose_rounds_are_all_done_needs_no_site(world: FourSites) -> None:
    adapter = run_federation(world.federation())
    world.handlers.clear()
    np.testing.assert_array_equal(run_federation(world.federation()), adapter)


def test_a_changed_checkpoint_is_refused(world: FourSites) -> None:
    run_federation(world.federation())
    (path,) = (world.folder / "adapters").glob(f"run-{RUN}-*/round-002.npz")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(FederationError, match="its contents have changed"):
        run_federation(world.federation())


def test_a_run_of_another_study_is_refused(world: FourSites) -> None:
    federation = world.federation()
    study = world.study.model_copy(update={"rounds": 5})
    edited = replace(federation, context=replace(federation.context, study=study))
    with pytest.raises(FederationError, match="not the study file with which run 5"):
        run_federation(edited)


def test_state_is_stored_before_each_message(world: FourSites) -> None:
    seen: list[str] = []
    store: Store = world.store()

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if node == NODES["north"] and asked.round == 1:
            parts = {part.name: part.state for part in store.status().history[-1].sites}
            seen.append(f"{type(asked.body).__name__} {parts['north'].value}")
        return None

    world.faults = faults
    run_federation(world.federation())
    assert seen == [
        "TrainMasked starting",
        "Advertisements training",
        "Deliver training",
        "Deliver training",
        "Survivors finished",
        "UnmaskRequest finished",
    ]


def test_a_broken_model_ends_the_wait_for_sites(world: FourSites) -> None:
    model: Future[Any] = Future()
    model.set_exception(ModelError("No base.", "Install it."))
    world.handlers.clear()
    began = world.clock.now
    with pytest.raises(ModelError, match="No base"):
        run_federation(replace(world.federation(), model=model))
    assert world.clock.now - began < 1


def test_a_site_that_left_is_skipped_and_asked_again_when_back(
    world: FourSites, events: Events
) -> None:
    handler = world.handlers[22]

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if asked.round == 1 and node == 33 and isinstance(asked.body, Deliver):
            world.handlers.pop(22, None)
        if asked.round == 2:
            world.handlers[22] = handler
        return None

    world.faults = faults
    world.sites["harbour"].running = 100
    run_federation(world.federation())
    assert {event["site"] for event in events("site-dropped")} == {"harbour"}
    assert read_status(world.url).sites[0].state is SiteState.JOINED


def test_a_late_site_joins_the_next_round(make_world: MakeWorld, events: Events) -> None:
    world = make_world(rounds=3)
    handler = world.handlers.pop(22)

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if open_envelope(request, limit=LARGE).round == 1:
            world.handlers[22] = handler
        return None

    world.faults = faults
    run_federation(world.federation())
    assert [event["site"] for event in events("site-missing")] == ["harbour"]
    assert [item.updates for item in read_status(world.url).history] == [3, 4, 4]
