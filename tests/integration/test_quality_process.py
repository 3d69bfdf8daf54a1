"""A run with `[quality]`: the real process, the round state, `rounds status` and MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from craftsfl.rounds.watching import show_status
from server.quality import WORKER, QualityWatch, order_of
from server.settings import load_consortium
from server.status_reader import read_status
from tests.client.pictures import write_folder
from tests.server.office import Office, office

__all__ = ["office"]  # the fixture

QUALITY = '\n[quality]\nfolders = ["public"]\npublic = true\nevery = 3\n'


@pytest.fixture
def measured(office: Office, tmp_path: Path, study_values: dict[str, Any]) -> Office:
    write_folder(tmp_path / "public", patients=4, tiles=1)
    office.file.write_text(office.file.read_text("utf-8") + QUALITY, "utf-8")
    office.settings = load_consortium(office.file)
    return office


@pytest.mark.slow
def test_base_and_last_round_are_measured_and_shown(
    measured: Office, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = QualityWatch.finish  # here, on a busy machine, for as long as it takes
    monkeypatch.setattr(QualityWatch, "finish", lambda watch: finish(watch, 600.0))
    measured.operate()
    assert measured.result()["warnings"] == []
    status = read_status(measured.settings.database_url())
    assert [(item.round, item.metric) for item in status.quality] == [
        (0, "denoising"),
        (2, "denoising"),
    ]
    base, last = status.quality
    assert (base.change, base.low, base.high) == (0, 0, 0)
    assert last.low < last.change < last.high
    assert last.value == pytest.approx(base.value + last.change)
    show_status(measured.file, None, as_json=False)
    shown = capsys.readouterr().out
    assert last.low is not None
    assert last.high is not None
    change, low, high = (
        100 * x / (last.value - last.change) for x in (last.change, last.low, last.high)
    )
    assert f"{change:+.2f}% (95 % interval {low:+.2f}% to {high:+.2f}%)" in shown
    client = MlflowClient(tracking_uri=measured.settings.mlflow_uri())
    experiment = client.get_experiment_by_name("test-study")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    for key, value in (
        ("quality/denoising", last.value),
        ("quality/denoising_change", last.change),
        ("quality/denoising_change_low", last.low),
        ("quality/denoising_change_high", last.high),
    ):
        points = client.get_metric_history(run.info.run_id, key)
        assert [point.step for point in points] == [0, 2]
        assert points[-1].value == value
        assert points[-1].timestamp == int(last.measured * 1000)


@pytest.mark.slow
def test_the_process_ends_when_nobody_is_left_to_tell(measured: Office) -> None:
    settings = measured.settings
    assert settings.quality is not None
    base = Path(measured.study.base.source)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(order_of(settings, settings.quality, base).encode())
    process.stdin.flush()
    assert process.stdout.readline().startswith('{"round": 0, "figures"')
    process.stdin.close()
    assert process.wait(5.0) == 0
