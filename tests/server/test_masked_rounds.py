"""Masked rounds on the in-process grid, with real cryptography and every message as bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy.errors import ConfigError, FederationError
from privacy.wire.bodies import Refusal, Running, SignedFacts, StartTraining
from privacy.wire.checks import Check
from privacy.wire.envelope import open_envelope
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import (
    Advertise,
    Consistency,
    MaskedInput,
    SecAggRefusal,
    ShareBundle,
    Survivors,
    Unmask,
)
from server.inprocess import Drop, GridFault
from server.rounds import run_federation
from server.status_reader import read_status
from server.tables import AttemptState, PartState
from tests.privacy.secagg.consortium import signatures_checked_once
from tests.server.masked import ASKED, EXCHANGES, LARGE, MaskedWorld, members_of

MakeWorld = Callable[..., MaskedWorld]
Events = Callable[[str], list[dict[str, Any]]]


def silent_from(world: MaskedWorld, exchange: str, *names: str, attempt: int = 1) -> None:
    """From `exchange` of round 1 on, nothing comes from the sites `names`."""
    kinds = tuple(ASKED[name] for name in EXCHANGES[EXCHANGES.index(exchange) :])
    nodes = {world.nodes[name] for name in names}

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        early = (asked.round, asked.attempt) != (1, attempt)
        return None if early or node not in nodes or not isinstance(asked.body, kinds) else Drop()

    world.faults = faults


@pytest.mark.parametrize("count", [3, 8, 32, pytest.param(100, marks=pytest.mark.slow)])
def test_any_number_of_sites_give_the_weighted_mean(
    consortium: MakeWorld, events: Events, count: int
) -> None:
    world = consortium(count, rounds=1)
    with signatures_checked_once():
        adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, world.mean(), atol=world.tolerance())
    status = read_status(world.url)
    assert [item.updates for item in status.history] == [count]
    assert all(site.masked and site.rounds == 1 for site in status.sites)
    assert [event["exchange"] for event in events("exchange-finished")] == list(EXCHANGES)
    assert {event["answered"] for event in events("exchange-finished")} == {count}
    assert [event["masked"] for event in events("round-finished")] == [True]
    assert {f"exchange: {name}" for name in EXCHANGES} <= set(status.phases)


def test_five_messages_a_round_beside_repeated_deliveries(consortium: MakeWorld) -> None:
    world = consortium(3)
    for site in world.sites.values():
        site.running = 2
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, 2 * world.mean(), atol=world.tolerance(2))
    kinds = [type(e.body) for e in world.sites["site-000"].asked if e.round == 1]
    train, keys, deliver, survivors, unmask = ASKED.values()
    assert kinds == [train, keys, *[deliver] * 3, survivors, unmask]


def test_no_update_and_no_figure_of_one_site_ever_arrives(consortium: MakeWorld) -> None:
    world = consortium(3, rounds=1)
    replies = []
    for node, handle in list(world.handlers.items()):

        def spying(data: bytes, handle: Callable[[bytes], bytes] = handle) -> bytes:
            reply = handle(data)
            replies.append(open_envelope(reply, limit=LARGE).body)
            return reply

        world.handlers[node] = spying
    run_federation(world.federation())
    vectors = (Running, SignedFacts, Advertise, ShareBundle, MaskedInput, Consistency, Unmask)
    assert all(isinstance(body, vectors) for body in replies)
    assert not any(
        isinstance(e.body, StartTraining) for site in world.sites.values() for e in site.asked
    )
    inputs = [body.lanes for body in replies if isinstance(body, MaskedInput)]
    assert len({lanes.tobytes() for lanes in inputs}) == 3


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_one_of_five_drops_out_at_each_exchange_and_is_named(
    consortium: MakeWorld, events: Events, exchange: str
) -> None:
    world = consortium(5, rounds=1)
    victim = "site-002"
    silent_from(world, exchange, victim)
    adapter = run_federation(world.federation())
    in_sum = exchange in ("consistency", "unmask")
    others = [name for name in world.sites if in_sum or name != victim]
    np.testing.assert_allclose(adapter, world.mean(others), atol=world.tolerance())
    (dropped,) = events("site-dropped")
    assert (dropped["site"], dropped["exchange"]) == (victim, exchange)
    assert dropped["in_sum"] is in_sum
    assert "deadline" in dropped["reason"]
    (part,) = (p for p in read_status(world.url).history[0].sites if p.name == victim)
    assert (part.exchange, part.reason) == (exchange, dropped["reason"])
    assert part.state is (PartState.FINISHED if in_sum else PartState.DROPPED)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_one_too_many_ends_the_attempt_and_the_next_one_succeeds(
    consortium: MakeWorld, exchange: str
) -> None:
    world = consortium(5, rounds=1, privacy={"attempts": 2})
    silent_from(world, exchange, "site-001", "site-004")  # n - t = 1
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, world.mean(), atol=world.tolerance())
    first, second = read_status(world.url).history
    assert (first.state, second.state) == (AttemptState.FAILED, AttemptState.FINISHED)
    assert f"exchange '{exchange}'" in first.reason
    assert "site-001" in first.reason
    assert "site-004" in first.reason
    trains = [e.body for e in world.sites["site-000"].asked if isinstance(e.body, TrainMasked)]
    assert [body.offer.attempt for body in trains] == [1, 2]
    burned = EXCHANGES.index(exchange) >= 2
    assert world.sites["site-000"].trained == ([(1, 1), (1, 2)] if burned else [(1, 2)])


def test_the_study_caps_the_attempts(consortium: MakeWorld, events: Events) -> None:
    world = consortium(3, rounds=1, privacy={"attempts": 2})
    world.faults = lambda node, number, request: (
        Drop()
        if node == 1002 and isinstance(open_envelope(request, limit=LARGE).body, Survivors)
        else None
    )
    with pytest.raises(FederationError, match=r"after 2 attempt.*'consistency' \(site-001\)"):
        run_federation(world.federation())
    assert [event["attempt"] for event in events("round-failed")] == [1, 2]
    assert read_status(world.url).rounds_done == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (SecAggRefusal(Check.ROSTER, 0), "a different roster"),
        (Refusal(Reason.BUDGET, 7.5, 8.25, 8.0), "epsilon 7.5 of 8"),
        (ShareBundle(()), "does not answer what it was asked"),
    ],
)
def test_a_site_that_refuses_is_named_with_its_words(
    consortium: MakeWorld, events: Events, answer: Any, words: str
) -> None:
    world = consortium(4, rounds=1)
    world.sites["site-002"].start_refusal = answer
    run_federation(world.federation())
    (dropped,) = events("site-dropped")
    assert (dropped["site"], dropped["exchange"]) == ("site-002", "advertise")
    assert words in dropped["reason"]


def test_a_forged_signature_costs_its_sender_only(consortium: MakeWorld, events: Events) -> None:
    world = consortium(4, rounds=1)
    site = world.sites["site-001"]
    honest = site.answer

    def forging(envelope: Any) -> Any:
        body = honest(envelope)
        return Consistency(bytes(64)) if isinstance(body, Consistency) else body

    site.answer = forging  # type: ignore[method-assign]
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, world.mean(), atol=world.tolerance())
    (dropped,) = events("site-dropped")
    assert (dropped["exchange"], dropped["in_sum"]) == ("consistency", True)
    assert "signature" in dropped["reason"]


def test_a_false_share_is_found_and_its_sender_named(consortium: MakeWorld, events: Events) -> None:
    world = consortium(5, rounds=1)
    site = world.sites["site-001"]
    honest = site.answer

    def lying(envelope: Any) -> Any:
        body = honest(envelope)
        if not isinstance(body, Unmask):
            return body
        return Unmask((b"\0" + bytes(range(32)), *body.shares[1:]))

    site.answer = lying  # type: ignore[method-assign]
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, world.mean(), atol=world.tolerance())
    (named,) = events("site-dropped")
    assert (named["site"], named["exchange"], named["in_sum"]) == ("site-001", "unmask", True)
    assert "contradict" in named["reason"]
    (part,) = (p for p in read_status(world.url).history[0].sites if p.name == "site-001")
    assert (part.state, part.reason) == (PartState.FINISHED, named["reason"])


def test_bits_that_cannot_hold_the_sum_are_refused_before_anybody_trains(
    consortium: MakeWorld,
) -> None:
    changes = {"bits": 9, "tolerated_error": 0.0135}
    world = consortium(3, secure_aggregation=changes)  # fits one parameter, not four
    with pytest.raises(ConfigError, match=r"9 bits.*4 parameters"):
        run_federation(world.federation())
    asked = [e.body for site in world.sites.values() for e in site.asked]
    assert not any(isinstance(body, TrainMasked) for body in asked)


def test_a_site_outside_of_the_roster_is_refused(consortium: MakeWorld, events: Events) -> None:
    world = consortium(4)
    names = [name for name in world.sites if name != "site-002"]
    smaller = members_of(names).roster
    for site in world.sites.values():
        site.roster = smaller
    world.consortium = smaller
    run_federation(world.federation())
    (refused,) = events("site-refused")
    assert refused["site"] == "site-002"
    assert "roster does not list it" in refused["reason"]


def test_epsilon_is_worked_out_from_the_schedule(consortium: MakeWorld) -> None:
    from privacy.accounting import epsilon
    from privacy.study.terms import event_of

    world = consortium(3)
    event, delta = event_of(world.study), world.study.privacy.delta
    earlier = epsilon([event] * 1, delta)  # a round of an earlier run
    world.sites["site-001"].facts = {"epsilon_spent": earlier}
    # Nothing that this study's rounds add up to.
    world.sites["site-002"].facts = {"epsilon_spent": 3.75}
    run_federation(world.federation())
    first, second = (
        {part.name: part.epsilon for part in item.sites} for item in read_status(world.url).history
    )
    once, twice, thrice = (epsilon([event] * count, delta) for count in (1, 2, 3))
    assert first == {"site-000": once, "site-001": twice, "site-002": None}
    assert second == {"site-000": twice, "site-001": thrice, "site-002": None}


def test_the_events_hold_no_bytes_of_keys_or_vectors(consortium: MakeWorld, tmp_path: Path) -> None:
    world = consortium(5, rounds=1)
    silent_from(world, "masked input", "site-001")
    run_federation(world.federation())
    for line in (tmp_path / "events.jsonl").read_text().splitlines():
        assert all(
            value is None or isinstance(value, str | int | float | bool | list)
            for value in json.loads(line).values()
        )
        assert len(line) < 1000
