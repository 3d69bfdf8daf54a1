"""A user without a home folder is told so, wherever a path begins with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.cache import base_cache
from privacy.errors import ConfigError
from privacy.home import from_home


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    monkeypatch.setattr(Path, "home", classmethod(nowhere))


def test_a_home_is_filled_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert from_home("~/base") == tmp_path / "base"
    assert from_home("base") == Path("base")


@pytest.mark.usefixtures("homeless")
def test_no_home_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="~nobody/base begins with ~") as caught:
        from_home("~nobody/base")
    assert "set HOME" in caught.value.hint
    for name in ("CRAFTSFL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no home folder") as caught:
        base_cache()
    assert "CRAFTSFL_CACHE" in caught.value.hint
