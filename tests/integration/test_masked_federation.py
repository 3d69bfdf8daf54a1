"""Secure aggregation on real Flower processes: one of five sites is killed at each exchange.

SuperLink, SuperExec, ServerApp, five gateways (or Flower's SuperNode in the place of one), and five
agent processes with real identities and ledgers; only the training is a number that is added.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.events import RunFinished, SiteDropped
from server.status import PartStatus, RunStatus
from server.tables import PartState
from tests.integration.five_sites import COUNT, NAMES, FiveSites, wanted
from tests.server.masked import ASKED, EXCHANGES

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


@pytest.fixture
def make_sites(
    tmp_path: Path, tiny_base: Path, study_values: dict[str, Any]
) -> Iterator[Callable[[int], FiveSites]]:
    made: list[FiveSites] = []

    def make(rounds: int) -> FiveSites:
        made.append(FiveSites(tmp_path / "run", tiny_base, study_values, rounds))
        return made[-1]

    yield make
    for sites in made:
        sites.supervisor.stop()
        shutil.rmtree(sites.runtime, ignore_errors=True)


def check_round(
    sites: FiveSites, status: RunStatus, number: int, exchange: str, victim: str
) -> None:
    history = [item for item in status.history if item.round == number]
    assert [item.attempt for item in history] == [1], history
    parts: dict[str, PartStatus] = {part.name: part for part in history[0].sites}
    assert {name: part.exchange for name, part in parts.items() if part.exchange} == {
        victim: exchange
    }
    in_sum = exchange in ("consistency", "unmask")
    assert parts[victim].state is (PartState.FINISHED if in_sum else PartState.DROPPED)
    assert history[0].updates == COUNT - (not in_sum)
    expected = wanted(sites.study, set() if in_sum else {victim})
    assert sites.moved(number) == pytest.approx(expected, abs=1e-7)


def trap(number: int, exchange: str) -> str:
    return f"{number}:{ASKED[exchange].__name__}"


@pytest.mark.slow
def test_a_site_that_is_killed_before_it_masks_is_left_out(
    make_sites: Callable[[int], FiveSites],
) -> None:
    """One of the others runs Flower's own SuperNode: gateways and SuperNodes go together."""
    sites = make_sites(1)
    sites.supernodes = frozenset({NAMES[4]})
    run = sites.serve({NAMES[2]: trap(1, "masked input")})
    events = sites.follow()
    assert isinstance(events[-1], RunFinished), events[-1]
    check_round(sites, sites.status(run), 1, "masked input", NAMES[2])


@pytest.mark.slow
@pytest.mark.timeout(1200)  # 264 s on a quiet machine
def test_one_of_five_is_killed_at_each_exchange(make_sites: Callable[[int], FiveSites]) -> None:
    """A site for each exchange, one a round; each comes back and takes part in the next round."""
    sites = make_sites(len(EXCHANGES))
    victims = dict(zip(NAMES, EXCHANGES, strict=True))
    traps = {
        name: trap(number, exchange)
        for number, (name, exchange) in enumerate(victims.items(), start=1)
    }
    run = sites.serve(traps)
    # The restarted agent would take the repeated offer, which it has not journalled, as new.
    events = sites.follow(keep_down=NAMES[0])
    assert isinstance(events[-1], RunFinished), events[-1]
    status = sites.status(run)
    for number, (name, exchange) in enumerate(victims.items(), start=1):
        check_round(sites, status, number, exchange, name)
    dropped = [event for event in events if isinstance(event, SiteDropped)]
    assert {event.site: event.exchange for event in dropped} == victims
