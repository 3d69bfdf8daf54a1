"""`craftsfl model pretrain --base`: the command, and two processes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from craftsfl.cli import app
from model.digest import folder_digest
from model.lab.stage_one.run import Data, train_base
from privacy.errors import ConfigError
from tests.model.lab.stage_one.pictures import write_folder
from tests.model.lab.stage_one.settings import SETTINGS, changed, unet


def test_the_command_warns_trains_and_prints_the_digest(tiny_base: Path, tmp_path: Path) -> None:
    folder, out = write_folder(tmp_path / "data", 4), tmp_path / "out"
    config = tmp_path / "stage-one.toml"
    config.write_text('workers = 0\nseed = 3\nweights = "float32"\n')
    arguments = ["--base", tiny_base, "--data", folder, "--config", config, "--smoke"]
    done = CliRunner().invoke(app, ["model", "pretrain", str(out), *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "STAGE ONE IS NOT PRIVATE" in done.stderr
    assert f'digest = "{folder_digest(out)}"' in done.stdout
    assert "seed = 3" in (out / "README.md").read_text()


def test_data_without_a_base_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["model", "pretrain", str(tmp_path / "o"), "--data", "x"])
    assert isinstance(done.exception, ConfigError) and "--base" in done.exception.hint


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tiny_base: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 5)
    settings = changed(steps=1, micro_batch=1)
    train_base(tiny_base, Data([str(data)]), tmp_path / "one", settings)
    config = tmp_path / "stage-one.toml"
    lines = [f"{key} = {value!r}" for key, value in settings.model_dump().items()]
    text = "\n".join(lines).replace("True", "true").replace("False", "false")
    config.write_text(text.replace("'", '"'))
    launch = "-m torch.distributed.run --standalone --nproc-per-node 2 --no-python"
    command = [str(Path(sys.executable).parent / "craftsfl"), "model", "pretrain"]
    options = [tmp_path / "two", "--base", tiny_base, "--data", data, "--config", config]
    done = subprocess.run(
        [sys.executable, *launch.split(), *command, *map(str, options)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("NOT PRIVATE") == 1 and done.stdout.count("digest =") == 1
    ours, theirs = unet(tmp_path / "one"), unet(tmp_path / "two")
    apart = torch.cat([(ours[n] - theirs[n]).abs().flatten() for n in ours])
    assert (apart > 1e-6).float().mean() < 0.01  # rounding may turn AdamW's first step over
    assert "| precision, processes | no, 2 |" in (tmp_path / "two" / "README.md").read_text()
    assert SETTINGS.batch == 2
