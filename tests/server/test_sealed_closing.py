"""The end of a run of steps: the sites are asked whether they come to the same adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from privacy.wire.bodies import Refusal
from privacy.wire.closing import SealedClose, SealedConfirmed
from privacy.wire.envelope import open_envelope, seal
from privacy.wire.reasons import Reason
from server.inprocess import Drop, GridFault
from server.rounds import run_federation
from server.sealed_closing import CLOSING_SECONDS
from server.status_reader import read_status
from tests.server.sealed import LARGE, SealedWorld, charges, forging, outcomes


def is_close(request: bytes) -> bool:
    return isinstance(open_envelope(request, limit=LARGE).body, SealedClose)


def test_every_site_confirms_what_is_published(
    pooled: Callable[..., SealedWorld], events: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "craftsfl.agent")
    world = pooled()
    run_federation(world.federation())
    (event,) = events("adapter-confirmed")
    assert (event["sites"], event["of"]) == (["harbour", "hillside", "north"], 3)
    assert event["others"] == []
    told = [record.message for record in caplog.records if event["digest"] in record.message]
    assert len(told) == 3  # each site's own log has what it has worked out
    assert read_status(world.url).confirmed == ("harbour", "hillside", "north")
    assert charges(world) == [3, 3, 3]


def test_a_run_whose_sites_were_not_asked_yet_says_nothing(
    pooled: Callable[..., SealedWorld],
) -> None:
    world = pooled()
    seen: list[Any] = []
    run_federation(world.federation(Seen(world, seen)))
    assert seen == [None, None, None]


class Seen:
    def __init__(self, world: SealedWorld, seen: list[Any]) -> None:
        self.world, self.seen = world, seen

    def round_finished(self, status: Any) -> None:
        self.seen.append(status.confirmed)


def test_a_site_that_never_answers_costs_no_more_than_the_wait(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    world = pooled()
    world.faults = lambda node, number, request: (
        Drop() if is_close(request) and node == world.nodes["north"] else None
    )
    adapter = run_federation(world.federation())
    assert np.isfinite(adapter).all()
    (event,) = events("adapter-confirmed")
    assert event["sites"] == ["harbour", "hillside"]
    assert event["others"] == ["north: It has not answered in time."]
    seconds = read_status(world.url).phases["closing"]
    assert CLOSING_SECONDS <= seconds < CLOSING_SECONDS + 30


def test_an_agent_that_was_restarted_confirms_nothing(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    """It could work the adapter out, and not tell whether the last sum is one."""
    world = pooled()
    done: list[bool] = []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if is_close(request) and node == world.nodes["hillside"] and not done:
            done.append(True)
            world.sites.start(3)
        return None

    world.faults = faults
    run_federation(world.federation())
    (event,) = events("adapter-confirmed")
    assert event["sites"] == ["harbour", "north"]
    assert event["others"][0].startswith("hillside: The site has no keys of this session")


def test_a_last_sum_that_nobody_takes_is_forgotten_and_its_step_is_run_again(
    pooled: Callable[..., SealedWorld], events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = pooled()
    forging(monkeypatch, 1)
    run_federation(world.federation())
    status = read_status(world.url)
    assert outcomes(status)[2:] == [(3, 1, "failed", 3), (3, 2, "finished", 3)]
    assert status.lost == 1
    assert charges(world) == [4, 4, 4]
    (event,) = events("adapter-confirmed")
    assert len(event["sites"]) == 3
    assert [number for number, _, _ in world.store().steps.sums()] == [1, 2, 3]


def test_a_run_whose_last_sum_is_always_false_publishes_nothing(
    pooled: Callable[..., SealedWorld], monkeypatch: pytest.MonkeyPatch, events: Any
) -> None:
    world = pooled()
    wrong = forging(monkeypatch, 100)
    with pytest.raises(FederationError) as caught:
        run_federation(world.federation())
    assert caught.value.id == ErrorId.ROUND_FAILED
    assert wrong == [1, 2, 3]  # as many attempts as the study has for a step
    assert events("adapter-confirmed") == []


@pytest.mark.parametrize(("known", "steps"), [(1, [2, 3]), (99, [3])])
def test_a_site_that_lacks_sums_gets_them_with_the_question(
    pooled: Callable[..., SealedWorld], events: Any, known: int, steps: list[int]
) -> None:
    """Those after the last that it has; and the last one also if it says that it has more."""
    world = pooled()
    node, given = world.nodes["north"], []
    at_home = world.handlers[node]

    def lacking(data: bytes) -> bytes:
        envelope = open_envelope(data, limit=LARGE)
        if isinstance(envelope.body, SealedClose):
            given.append([opened.step for opened in envelope.body.opened])
            if len(given) == 1:
                refusal = Refusal(Reason.MISSING_SUMS, newest_run=known)
                return seal(replace(envelope, body=refusal))
        return at_home(data)

    world.handlers[node] = lacking
    run_federation(world.federation())
    (event,) = events("adapter-confirmed")
    assert given == [[3], steps]
    assert event["sites"] == ["harbour", "hillside", "north"]


def test_a_word_that_its_site_has_not_signed_does_not_count(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    world = pooled()
    at_home = world.handlers[world.nodes["north"]]

    def other(data: bytes) -> bytes:
        answer = at_home(data)
        envelope = open_envelope(answer, limit=LARGE)
        if isinstance(envelope.body, SealedConfirmed):
            return seal(replace(envelope, body=SealedConfirmed(bytes(64))))
        return answer

    world.handlers[world.nodes["north"]] = other
    run_federation(world.federation())
    (event,) = events("adapter-confirmed")
    assert event["sites"] == ["harbour", "hillside"]
    assert event["others"][0].startswith("north: A signature was not made by the site")


class Killed(BaseException):
    """The ServerApp dies."""


def test_a_coordinator_that_is_killed_at_the_end_asks_again(
    pooled: Callable[..., SealedWorld], events: Any
) -> None:
    world = pooled()
    closes: list[int] = []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if is_close(request):
            closes.append(node)
            if len(closes) == 2:
                raise Killed
        return None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation())
    first = run_federation(world.federation())
    (event,) = events("adapter-confirmed")
    assert len(event["sites"]) == 3
    asked = len(closes)
    assert run_federation(world.federation()).tobytes() == first.tobytes()
    assert len(closes) == asked  # once is enough
