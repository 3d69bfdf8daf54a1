from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from privacy.errors import FederationError
from privacy.wire.reasons import Reason
from server.absentees import awaited_words
from server.inprocess import Fail
from server.nodes import Node
from server.rounds import run_federation
from server.status_reader import read_status
from server.tables import RunState, SiteState
from tests.server.fakes import WaitsForEver
from tests.server.masked import FourSites

MakeWorld = Callable[..., FourSites]
Events = Callable[[str], list[dict[str, Any]]]


def test_what_sites_say_of_themselves_is_stored(world: FourSites, events: Events) -> None:
    run_federation(world.federation())
    north = next(site for site in read_status(world.url).sites if site.name == "north")
    assert (north.state, north.declared_patients, north.budget) == (SiteState.JOINED, 500, 8.0)
    assert (north.delta, north.masked) == (1e-5, True)
    joined = {event["site"]: event for event in events("site-joined")}
    assert joined["north"]["patients"] == 500
    assert joined["north"]["masked"] is True


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"study_digest": bytes(32)}, "another study"),
        ({"base_digest": bytes([1] * 32)}, "another base model"),
        ({"declared_patients": 501}, "declares 501 patients, the study says 500"),
        ({"layout_fingerprint": bytes(32)}, "another adapter layout"),
        ({"parameters": 5}, "another adapter layout"),
    ],
)
def test_a_site_that_contradicts_the_study_is_refused(
    world: FourSites, events: Events, facts: dict[str, Any], words: str
) -> None:
    world.sites["north"].facts = facts
    run_federation(world.federation())
    (refused,) = events("site-refused")
    assert words in refused["reason"]
    status = read_status(world.url)
    stored = next(site for site in status.sites if site.name == facts.get("name", "north"))
    assert (stored.state, stored.reason) == (SiteState.REFUSED, refused["reason"])
    assert {item.updates for item in status.history} == {3}


def test_who_is_not_there_yet_is_told_before_the_deadline(world: FourSites, events: Events) -> None:
    world.sites["north"].refusals = [Reason.NOT_READY] * 6
    run_federation(world.federation())
    words = [event["reason"] for event in events("run-waiting")]
    assert words == [
        "north (3 of 4 are there). Nodes that speak for no site report: The site's agent is still "
        "loading its model. Try again shortly."
    ]
    assert events("site-missing") == []
    assert read_status(world.url).awaited == ""


@pytest.mark.parametrize(
    ("nodes", "online", "words"),
    [
        ({}, [], "No other gateway is connected."),
        ({}, [1], "Gateways that have not answered yet: 1."),
        ({1: "It has paused."}, [1], "Nodes that speak for no site report: It has paused."),
    ],
)
def test_what_is_known_of_who_is_not_there(
    world: FourSites, nodes: dict[int, str], online: list[int], words: str
) -> None:
    known = {node: Node(0.0, 1.0, trouble=trouble) for node, trouble in nodes.items()}
    told = awaited_words(world.study, known, online)
    names = ", ".join(site.name for site in world.study.sites)
    assert told == f"{names} (0 of 4 are there). {words}"


def test_a_stranger_is_refused_by_its_node(world: FourSites, events: Events) -> None:
    world.sites["north"].facts = {"name": "stranger"}
    run_federation(world.federation())
    (refused,) = events("node-refused")
    assert refused["reason"] == "It calls itself stranger, which is not a member."
    assert events("site-refused") == []
    assert {item.updates for item in read_status(world.url).history} == {3}


def test_facts_that_nobody_has_signed_are_refused(make_world: MakeWorld, events: Events) -> None:
    world = make_world()
    for site in world.sites.values():
        site.signed = lambda run, node, site=site: site.site_facts()  # type: ignore[misc]
    world.clock.latest = world.clock.now + 300  # ten times as long as sites may take to join
    with pytest.raises(WaitsForEver):
        run_federation(world.federation())
    assert "has not signed that" in read_status(world.url).awaited  # who masks has a key to sign
    assert len(events("node-refused")) == 4


def test_the_run_goes_on_without_the_missing_and_names_them(
    world: FourSites, events: Events
) -> None:
    world.handlers.pop(22)
    began = world.clock.now
    run_federation(world.federation())
    (missing,) = events("site-missing")
    assert missing["site"] == "harbour"
    assert "did not connect in time" in missing["reason"]
    assert world.clock.now - began >= 30.0
    stored = {site.name: site.state for site in read_status(world.url).sites}
    assert stored["harbour"] is SiteState.MISSING


def test_too_few_sites_are_waited_for_and_named(world: FourSites) -> None:
    world.handlers.pop(22)
    world.handlers.pop(33)
    world.clock.latest = world.clock.now + 300
    with pytest.raises(WaitsForEver):
        run_federation(world.federation())
    status = read_status(world.url)
    assert status.state is RunState.WAITING
    assert re.match(
        r"harbour, hillside \(2 of 3 are there\)\. harbour, hillside: .*", status.awaited
    )
    assert status.history == ()


def test_sites_that_may_not_take_part_are_not_waited_for(world: FourSites) -> None:
    for name in ("north", "harbour"):
        world.sites[name].facts = {"declared_patients": 3}
    with pytest.raises(FederationError, match=r"2 site.*3 that are needed.*harbour:.*north:"):
        run_federation(world.federation())


def test_sites_that_load_their_model_are_waited_for(world: FourSites, events: Events) -> None:
    for site in world.sites.values():
        site.refusals = [Reason.AGENT_UNREACHABLE, Reason.NOT_READY, Reason.PAUSED]
    run_federation(world.federation())
    assert len(events("site-joined")) == 4
    assert events("site-missing") == []


def test_a_failed_greeting_is_repeated(world: FourSites, events: Events) -> None:
    world.faults = lambda node, number, request: Fail(code=8) if number == 0 else None
    run_federation(world.federation())
    assert len(events("site-joined")) == 4
