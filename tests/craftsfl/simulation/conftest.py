from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest

from craftsfl.simulation.run import simulate
from model.base import Pipeline, load_base
from tests.craftsfl.simulation.worlds import Configure, Finished, Seen, configured


@pytest.fixture(scope="session")
def loaded(tinier_base: Path) -> Pipeline:
    return load_base(tinier_base)


@pytest.fixture
def configure(
    tmp_path: Path, tinier_base: Path, loaded: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> Configure:
    """`configure(arm="alone")`: a small simulation whose base is in memory already."""
    monkeypatch.setattr(
        "craftsfl.simulation.run.load_base", lambda path, device: copy.deepcopy(loaded)
    )
    return partial(configured, tmp_path / "simulation", tinier_base)


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tinier_base: Path, loaded: Pipeline
) -> Finished:
    """A pooled simulation of three sites that has ended. Shared: change nothing there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "craftsfl.simulation.run.load_base", lambda path, device: copy.deepcopy(loaded)
        )
        config = configured(tmp_path_factory.mktemp("finished") / "simulation", tinier_base)
        seen = Seen()
        return Finished(config, simulate(config, seen), seen)
