"""Random encoders of every kind, small enough to be made in a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.encoders.small import save


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each kind."""
    root = tmp_path_factory.mktemp("encoders")
    kinds = ("clip", "dual", "vit", "dinov2", "resnet", "convnext")
    return {kind: save(kind, root / kind) for kind in kinds}
