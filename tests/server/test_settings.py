from __future__ import annotations

from pathlib import Path

import pytest

from privacy.errors import ConfigError
from server.settings import load_consortium

FULL = """
study = "../study.toml"
state = "state"
join_deadline = 60.0

[tracking]
artifacts = "kept"

[superlink]
port = 9092
folder = "superlink"
authority = "tls/ca.pem"
certificate = "tls/server.pem"
key = "/etc/craftsfl/server.key"
secret = "superexec.secret"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "consortium.toml"
    path.write_text(text, "utf-8")
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "consortium"
    folder.mkdir()
    settings = load_consortium(written(folder, FULL))
    assert settings.study == tmp_path / "study.toml"
    assert settings.state == folder / "state"
    assert settings.artifacts_folder() == folder / "kept"
    assert settings.superlink is not None
    assert settings.superlink.authority == folder / "tls" / "ca.pem"
    assert settings.superlink.key == Path("/etc/craftsfl/server.key")


def test_everything_lives_in_state_by_default(tmp_path: Path) -> None:
    settings = load_consortium(written(tmp_path, 'study = "study.toml"\nstate = "state"\n'))
    state = tmp_path / "state"
    assert settings.database_url() == f"sqlite:///{state}/rounds.db"
    assert settings.mlflow_uri() == f"sqlite:///{state}/mlflow.db"
    assert settings.artifacts_folder() == state / "artifacts"
    assert settings.events_file() == state / "events.jsonl"
    assert settings.result_file() == state / "result.json"
    assert settings.samples_file() == state / "samples.png"


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean join_deadline"):
        load_consortium(written(tmp_path, 'study = "s"\nstate = "t"\njoin_dedline = 1.0\n'))


def test_a_superlink_needs_its_files(tmp_path: Path) -> None:
    text = 'study = "s"\nstate = "t"\n[superlink]\nport = 1\n'
    with pytest.raises(ConfigError, match=r"superlink\.secret is missing"):
        load_consortium(written(tmp_path, text))
