"""The coordinator's table of the sites' ledgers: over rounds, runs and restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from craftsfl.simulation.members import seeded_identity
from privacy.errors import FederationError
from privacy.secagg.witness import MemoryWitness
from privacy.wire.bodies import Body
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.offer import TrainMasked
from server.clock import SystemClock
from server.rounds import run_federation
from server.run_name import RunName
from server.status_reader import read_status
from server.store import Store
from server.witness import StoredWitness
from tests.server.masked import MaskedSite, MaskedWorld

MakeWorld = Callable[..., MaskedWorld]
Events = Callable[[str], list[dict[str, Any]]]
OLD = "site-002"


def roll_back(site: MaskedSite) -> None:
    """From round 2 on, the site's ledger has one record again."""
    begin = site.begin

    def older(key: tuple[int, int, int], train: TrainMasked) -> Body:
        if key[1] == 2 and key != site.key:
            site.records = 0
        return begin(key, train)

    site.records, site.begin = 5, older  # type: ignore[method-assign]


def test_a_site_that_was_rolled_back_is_named_and_the_round_goes_on(
    consortium: MakeWorld, events: Events
) -> None:
    world = consortium(4, rounds=2)
    roll_back(world.sites[OLD])
    adapter = run_federation(world.federation())
    others = [name for name in world.sites if name != OLD]
    expected = world.mean() + world.mean(others)
    np.testing.assert_allclose(adapter, expected, atol=world.tolerance(2))
    (dropped,) = [event for event in events("site-dropped") if event["site"] == OLD]
    assert "older than one that it has shown before" in dropped["reason"]
    assert [item.updates for item in read_status(world.url).history] == [4, 3]


def test_peers_refuse_it_where_the_coordinator_has_forgotten(
    consortium: MakeWorld,
) -> None:
    world = consortium(4, rounds=1, privacy={"attempts": 1})
    key = seeded_identity(OLD).public
    newer = Checkpoint(b"\1" * 16, 9, bytes(32))
    for name, site in world.sites.items():
        if name != OLD:
            site.witness = MemoryWitness({key: newer})
    with pytest.raises(FederationError, match=OLD):
        run_federation(world.federation())


def test_the_table_outlives_run_and_process(consortium: MakeWorld) -> None:
    world = consortium(3, rounds=1)
    run_federation(world.federation())
    store = Store(world.url, RunName(world.study.digest(), 4711), SystemClock())
    known = StoredWitness(store).known()
    assert set(known) == {seeded_identity(name).public for name in world.sites}
    largest = Checkpoint(b"\1" * 16, 2**64 - 1, bytes(32))
    StoredWitness(store).keep({b"\5" * 32: largest})
    store.close()
    again = Store(world.url, RunName(bytes(32), 4712), SystemClock())
    assert StoredWitness(again).known() == {**known, b"\5" * 32: largest}
    again.close()
