"""Synthetic encoded tiles, and a seeded stand-in for the site's cryptographic source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline
from huggingface_hub.errors import LocalEntryNotFoundError

from model.base import load_base
from privacy.config import check
from privacy.study.manifest import Study
from tests.tiny import build_tiny_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow one: here nearly everything is training. Shared: never write into it."""
    return build_tiny_base(tmp_path_factory.mktemp("narrow") / "pipeline", channels=(16, 32))


@pytest.fixture(scope="session")
def loaded_tiny_base(tiny_base: Path) -> StableDiffusionPipeline:
    """The narrow one, for `tiny_pipeline`."""
    return load_base(tiny_base)


@pytest.fixture
def quiet_study(study_values: dict[str, Any]) -> Study:
    """No noise, everybody drawn: plain federated SGD. `north` declares 12 patients."""
    study_values["training"] |= {"noise_multiplier": 0, "sampling_rate": 1}
    study_values["sites"][0]["declared_patients"] = 12
    return check(study_values, Study, where="test")


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the hub is here, and whoever asks it fails the test."""

    def asked(*_: object, local_files_only: bool = False, **__: object) -> str:
        if not local_files_only:
            pytest.fail("the hub was asked")
        raise LocalEntryNotFoundError("no snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
