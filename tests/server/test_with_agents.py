"""Server and real site agents, joined by the in-process grid: the protocol from end to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.agent.site_agent import AgentParts
from client.policy import SiteRules
from client.settings import Policy
from model.layout import Layout
from privacy.ledger import SqliteLedger
from privacy.secagg.client import Effects
from privacy.study.agreement import offer_seconds
from privacy.wire.envelope import open_envelope
from privacy.wire.secagg import Survivors
from server.inprocess import Drop, GridFault
from server.rounds import run_federation
from server.status_reader import read_status
from tests.client.fakes import PausingClock
from tests.privacy.ledger.ledgers import open_test_ledger, spent_by
from tests.server.fakes import LAYOUT, RUN
from tests.server.masked import LARGE, FourSites, MaskedWorld

POLICY = Policy(
    epsilon=50.0,
    delta=1e-5,
    study_epsilon=50.0,
    studies=("any",),
    bases=("any",),
    mechanisms=("local",),
    roster=64 * "0",
    min_noise_multiplier=0.5,
)


class Killed(BaseException):
    """The server dies."""


class OneUp:
    """A trainer that adds one to every number, whatever the data."""

    layout: Layout = LAYOUT

    def train(
        self,
        adapter: np.ndarray,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> np.ndarray:
        progress(1, 1)
        return np.ones_like(adapter)

    def clipped_sum(
        self,
        adapter: np.ndarray,
        step: int,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> np.ndarray:
        progress(1, 1)
        return np.ones(adapter.shape, np.int64)


@pytest.fixture
def masked(
    tmp_path: Path, study_values: dict[str, Any]
) -> Iterator[tuple[MaskedWorld, dict[str, SqliteLedger]]]:
    """Four real agents with identities and ledgers; one of them may drop out."""
    world = MaskedWorld(
        tmp_path,
        study_values,
        4,
        privacy={"attempts": 2},
        cohort={"round_deadline": 1e6, "reply_slot": 0.05},
    )
    policy = {**POLICY.model_dump(), "roster": world.consortium.digest().hex()}
    with ExitStack() as stack:
        ledgers = {}
        for name, node in world.nodes.items():
            path = tmp_path / f"{name}.sqlite"
            ledgers[name] = stack.enter_context(open_test_ledger(path))
            rules = SiteRules(name, world.study, Policy.model_validate(policy))
            parts = AgentParts(rules, ledgers[name], OneUp(), clock=PausingClock())
            agent = world.members.agent(name, parts, Effects(clock=world.clock.time))
            stack.callback(agent.stop, 5.0)
            world.handlers[node] = agent.handle
        yield world, ledgers


def test_masked_rounds_with_real_agents_and_ledgers(
    masked: tuple[MaskedWorld, dict[str, SqliteLedger]],
) -> None:
    world, ledgers = masked
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, np.full(4, 2.0), atol=world.tolerance(2))
    status = read_status(world.url)
    assert all(site.masked and site.rounds == 2 for site in status.sites)
    assert {site.budget for site in status.sites} == {50.0}
    first, second = ([part.epsilon for part in item.sites] for item in status.history)
    assert all(
        a is not None and b is not None and 0 < a < b for a, b in zip(first, second, strict=True)
    )
    assert {len(ledger.entries()) for ledger in ledgers.values()} == {2}
    # What the server works out is what the sites' ledgers say.
    assert {site.epsilon for site in status.sites} == {
        spent_by(ledger) for ledger in ledgers.values()
    }


def test_lost_replies_and_a_killed_server_cost_an_attempt_and_no_more(
    masked: tuple[MaskedWorld, dict[str, SqliteLedger]],
) -> None:
    world, ledgers = masked

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        asked = open_envelope(request, limit=LARGE)
        if asked.round == 2 and isinstance(asked.body, Survivors):
            raise Killed
        return Drop() if number % 5 == 1 else None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation())
    world.faults = None
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, np.full(4, 2.0), atol=world.tolerance(2))
    history = read_status(world.url).history
    assert [(item.round, item.attempt, item.state.value) for item in history] == [
        (1, 1, "finished"),
        (2, 1, "failed"),
        (2, 2, "finished"),
    ]
    # The burned update is charged, as every update that has left.
    assert {len(ledger.entries()) for ledger in ledgers.values()} == {3}


def test_a_site_that_was_away_stays_out_of_the_round_and_not_of_the_study(
    masked: tuple[MaskedWorld, dict[str, SqliteLedger]], events: Callable[..., Any]
) -> None:
    """In a later run too: the agents would refuse it, so the coordinator does not ask."""
    world, ledgers = masked
    away = world.handlers.pop(world.nodes["site-003"])

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        if isinstance(open_envelope(request, limit=LARGE).body, Survivors):
            raise Killed
        return None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation())
    world.faults = None
    world.handlers[world.nodes["site-003"]] = away
    world.clock.latest = 1e9
    world.clock.sleep(offer_seconds(world.study))  # until then, its attempt is open at the sites
    run_federation(world.federation(run=RUN + 1))
    history = read_status(world.url, RUN + 1).history
    names = [[part.name for part in item.sites] for item in history]
    assert [item.state.value for item in history] == ["finished", "finished"]
    assert [len(sites) for sites in names] == [3, 4]
    (left_out,) = events("site-left-out")
    assert (left_out["site"], left_out["round"]) == ("site-003", 1)
    assert {
        name: len(ledger.entries()) for name, ledger in ledgers.items() if ledger.entries()
    } == {
        "site-000": 3,
        "site-001": 3,
        "site-002": 3,
        "site-003": 1,
    }


CHILD = """
import os, signal, sys, json
from pathlib import Path
from privacy.wire.envelope import open_envelope
from privacy.wire.secagg import Deliver
from server.rounds import run_federation
from tests.server.masked import LARGE, FourSites

world = FourSites(Path(sys.argv[1]), json.loads(sys.argv[2]))

def faults(node, number, request):
    asked = open_envelope(request, limit=LARGE)
    if asked.round == 2 and isinstance(asked.body, Deliver):
        os.kill(os.getpid(), signal.SIGKILL)

world.faults = faults
run_federation(world.federation())
"""


def test_a_server_killed_by_the_system_resumes(
    tmp_path: Path, study_values: dict[str, Any]
) -> None:
    study_values["privacy"]["attempts"] = 2
    command = [sys.executable, "-c", CHILD, str(tmp_path), json.dumps(study_values)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    world = FourSites(tmp_path, study_values)
    for site in world.sites.values():
        site.records = 2  # its ledger has outlived the server
    assert read_status(world.url).rounds_done == 1
    adapter = run_federation(world.federation())
    np.testing.assert_allclose(adapter, np.full(4, 2.0), atol=world.tolerance(2))
    history = read_status(world.url).history
    assert [(item.round, item.attempt) for item in history] == [(1, 1), (2, 1), (2, 2)]
