"""`craftsfl rounds register`: what is not a SuperNode's public key never reaches Flower."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsfl.rounds.operator import register_site
from privacy.errors import ConfigError


@pytest.mark.parametrize("text", ["", "name = 'north'\n", "-----BEGIN OPENSSH PRIVATE KEY-----\n"])
def test_another_file_than_a_public_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "north.pub").write_text(text)
    with pytest.raises(ConfigError, match="not a SuperNode's public key") as caught:
        register_site(tmp_path / "consortium.toml", tmp_path / "north.pub")
    assert ".pub" in caught.value.hint


def test_so_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a SuperNode's public key"):
        register_site(tmp_path / "consortium.toml", tmp_path)
