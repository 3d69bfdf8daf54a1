from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.fakes import World, make_study
from tests.server.masked import MaskedWorld


@pytest.fixture
def make_world(tmp_path: Path, study_values: dict[str, Any]) -> Callable[..., World]:
    """`make_world(rounds=1, cohort={"min_sites": 1})`: the fake world of a changed study."""
    return lambda **changes: World(tmp_path, make_study(study_values, **changes))


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
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
