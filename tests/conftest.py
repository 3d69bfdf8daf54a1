"""Fixtures that every package's tests share. Heavy imports stay inside the fixtures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

# Read once, when huggingface_hub is imported: no test may reach for the network.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random tiny pipeline (see tests/tiny.py). Shared: never write into it."""
    from tests.tiny import build_tiny_base

    return build_tiny_base(tmp_path_factory.mktemp("base") / "pipeline")


@pytest.fixture
def tiny_pipeline(tiny_base: Path) -> StableDiffusionPipeline:
    """The tiny pipeline, loaded afresh for one test: on the CPU, float32, frozen."""
    from model.base import load_base

    return load_base(tiny_base)


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's own model cache."""
    monkeypatch.setenv("CRAFTSFL_CACHE", str(tmp_path / "craftsfl-cache"))
