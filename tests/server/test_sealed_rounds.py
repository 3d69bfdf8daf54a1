"""Steps of a pooled study: a coordinator and the agents of its hospitals, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.rounds import run_federation
from server.status import read_status
from tests.client.sealed import sealed_values
from tests.server.sealed import SealedWorld


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[Callable[..., SealedWorld]]:
    made: list[SealedWorld] = []

    def make(**changes: Any) -> SealedWorld:
        made.append(SealedWorld(tmp_path, {**sealed_values(), **changes}))
        return made[-1]

    yield make
    for world in made:
        world.sites.close()


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
