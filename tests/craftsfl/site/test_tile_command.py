"""`craftsfl site tile`, as it is typed."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from craftsfl.cli import app
from craftsfl.extras import explain_missing
from privacy.errors import ConfigError
from tests.client.pictures import write_csv
from tests.client.slides.making import specimen, write_svs

pytest.importorskip("openslide", reason="the extra `slides` is not installed")


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    write_svs(folder / "canary-slide.svs", specimen())
    write_csv(folder, [("canary-slide.svs", "skin", "canary-patient"), ("gone.svs", "x", "P2")])
    return folder


def test_it_tells_what_there_is_and_where_to_look(slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    (slides / "canary-other.svs").touch()
    result = CliRunner().invoke(app, ["site", "tile", str(slides), str(out), "--size", "64"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    count = len((out / "metadata.csv").read_text().splitlines()) - 1
    assert lines[0].startswith(f"{out / 'metadata.csv'}: {count} tiles of 1 slides, 1 patients.")
    assert str(out / "contact-sheet-1.png") in lines[1]
    assert lines[2] == f"Left out: 1 rows or slides. The reasons: {out / 'quarantine.csv'}"
    assert lines[3] == "In no row of the table, so not cut: 1 files."
    assert f"--data {out}. A hospital" in lines[4]
    assert tomllib.loads(lines[4].rsplit(": ", 1)[1]) == {"folder": str(out)}
    assert "canary" not in result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--slide-mpp", "28"], None),
        (["--slide-mpp", "350"], "--slide-mpp is 350"),
        (["--mpp", "nan"], "--mpp is nan"),
        (["--size", "0"], "--size is 0"),
        (["--tissue", "40"], "--tissue is 40"),
        (["--most", "-1"], "--most is negative"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_a_slide_is_opened(
    tmp_path: Path, options: list[str], words: str | None
) -> None:
    absent = [str(tmp_path / "none"), str(tmp_path / "tiles")]
    error = CliRunner().invoke(app, ["site", "tile", *absent, *options]).exception
    assert error is not None
    assert (words or "does not exist") in str(error)
    assert isinstance(error, ConfigError) is (words is not None)
    assert not (tmp_path / "tiles").exists()


def test_without_the_extra_its_name_is_said(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("client.slides.opened", "client.slides.cutting", "client.slides.run"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "openslide", None)
    result = CliRunner().invoke(app, ["site", "tile", str(slides), str(tmp_path / "tiles")])
    assert isinstance(result.exception, ModuleNotFoundError)
    _, hint = explain_missing(result.exception.name or "")
    assert "craftsfl[slides]" in hint
