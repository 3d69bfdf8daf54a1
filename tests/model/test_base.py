"""Base pipelines: digests, the cache, where a base is found, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from typer.testing import CliRunner

from craftsfl.cli import app
from model.base import image_size, load_base, save_base
from model.cache import base_cache, find_base, install_base, shipped_base
from model.digest import folder_digest, pipeline_files
from privacy.errors import ModelError
from privacy.study.manifest import Base
from tests.users import AGENT, attempt, needs_users


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def test_the_digest_depends_on_content_and_not_on_the_place(tiny_base: Path, copy: Path) -> None:
    assert folder_digest(copy) == folder_digest(tiny_base)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    assert folder_digest(copy) != folder_digest(tiny_base)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "judges/judge.safetensors",
        ".git/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
    ],
)
def test_what_is_never_loaded_does_not_count(tiny_base: Path, copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(b"anything")
    assert folder_digest(copy) == folder_digest(tiny_base)


@pytest.mark.parametrize("name", ["unet/config.json", "tokenizer/tokenizer.json"])
def test_every_loaded_file_counts(tiny_base: Path, copy: Path, name: str) -> None:
    assert name in pipeline_files(copy)
    (copy / name).write_text((copy / name).read_text() + " ")
    assert folder_digest(copy) != folder_digest(tiny_base)


def test_a_renamed_file_is_another_pipeline(tiny_base: Path, copy: Path) -> None:
    (copy / "unet" / "config.json").rename(copy / "unet" / "other.json")
    assert folder_digest(copy) != folder_digest(tiny_base)


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model_index\.json"):
        folder_digest(tmp_path)


def test_a_missing_part_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "vae")
    with pytest.raises(ModelError, match="vae is missing"):
        folder_digest(copy)


@pytest.mark.parametrize("part", [["own_code", "Unet"], ["../../evil", "Unet"]])
def test_a_part_with_code_of_its_own_is_refused(copy: Path, part: list[str]) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"unet": part}))
    with pytest.raises(ModelError, match="wants code"):
        load_base(copy)


def test_an_installed_base_is_found_by_its_digest_alone(tiny_base: Path) -> None:
    digest = install_base(tiny_base)
    assert install_base(tiny_base) == digest
    found = find_base(Base(digest=digest, source="nowhere/to-be-found"))
    assert found.parent == base_cache()
    assert folder_digest(found) == digest
    assert [path.name for path in base_cache().iterdir()] == [found.name]


def test_an_altered_cache_is_refused_and_says_what_to_do(tiny_base: Path) -> None:
    digest = install_base(tiny_base)
    base = Base(digest=digest, source="tiny")
    (find_base(base) / "unet" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="delete that folder"):
        find_base(base)
    assert install_base(tiny_base) == digest  # repairs it
    assert find_base(base).is_dir()


def test_a_relative_source_starts_from_the_study(tiny_base: Path) -> None:
    base = Base(digest=folder_digest(tiny_base), source=tiny_base.name)
    assert find_base(base, root=tiny_base.parent) == tiny_base


def test_a_wrong_digest_is_refused_with_both_digests(tiny_base: Path) -> None:
    pinned = "sha256:" + "0" * 64
    with pytest.raises(ModelError) as caught:
        find_base(Base(digest=pinned, source=str(tiny_base)))
    assert pinned in caught.value.message
    assert folder_digest(tiny_base) in caught.value.message
    assert "study.toml" in caught.value.hint


@pytest.mark.parametrize(
    "source, command",
    [
        ("somebody/some-model", "craftsfl model install somebody/some-model"),
        ("no/such/folder/at-all", "craftsfl model install no/such/folder/at-all"),
        ("x; rm -rf ~", "craftsfl model install 'x; rm -rf ~'"),
        ("a\x1b[2Jb\u202ec", "craftsfl model install 'a{U+001B}[2Jb{U+202E}c'"),
    ],
)
def test_a_base_that_a_study_names_is_never_asked_of_a_hub(
    source: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    with pytest.raises(ModelError, match="is not on this machine") as caught:
        find_base(Base(digest="sha256:" + "0" * 64, source=source))
    assert caught.value.hint.endswith(f": {command}")
    assert str(caught.value).isprintable()


@needs_users
def test_a_cache_of_another_user_is_told_in_words(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    base = Base(digest="sha256:" + "0" * 64, source="tiny")
    refused = attempt(AGENT, lambda: find_base(base))
    assert isinstance(refused, ModelError)
    assert "no access to the model cache" in refused.message


def test_a_person_installs_what_the_hub_has(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tiny_base))
    shown = CliRunner().invoke(app, ["model", "install", "somebody/some-model"])
    assert shown.output.strip() == folder_digest(tiny_base)
    assert find_base(Base(digest=shown.output.strip(), source="somebody/some-model")).is_dir()


def test_a_full_disk_is_a_clear_error(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", no_space)
    with pytest.raises(ModelError, match="No space left"):
        install_base(tiny_base)
    assert list(base_cache().iterdir()) == []


def test_a_loaded_base_is_frozen_and_knows_its_size(tiny_base: Path) -> None:
    pipeline = load_base(tiny_base, "cpu", torch.float32)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert not part.training
        assert not any(value.requires_grad for value in part.parameters())
        assert next(part.parameters()).dtype == torch.float32
    assert image_size(pipeline) == 64


def test_broken_weights_are_a_model_error(copy: Path) -> None:
    (copy / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"')
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(copy)
    (copy / "unet" / "config.json").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(copy)


def test_damaged_safetensors_are_a_model_error(copy: Path) -> None:
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(copy)


def test_the_shipped_base_is_a_pipeline_where_it_is_there() -> None:
    shipped = shipped_base()
    if shipped is None:
        pytest.skip("no weights/tiny in this checkout")
    assert find_base(Base(digest=folder_digest(shipped), source="tiny")) == shipped


@pytest.mark.parametrize("half", [True, False])
def test_a_base_draws_for_anybody_without_a_dtype(
    tiny_base: Path, tmp_path: Path, half: bool
) -> None:
    """`StableDiffusionPipeline.from_pretrained(FOLDER)` alone, of any precision."""
    save_base(load_base(tiny_base, dtype=torch.float16 if half else torch.float32), tmp_path / "x")
    _draw_plainly(tmp_path / "x")


def test_the_shipped_base_draws_for_anybody_without_a_dtype() -> None:
    shipped = shipped_base()
    if shipped is None:
        pytest.skip("no weights/tiny in this checkout")
    _draw_plainly(shipped)


def _draw_plainly(folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {part.dtype for part in parts} == {torch.float32}
    assert pipeline("glands", num_inference_steps=1).images[0].size == (64, 64)


def test_half_precision_weights_load_in_full_precision(tiny_base: Path, tmp_path: Path) -> None:
    load_base(tiny_base, dtype=torch.float16).save_pretrained(tmp_path / "half")
    pipeline = load_base(tmp_path / "half")
    assert {value.dtype for value in pipeline.unet.parameters()} == {torch.float32}
    assert pipeline.text_encoder.dtype == pipeline.vae.dtype == torch.float32
