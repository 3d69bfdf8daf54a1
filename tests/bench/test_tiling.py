"""The bench of cutting tiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privacy.errors import DataError
from tests.client.slides.making import specimen, write_svs

pytest.importorskip("openslide", reason="the extra `slides` is not installed")

from bench import tiling


def test_a_row_counts_what_was_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide = write_svs(tmp_path / "slide.svs", specimen(1024))
    tiling.main(["--slide", str(slide), "--times", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["size"], row["mpp"]) for row in rows] == [(256, 0.5), (128, 0.5), (256, 1.0)]
    for row in rows:
        assert 0 < row["kept"] <= row["places"]
        assert row["places_per_second"] >= row["tiles_per_second"] > 0 < row["wall"]


def test_a_missing_slide_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.svs"):
        tiling.main(["--slide", str(tmp_path / "none.svs")])
