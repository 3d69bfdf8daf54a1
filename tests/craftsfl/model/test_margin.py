"""`craftsfl model margin`: prints a table that a study can hold."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from craftsfl.cli import app
from craftsfl.model.margin import MarginRequest, read_public
from model.encoders.files import shipped_encoder
from privacy.config import check
from privacy.errors import ModelError
from privacy.study.stage_two import StageTwo

pytestmark = pytest.mark.skipif(shipped_encoder("tiny") is None, reason="no tiny encoder here")


def run(*options: str) -> str:
    done = CliRunner().invoke(app, ["model", "margin", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten public pictures with captions."""
    rows = ["file_name,text"]
    for index in range(10):
        Image.effect_noise((80, 80), 40 + index).convert("RGB").save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,glands")
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_the_tables_can_be_pasted_into_a_study() -> None:
    output = run("--block", "up_blocks.0", "--images", "8")
    assert "8 public images" in output
    tables = tomllib.loads(output[output.index("[stage_two.structure]") :])
    terms = check(tables["stage_two"], StageTwo, where="printed")
    assert terms.structure is not None
    assert terms.structure.block == "up_blocks.0"


def test_public_pictures_of_a_folder_serve_as_well(folder: Path) -> None:
    request = MarginRequest(None, "tiny", "up_blocks.0", folder, images=8, seed=3)
    public = read_public(folder, request, 64)
    assert public.images.shape == (8, 64, 64, 3)
    assert list(public.captions) == ["glands"] * 8


def test_drawn_tissue_is_for_the_embedded_base_only(tiny_base: Path) -> None:
    with pytest.raises(ModelError, match="Drawn tissue says nothing"):
        run("--block", "up_blocks.0", "--base", str(tiny_base))


def test_a_broken_picture_is_named(folder: Path) -> None:
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(ModelError, match=r"3\.png cannot be used"):
        run("--block", "up_blocks.0", "--images", "10", "--folder", str(folder))
