"""`craftsfl model atlas` as it is typed: it goes on, and refuses before it draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from typer.testing import CliRunner, Result

from craftsfl.cli import app
from craftsfl.model.atlas.make import AtlasRequest, make_atlas
from craftsfl.model.drawing import DrawingModels
from model.adapters import layout_of, save_adapter
from model.digest import folder_digest
from model.encoders import load_image_text_encoder
from model.origin import Origin
from model.sampling import SamplerSettings
from privacy.errors import CraftsflError
from privacy.study.manifest import Adapter


def typed(out: Path, *words: object) -> Result:
    return CliRunner().invoke(app, ["model", "atlas", str(out), *map(str, words)])


def refused(result: Result) -> CraftsflError:
    assert isinstance(result.exception, CraftsflError), result.output
    return result.exception


@pytest.fixture
def adapter(tmp_path: Path, tiny_base: Path) -> Path:
    lora = Adapter(targets=("attn2.to_q",), rank=1, alpha=2.0)
    layout = layout_of(tiny_base, lora)
    vector = np.random.default_rng(1).normal(size=layout.parameters).astype(np.float32)
    origin = Origin(folder_digest(tiny_base), "a-study", "2" * 64, "7", 12, 7.93, 1e-5)
    save_adapter(tmp_path / "a.safetensors", layout, vector, lora, origin)
    judge = load_image_text_encoder("tiny-evaluator").digest
    towards = replace(origin, encoders=(judge,))
    save_adapter(tmp_path / "towards.safetensors", layout, vector, lora, towards)
    return tmp_path / "a.safetensors"


def test_it_goes_on_where_it_was_interrupted(
    tmp_path: Path, tiny_base: Path, adapter: Path
) -> None:
    out = tmp_path / "atlas"
    models = DrawingModels(str(tiny_base), str(adapter))
    settings = SamplerSettings(1, 1.0, 16, batch=32)
    request = AtlasRequest(out, models, settings, words="tissue", each=1)

    def stop(stage: str, done: int, every: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_atlas(request, stop)
    kept = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    assert len(kept) >= 20
    assert not (out / "index.html").exists()
    quick = ("--base", tiny_base, "--adapter", adapter, "--words", "tissue", "--each", 1)
    quick += ("--steps", 1, "--guidance", 1, "--size", 16)
    done = typed(out, *quick, "--json")
    assert done.exit_code == 0, done.output
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    found = json.loads(done.stdout)
    assert found == json.loads((out / "atlas.json").read_text())
    assert len(found["types"]) == 33 and found["judge"]["name"] == "tiny-evaluator"
    files = [p["file"] for t in found["types"] for f in t["phrases"] for p in f["pictures"]]
    assert sorted(files) == sorted(f"images/{p.name}" for p in (out / "images").iterdir())
    assert all((out / file).exists() for file in files)
    page = (out / "index.html").read_text("utf-8")
    assert "7.93" in page and folder_digest(tiny_base) in page and "was not checked" in page
    assert all(f'src="{file}"' in page for file in files)
    assert "another order" in refused(typed(out, *quick, "--seed", 9)).message


def test_an_encoder_that_the_adapter_was_trained_towards_does_not_judge_it(
    tmp_path: Path, tiny_base: Path, adapter: Path
) -> None:
    out, towards = tmp_path / "atlas", adapter.with_name("towards.safetensors")
    options = ("--base", tiny_base, "--words", "tissue", "--adapter", towards)
    assert "took part in this adapter's training" in refused(typed(out, *options)).message
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--words", "clinical"), "cannot judge clinical phrases"),
        (("--words", "clinical", "--judge", "tiny-evaluator"), "cannot judge clinical phrases"),
        (("--judge", "/nowhere"), "/nowhere"),
        (("--study", "absent.toml"), "absent.toml"),
    ],
)
def test_what_cannot_be_judged_is_not_drawn(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    error = refused(typed(tmp_path / "atlas", *options))
    assert words in f"{error.message} {error.hint}"
    assert not (tmp_path / "atlas").exists()


def test_a_study_is_that_of_the_adapter_or_refused(
    tmp_path: Path, tiny_base: Path, adapter: Path, study_values: dict[str, Any]
) -> None:
    study = tmp_path / "study.toml"
    study.write_text(tomli_w.dumps(study_values))
    out = tmp_path / "atlas"
    options = ("--base", tiny_base, "--words", "tissue", "--study", study)
    assert "without its adapter" in refused(typed(out, *options)).message
    other = refused(typed(out, *options, "--adapter", adapter))
    assert "not trained by the study" in other.message
    assert not out.exists()
