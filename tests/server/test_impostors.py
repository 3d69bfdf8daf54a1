"""Attacks of a node that is registered, and speaks for a site that it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.identity import Identity
from privacy.secagg import transcript
from privacy.wire.bodies import Body, Hello, Refusal, SignedFacts
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from server.inprocess import Fail, GridFault
from server.rounds import run_federation
from server.status_reader import read_status
from server.tables import SiteState
from tests.server.masked import LARGE, MaskedWorld

MakeWorld = Callable[..., MaskedWorld]
Events = Callable[[str], list[dict[str, Any]]]
Lie = Callable[[MaskedWorld, Envelope], Body]

VICTIM = "site-001"
FIRST, LAST = 1, 9999  # greeted before all others, and after them


def hostile(world: MaskedWorld, node: int, lie: Lie, *, asked: list[Body]) -> None:
    """A registered node, greeted in the order of ids, that answers every greeting by `lie`."""

    def handle(data: bytes) -> bytes:
        envelope = open_envelope(data, limit=LARGE)
        asked.append(envelope.body)
        return seal(replace(envelope, body=lie(world, envelope)))

    world.handlers = dict(sorted({**world.handlers, node: handle}.items()))


def unsigned(world: MaskedWorld, envelope: Envelope) -> Body:
    return replace(world.sites[VICTIM].site_facts())


def own_key(world: MaskedWorld, envelope: Envelope) -> Body:
    assert isinstance(envelope.body, Hello)
    facts = replace(world.sites[VICTIM].site_facts())
    text = transcript.site_facts(envelope.run, envelope.body.node, facts)
    return SignedFacts(facts, Identity.generate().sign(text))


def another_node(world: MaskedWorld, envelope: Envelope) -> Body:
    """What the site has signed for its own node, relayed."""
    return world.sites[VICTIM].signed(envelope.run, world.nodes[VICTIM])


def another_run(world: MaskedWorld, envelope: Envelope) -> Body:
    """What the site signed for this node's id when another run's server greeted it so."""
    assert isinstance(envelope.body, Hello)
    return world.sites[VICTIM].signed(envelope.run + 1, envelope.body.node)


def other_facts(world: MaskedWorld, envelope: Envelope) -> Body:
    """A true signature, under figures that the site did not sign."""
    assert isinstance(envelope.body, Hello)
    signed = world.sites[VICTIM].signed(envelope.run, envelope.body.node)
    assert isinstance(signed, SignedFacts)
    return replace(signed, facts=replace(signed.facts, epsilon_spent=7.0))


@pytest.mark.parametrize("node", [FIRST, LAST], ids=["it comes first", "it comes last"])
@pytest.mark.parametrize("lie", [unsigned, own_key, another_node, another_run, other_facts])
def test_a_node_that_claims_anothers_name_is_refused_and_not_the_run(
    consortium: MakeWorld, events: Events, lie: Lie, node: int
) -> None:
    world = consortium(3, rounds=1)
    asked: list[Body] = []
    hostile(world, node, lie, asked=asked)
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, world.mean(), atol=world.tolerance())
    (refused,) = events("node-refused")
    assert (refused["node"], VICTIM in refused["reason"]) == (str(node), True)
    assert not any(isinstance(body, TrainMasked) for body in asked)
    status = {site.name: site for site in read_status(world.url).sites}
    assert status[VICTIM].state is SiteState.JOINED
    stranger = status[f"node {node}"]
    assert (stranger.state, stranger.reason) == (SiteState.REFUSED, refused["reason"])


def test_a_node_that_is_refused_does_not_end_the_wait_for_the_site(
    consortium: MakeWorld, events: Events
) -> None:
    """Every node that is connected has been refused, and the site itself is late."""
    world = consortium(3, rounds=1)
    late, node = world.handlers[world.nodes[VICTIM]], world.nodes[VICTIM]
    del world.handlers[node]
    for number, lie in enumerate((unsigned, lambda w, e: Refusal(Reason.WRONG_STUDY))):
        hostile(world, LAST + number, lie, asked=[])

    def arrives() -> None:
        if world.clock.now > 1010.0:
            world.handlers.setdefault(node, late)

    sleep = world.clock.sleep
    world.clock.sleep = lambda seconds: (sleep(seconds), arrives())[0]  # type: ignore[method-assign]
    federation = world.federation()
    run_federation(federation)
    assert len(events("site-joined")) == 3
    assert len(events("node-refused")) == 2


def test_of_two_nodes_with_the_sites_own_key_the_first_stays(
    consortium: MakeWorld, events: Events
) -> None:
    world = consortium(3, rounds=1)
    asked: list[Body] = []

    def twin(world: MaskedWorld, envelope: Envelope) -> Body:
        assert isinstance(envelope.body, Hello)
        return world.sites[VICTIM].signed(envelope.run, envelope.body.node)

    hostile(world, LAST, twin, asked=asked)
    run_federation(world.federation())
    (refused,) = events("node-refused")
    assert refused["node"] == str(LAST)
    assert "Stop one of them" in refused["reason"]
    assert {type(body) for body in asked} == {Hello}


def test_a_site_under_a_new_registration_takes_its_name_along(
    consortium: MakeWorld, events: Events
) -> None:
    world = consortium(3, rounds=1)
    old, site = world.nodes[VICTIM], world.sites[VICTIM]
    world.sites["site-002"].refusals = [Reason.NOT_READY]

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if node == old and number == 0:
            world.handlers[LAST] = site.handle
            return None
        return Fail() if node == old else None

    world.faults = faults
    original = site.signed

    def signed(run: int, node: int) -> Body:
        if node == LAST:
            world.handlers.pop(old, None)
        return original(run, node)

    site.signed = signed  # type: ignore[method-assign]
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, world.mean(), atol=world.tolerance())
    assert events("node-refused") == []
    joined = [event["site"] for event in events("site-joined")]
    assert joined.count(VICTIM) == 2
