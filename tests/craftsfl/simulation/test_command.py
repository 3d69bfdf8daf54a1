"""`craftsfl simulate`, as a person uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from craftsfl.cli import app
from craftsfl.simulation.config import Gain, SimulationResult, result_of
from craftsfl.simulation.report import show, warn
from model.lab.tissue import HOSPITALS
from model.lab.tissue.imagefolder import write_site
from privacy.errors import CraftsflError
from tests.craftsfl.simulation.worlds import small_study

TOML = Path(__file__).parents[3] / "docs/examples/pooled/study.toml"


@pytest.fixture
def study(tmp_path: Path, tinier_base: Path) -> Path:
    """The sample study's file, for the random base."""
    own = small_study(tinier_base)
    text = TOML.read_text()
    for old, new in (
        ("rounds = 40", "rounds = 1"),
        ("parameters = 1536", f"parameters = {own.pooled.parameters if own.pooled else 0}"),
        ('targets = ["attn2.to_v", "attn2.to_out.0"]', f"targets = {list(own.adapter.targets)}"),
        ("tiles_per_patient = 4", "tiles_per_patient = 1"),
        ("draws_per_tile = 4", "draws_per_tile = 1"),
    ):
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "study.toml"
    file.write_text(text)
    return file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_a_simulation_prints_json_and_warns_loudly(
    study: Path, tmp_path: Path, tinier_base: Path
) -> None:
    options = ["--base", tinier_base, "--patients", 1, "--held-out", 3, "--dir", tmp_path / "s"]
    done = run(study, *options, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["arm"], found["sites"], found["steps"]) == ("pooled", 3, 1)
    assert found["low"] < found["gain"] < found["high"]
    assert Path(found["adapter"]).is_file()
    assert "A SIMULATION PROTECTS NOBODY" in done.stderr
    assert "NOISE OFF" not in done.stderr
    off = run(study, *options, "--arm", "noise-off")
    assert "NOISE OFF" in off.stderr
    assert "pooled" in off.stdout and "noise-off" in off.stdout
    assert "whom no arm trained on" in off.stdout.replace("\n", " ")


def test_given_tiles_are_said_to_have_to_be_public(capsys: pytest.CaptureFixture[str]) -> None:
    warn(noise_off=False, data=Path("tiles"))
    said = capsys.readouterr().err
    assert "The tiles in tiles have to be public" in said
    assert "stop now" in said


@pytest.mark.slow
@pytest.mark.ci
def test_tiles_may_be_given(study: Path, tmp_path: Path, tinier_base: Path) -> None:
    for place, name in enumerate(HOSPITALS):
        own = tmp_path / "tiles" / name
        write_site(
            own,
            site=name,
            patients=5,
            most_tiles=2,
            appearance=HOSPITALS[name],
            seed=place,
        )
    options = ["--base", tinier_base, "--data", tmp_path / "tiles", "--dir", tmp_path / "s"]
    done = run(study, *options, "--json", "--arm", "noise-off")
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(done.stdout)
    assert (found["sites"], found["patients"], found["held_out"]) == (3, 12, 3)
    again = run(study, *options, "--sites", 4)
    assert isinstance(again.exception, CraftsflError)
    assert "has 3 sub-folders, and 4 sites are asked for" in again.exception.message


def test_an_unknown_arm_is_refused_with_those_there_are(study: Path) -> None:
    done = run(study, "--arm", "noisy")
    assert done.exit_code == 2
    assert "noise-off" in done.stderr


def a_result(arm: str, gain: Gain, epsilon: float | None = None) -> SimulationResult:
    row = {
        **{"arm": arm, "study": "simulated-s", "digest": "00", "own": "", "sites": 3},
        **{"patients": 30, "steps": 4, "parameters": 8, "epsilon": epsilon, "delta": 1e-5},
        **{"base_loss": 0.2, "adapter": "a.safetensors", "seconds": 2.0},
        **{"gain": gain.mean, "low": gain.low, "high": gain.high, "held_out": gain.patients},
    }
    return result_of(row)


def test_a_result_says_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    off = a_result("noise-off", Gain(0.04, 0.03, 0.05, 9))
    pooled = a_result("pooled", Gain(0.03, 0.01, 0.05, 9), 4.5)
    show(pooled, [off, pooled], as_json=False)
    said = capsys.readouterr().out
    assert "It learned: 3.00% of the base's held-out loss is gone." in said
    assert "Recovered of noise-off: 75%" in said
    assert "4.50" in said and "no promise" in said
    show(a_result("pooled", Gain(0.0, -0.1, 0.1, 9), 4.5), [off], as_json=False)
    assert "Nothing is shown" in capsys.readouterr().out
    show(a_result("alone", Gain(-0.2, -0.3, -0.1, 9)), [off], as_json=False)
    assert "It did harm" in capsys.readouterr().out


def test_a_result_survives_its_file() -> None:
    result = a_result("pooled", Gain(0.03, 0.01, 0.05, 9), 4.5)
    assert result_of(json.loads(json.dumps(result.row()))) == result


@pytest.mark.slow
def test_a_process_that_is_killed_by_the_kernel_goes_on(
    study: Path, tmp_path: Path, tinier_base: Path
) -> None:
    study.write_text(study.read_text().replace("rounds = 1 ", "rounds = 4 "))
    folder = tmp_path / "s"
    command = [sys.executable, "-m", "craftsfl", "simulate", study, "--dir", folder, "--json"]
    command += ["--base", tinier_base, "--patients", "2", "--held-out", "3"]
    first = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while not (folder / "pooled/kept.tar").exists():
        assert first.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    before = (folder / "pooled/kept.tar").stat().st_mtime_ns
    second = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    found = json.loads(second.stdout)
    assert found["steps"] == 4
    assert (folder / "pooled/kept.tar").stat().st_mtime_ns > before
    third = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert json.loads(third.stdout) == found


@pytest.mark.slow
def test_a_finished_arm_is_logged_to_mlflow(
    study: Path, tmp_path: Path, tinier_base: Path, empty_mlflow: bytes
) -> None:
    from mlflow import MlflowClient

    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_mlflow)
    uri = f"sqlite:///{database}"
    options = ["--base", tinier_base, "--patients", 1, "--held-out", 3, "--dir", tmp_path / "s"]
    for arm in ("pooled", "noise-off"):
        done = run(study, *options, "--mlflow", uri, "--arm", arm)
        assert done.exit_code == 0, done.output
        assert "Not logged" not in done.stderr
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("simulated-colon-2026-pooled")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    arms = {run.data.tags["craftsfl.simulated_arm"] for run in runs}
    assert arms == {"pooled", "noise-off"}
    assert all({"gain", "gain_low", "gain_high"} <= run.data.metrics.keys() for run in runs)
    assert not client.search_registered_models()  # nothing simulated is a version of a model
    away = run(study, *options, "--mlflow", "sqlite:////nowhere/mlflow.db", "--arm", "central")
    assert away.exit_code == 0, away.output
    assert "Not logged" in away.stderr
