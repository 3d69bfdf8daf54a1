from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from craftsfl.simulation.members import SimulatedMembers
from tests.client.sealed import MEMBERS, sealed_values
from tests.figures import remembered_figures as remembered_figures
from tests.server.masked import FourSites, MaskedWorld
from tests.server.sealed import SealedWorld


@pytest.fixture
def make_world(tmp_path: Path, study_values: dict[str, Any]) -> Callable[..., FourSites]:
    """`make_world(rounds=1, cohort={"min_sites": 4})`: four sites and a changed study."""
    return lambda **changes: FourSites(tmp_path, study_values, **changes)


@pytest.fixture
def world(make_world: Callable[..., FourSites]) -> FourSites:
    return make_world()


@pytest.fixture
def consortium(tmp_path: Path, study_values: dict[str, Any]) -> Callable[..., MaskedWorld]:
    """`consortium(5, rounds=1)`: five sites and a masked study of one round."""
    return lambda count=3, **changes: MaskedWorld(tmp_path, study_values, count, **changes)


@pytest.fixture
def events(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """`events("site-dropped")`: the events of that name so far."""

    def read(name: str) -> list[dict[str, Any]]:
        lines = (tmp_path / "events.jsonl").read_text("utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    return read


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[Callable[..., SealedWorld]]:
    """`pooled(rounds=1)`: a pooled study of three sites, changed, with their agents."""
    made: list[SealedWorld] = []

    def make(
        members: SimulatedMembers = MEMBERS,
        log: bool = False,
        policy: Mapping[str, Any] | None = None,
        folder: str = ".",
        **changes: Any,
    ) -> SealedWorld:
        (tmp_path / folder).mkdir(exist_ok=True)
        values = {**sealed_values(members), **changes}
        made.append(SealedWorld(tmp_path / folder, values, members, log, policy or {}))
        return made[-1]

    yield make
    for world in made:
        world.sites.close()
