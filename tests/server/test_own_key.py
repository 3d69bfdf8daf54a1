"""The coordinator's own key: made once, private, and the one that the study names."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from craftsfl.rounds.commands import app
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError
from privacy.identity import load_identity
from privacy.study.manifest import Study
from server.own_key import coordinator_key, make_coordinator_key
from tests.pooled_study import COORDINATOR, pooled_study


def study_of(public: bytes) -> Study:
    """A pooled study that names this key."""
    study = pooled_study()
    assert study.pooled is not None
    named = study.pooled.model_copy(update={"coordinator_key": public.hex()})
    return study.model_copy(update={"pooled": named})


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "coordinator.key"
    public = make_coordinator_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_identity(path).public == public
    found = coordinator_key(path, study_of(public))
    assert found is not None and found.public == public
    with pytest.raises(ConfigError, match="already exists"):
        make_coordinator_key(path)
    assert load_identity(path).public == public


def test_the_command_says_what_to_write_where(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.key"
    said = CliRunner().invoke(app, ["key", str(path)])
    assert said.exit_code == 0
    assert f'coordinator_key = "{load_identity(path).public.hex()}"' in said.output
    assert "consortium.toml" in said.output
    assert "PRIVATE" not in said.output


def test_a_study_without_such_a_key_needs_none(study_values: dict[str, Any]) -> None:
    assert coordinator_key(None, Study.model_validate(study_values)) is None


def test_a_missing_key_and_another_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has none") as missing:
        coordinator_key(None, study_of(COORDINATOR.public))
    make_coordinator_key(tmp_path / "other.key")
    with pytest.raises(ConfigError, match="is not the key that the study names") as other:
        coordinator_key(tmp_path / "other.key", study_of(COORDINATOR.public))
    assert {missing.value.id, other.value.id} == {ErrorId.COORDINATOR_KEY}
