"""Steps of a pooled study: a coordinator and the agents of its hospitals, in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from privacy.study.pooling import grid_of
from privacy.wire.envelope import open_envelope
from privacy.wire.sealed import OpenedSum, Sealed, SealedStep
from server.checkpoint import load_checkpoint
from server.inprocess import GridFault
from server.rounds import run_federation
from server.status_reader import read_status
from tests.privacy.secagg.sealed import oracle
from tests.server.sealed import LARGE, SealedWorld


def test_a_whole_study_of_steps(pooled: Callable[..., SealedWorld], events: Any) -> None:
    world = pooled()
    adapter = run_federation(world.federation())
    status = read_status(world.url)
    assert [(item.round, item.attempt, item.state.value) for item in status.history] == [
        (1, 1, "finished"),
        (2, 1, "finished"),
        (3, 1, "finished"),
    ]
    assert (status.unit, status.rounds_done, status.lost, status.spare) == ("step", 3, 0, 2)
    assert np.isfinite(adapter).all()
    assert np.abs(adapter).max() > 0
    assert len(events("session-opened")) == 1


def test_the_coordinator_and_every_site_hold_the_same_adapter(
    pooled: Callable[..., SealedWorld],
) -> None:
    """The last sum only reaches the sites with a next step, so they are compared before it."""
    world = pooled()
    seen: list[bytes] = []

    def after(status: Any) -> None:
        if status.rounds_done == 2:
            seen.extend(
                agent._chain.current.adapter.tobytes() for agent in world.sites.agents.values()
            )

    class Looking:
        def round_finished(self, status: Any) -> None:
            after(status)

    run_federation(world.federation(Looking()))
    kept = load_checkpoint(*_file_of(world, 1)).adapter.tobytes()
    assert seen == [kept] * 3


def test_signed_vectors_are_kept_and_add_up_to_the_opened_sums(
    pooled: Callable[..., SealedWorld],
) -> None:
    world = pooled()
    run_federation(world.federation())
    steps = world.store().steps
    for number, attempt, total in steps.sums():
        vectors = [Sealed.decode(data) for data in steps.vectors((number, attempt)).values()]
        assert len(vectors) == 3
        rows = [sealed.lanes.tolist() for sealed in vectors]
        added = oracle.added(rows, grid_of(world.study, 3).bits)
        assert added == OpenedSum.decode(total).lanes.tolist()
    for ledger in world.sites.ledgers.values():
        assert [len(entry.sent) for entry in ledger.entries()] == [32, 32, 32]


class Killed(BaseException):
    """The ServerApp dies."""


def _file_of(world: SealedWorld, number: int) -> tuple[Path, str]:
    url = create_engine(world.url)
    with url.connect() as connection:
        row = connection.execute(
            text("SELECT path, sha256 FROM adapters WHERE round = :n"), {"n": number}
        ).one()
    url.dispose()
    return Path(row[0]), row[1]


SOON = (1, 2, 4, 5, 6, 7)  # of the 18 messages with steps: those of the first, and the next
LATER = [pytest.param(place, marks=pytest.mark.slow) for place in (3, *range(8, 19))]


@pytest.mark.parametrize("place", [*SOON, *LATER])
def test_a_coordinator_that_is_killed_goes_on_in_the_same_session(
    pooled: Callable[..., SealedWorld], events: Any, place: int
) -> None:
    """Killed at any message of a step, once the messages before it are there."""
    world = pooled()
    sent: list[tuple[tuple[int, int], bytes]] = []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        envelope = open_envelope(request, limit=LARGE)
        if isinstance(envelope.body, SealedStep):
            sent.append(((envelope.round, envelope.attempt), envelope.body.signed_part()))
            if len(sent) == place:
                raise Killed
        return None

    world.faults = faults
    with pytest.raises(Killed):
        run_federation(world.federation())
    run_federation(world.federation())
    status = read_status(world.url)
    assert status.rounds_done == 3
    assert status.lost <= 1
    assert len(events("session-opened")) == 1
    assert len(dict(sent)) == len({part for _, part in sent})  # one request for each attempt
    assert all(len(vectors) == 1 for vectors in world.released.values())
    charged = {site: len(ledger.entries()) for site, ledger in world.sites.ledgers.items()}
    assert all(3 <= count <= 4 for count in charged.values())
