"""`craftsfl model phrases`: the table that a person reads before anybody trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from PIL import Image
from typer.testing import CliRunner

from craftsfl.cli import app
from craftsfl.model.phrases import captions_asked, references_of
from model.encoders import load_image_text_encoder
from model.encoders.files import shipped_encoder
from privacy.config import check
from privacy.errors import ConfigError
from privacy.study.manifest import Study, load_study

pytestmark = pytest.mark.skipif(shipped_encoder("tiny") is None, reason="no tiny encoder here")

PHRASES = [
    "colon adenocarcinoma, colon: pale pools of mucin.",
    "sarcoma, soft tissue: fascicles of spindle cells.",
]


@pytest.fixture
def study(study_values: dict[str, Any], tmp_path: Path) -> Path:
    encoder = load_image_text_encoder("tiny")
    study_values["training"]["loss"] = "stage-two"
    study_values["stage_two"] = {
        "effects": {
            "weight": 0.5,
            "margin": 0.5,
            "encoder": {"source": "tiny", "digest": encoder.digest},
            "phrases": PHRASES,
            "nearest": 1,
        }
    }
    return written(study_values, tmp_path)


def written(values: dict[str, Any], folder: Path) -> Path:
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(values), "utf-8")
    return path


def run(*options: object) -> str:
    arguments = ["model", "phrases", *map(str, options)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    return done.output


def test_each_caption_stands_beside_its_phrase(study: Path) -> None:
    output = run(study, "--caption", "chordoma, sacrum; PAS reaction.", "--caption", "[red]fat[/]")
    assert "chordoma, sacrum; PAS reaction." in output
    assert "pale pools of mucin" in output
    assert "[red]fat[/]" in output  # shown as it is
    assert "2 captions, of which" in output


def test_without_captions_the_studys_prompts_are_shown(study: Path) -> None:
    assert "glands" in run(study)


def test_the_captions_of_a_folder_each_once(study_values: dict[str, Any], tmp_path: Path) -> None:
    rows = ["file_name,text,patient_id"]
    for index, text in enumerate(["fat", "mucin", "fat"]):
        Image.effect_noise((64, 64), 40 + index).convert("RGB").save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,{text},p{index}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    study = check(study_values, Study, where="test")
    assert captions_asked(study, ["keratin"], tmp_path) == ["fat", "keratin", "mucin"]


def test_a_caption_that_is_like_no_phrase_has_none(study: Path) -> None:
    terms = load_study(study).stage_two
    assert terms is not None
    assert terms.effects is not None
    strict = terms.effects.model_copy(update={"least": 0.99})
    captions = ["chordoma, sacrum.", PHRASES[1]]
    found = references_of(strict, load_image_text_encoder("tiny"), captions)
    assert [item.caption for item in found] == captions
    assert found[0].phrases == ()


def test_a_study_without_the_term_is_told(study_values: dict[str, Any], tmp_path: Path) -> None:
    path = written(study_values, tmp_path)
    with pytest.raises(ConfigError, match=r"no \[stage_two.effects\]"):
        CliRunner().invoke(app, ["model", "phrases", str(path)], catch_exceptions=False)
