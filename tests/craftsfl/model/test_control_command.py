"""`craftsfl model control-fidelity` and `pretrain-control`: options, errors, what they write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from craftsfl.cli import app
from craftsfl.model.control import TrialModels, TrialRequest, control_trial, write_trial
from model.adapters import layout_of, save_adapter
from model.lab.control.drawn import draw_pairs
from model.lab.control.trial import TrialSettings
from privacy.errors import ConfigError, DeploymentError, ModelError
from privacy.study.manifest import Adapter

WEIGHTS = Path(__file__).parents[3] / "weights"
needs_control = pytest.mark.skipif(
    not (WEIGHTS / "tiny-control").is_dir(), reason="weights/tiny-control is not here"
)
QUICK = TrialSettings(steps=2)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A folder of three drawn tiles and their masks."""
    folder = tmp_path / "public"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, pair in enumerate(draw_pairs(4, 3, free_share=0.0)):
        Image.fromarray(pair.image).save(folder / "images" / f"{number}.png")
        labels = pair.mask.instances.astype(np.uint16)
        Image.fromarray(labels).save(folder / "masks" / f"{number}.png")
    return folder


@needs_control
def test_a_trial_of_a_folder_is_written(public: Path, tmp_path: Path) -> None:
    done = control_trial(TrialRequest("mask", public, "stroma", setting=QUICK), TrialModels())
    assert done.fidelity.images == 3 and "ceiling" in done.fidelity.estimates
    write_trial(done, tmp_path / "p.png", tmp_path / "f.json")
    assert Image.open(tmp_path / "p.png").width > 0
    assert {row["measure"] for row in json.loads((tmp_path / "f.json").read_text())} >= {"dice"}
    with pytest.raises(ConfigError, match=r"not a PNG"):
        write_trial(done, tmp_path / "p.jpg", None)
    with pytest.raises(DeploymentError, match="cannot be written"):
        write_trial(done, tmp_path / "absent" / "p.png", None)


@needs_control
def test_an_adapter_goes_on_the_base(public: Path, tmp_path: Path) -> None:
    adapter = Adapter(rank=2, alpha=2.0, targets=("attn2.to_v", "attn2.to_out.0"))
    layout = layout_of(WEIGHTS / "tiny", adapter)
    vector = np.random.default_rng(1).normal(0, 0.7, layout.parameters).astype(np.float32)
    save_adapter(tmp_path / "a.safetensors", layout, vector, adapter)
    question = TrialRequest("mask", public, "stroma", setting=QUICK)
    plain = control_trial(question, TrialModels())
    adapted = control_trial(question, TrialModels(adapter=tmp_path / "a.safetensors"))
    assert np.abs(adapted.images.astype(int) - plain.images).max() > 4
    (tmp_path / "b.safetensors").write_bytes(b"no adapter")
    with pytest.raises(ModelError, match="not an adapter"):
        control_trial(question, TrialModels(adapter=tmp_path / "b.safetensors"))


@needs_control
def test_the_command_line_says_what_is_wrong(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["model", "control-fidelity", "--data", str(tmp_path)])
    assert run.exit_code != 0 and "holds no images" in str(run.exception) + run.output


def test_pretraining_refuses_a_folder_without_masks(public: Path, tmp_path: Path) -> None:
    (public / "masks" / "1.png").unlink()
    arguments = ["model", "pretrain-control", str(tmp_path / "out"), "--smoke"]
    run = CliRunner().invoke(app, [*arguments, "--data", str(public)])
    assert run.exit_code != 0 and "1.png has no mask" in str(run.exception) + run.output
