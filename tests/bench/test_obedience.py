"""`bench.obedience`: what it says of runs that are done, and the sheets that readers get."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from bench import obedience
from bench.obedience import DemoRuns, obedience_rows
from craftsfl.demo.figures import PublicFigure
from craftsfl.simulation.folder import SimulationFolder

LOSS = PublicFigure(0.25, -0.025, -0.03, -0.02, 60)


def finished(folder: Path, number: int, low: float) -> None:
    """What a bench that was killed left of a run; a second training would fail without a study."""
    place = SimulationFolder(folder / "runs").arm("pooled", f"run {number}").folder
    place.mkdir(parents=True)
    obeyed = PublicFigure(-0.1, 0.4, low, 0.7, 32)
    values = {"epsilon": 6.9, "loss": asdict(LOSS), "obedience": asdict(obeyed), "adapter": [0.0]}
    (place / "obedience.json").write_text(json.dumps(values))


@pytest.fixture
def runs(tmp_path: Path) -> DemoRuns:
    finished(tmp_path, 1, 0.1)
    finished(tmp_path, 2, -0.1)
    nothing: Any = None
    return DemoRuns(tmp_path, nothing, nothing, Console())


def test_counts_the_runs_whose_interval_excludes_zero(runs: DemoRuns) -> None:
    first, second, in_all = obedience_rows(runs, 2, None)
    assert first["differs"] is True
    assert first["loss"] == pytest.approx(-0.1)
    assert second["differs"] is False
    assert second["low"] == -0.1
    assert in_all == {"runs": 2, "differ": 1}


def test_the_key_says_which_side_is_trained_and_both_sides_occur(
    runs: DemoRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3, 41):
        finished(tmp_path, number, 0.1)
    drawn: dict[str, bool] = {}

    def sheet(self: DemoRuns, number: int, adapter: list[float], trained_left: bool) -> Image.Image:
        drawn[f"pair-{number:02d}"] = trained_left
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(DemoRuns, "sheet", sheet)
    list(obedience_rows(runs, 40, tmp_path))
    key = json.loads((tmp_path / "key.json").read_text())
    assert key == {name: "left" if left else "right" for name, left in drawn.items()}
    assert set(key.values()) == {"left", "right"}  # by chance the same 40 times: 2 in 10^12


def test_a_sheet_has_a_column_for_each_side_and_one_for_real_tiles() -> None:
    colours = ("red", "green", "blue")
    columns = [[Image.new("RGB", (64, 64), colour)] * 3 for colour in colours]
    sheet = obedience._beside(columns)
    step = obedience._SIDE + obedience._GAP
    assert sheet.size == (obedience._GAP + 3 * step,) * 2
    middle = obedience._GAP + obedience._SIDE // 2
    found = [
        [sheet.getpixel((middle + x * step, middle + y * step)) for x in range(3)] for y in (0, 2)
    ]
    assert found == [[(255, 0, 0), (0, 128, 0), (0, 0, 255)]] * 2
