"""A base that cannot work is refused when it is installed, by name and with the cure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from model.base import load_base
from model.cache import base_cache, install_base, shipped_base
from model.digest import folder_digest
from model.fitness import check_base
from model.fitness.parts import _SCHEDULERS
from privacy.errors import ModelError
from tests.tiny import build_tiny_base

UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
INDEX, SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 3\n"

Change = Callable[[Path], object]


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def _set(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def _all(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def _sdxl(folder: Path) -> None:
    _set(
        INDEX,
        _class_name="StableDiffusionXLPipeline",
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        tokenizer_2=["transformers", "CLIPTokenizer"],
    )(folder)
    shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")


def _on_weights(part: str, change: Callable[[Path], object]) -> Change:
    return lambda folder: change(folder / part / WEIGHTS[part])


def _rename(end: str) -> Callable[[Path], object]:
    return lambda path: path.rename(path.with_name(path.name.replace(".safetensors", end)))


def _cut(keep: float) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])

    return change


def _without_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, path, {"format": "pt"})


def _quantised(path: Path) -> None:
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.endswith(".weight"))
    save_file(tensors | {name: tensors[name].astype(np.uint8)}, path, {"format": "pt"})


def _lost_shard(path: Path) -> None:
    index = {"weight_map": {"conv_in.weight": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    path.with_name(path.name + ".index.json").write_text(json.dumps(index))
    path.unlink()


BAD: dict[str, tuple[Change, str]] = {
    "sdxl": (_sdxl, r"it is SDXL \(StableDiffusionXLPipeline\); .*part text_encoder_2"),
    "sdxl's unet": (_set(UNET, addition_embed_type="text_time"), "text_time.*SDXL"),
    "class labels": (_set(UNET, num_class_embeds=7), r"class labels \(num_class_embeds 7\)"),
    "projected": (_set(UNET, encoder_hid_dim_type="image_proj"), "image_proj"),
    "inpainting": (_set(UNET, in_channels=9), "9 input channels: it is an inpainting"),
    "edits": (_set(UNET, in_channels=8), "InstructPix2Pix"),
    "learned sigma": (_set(UNET, out_channels=8), "returns 8 channels"),
    "wide latents": (_set(VAE, latent_channels=16), "latents have 16"),
    "no size": (_set(UNET, sample_size=None), "sample_size is None"),
    "another width": (_set(TEXT, hidden_size=48), "32 wide, its text encoder's are 48"),
    "flow": (
        _all(
            _set(INDEX, scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"]),
            _set(SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"),
        ),
        r"flow matching \(FlowMatchEulerDiscreteScheduler\)",
    ),
    "flow sigmas": (_set(SCHEDULER, use_flow_sigmas=True), "flow matching"),
    "edm": (_set(INDEX, scheduler=["diffusers", "EDMEulerScheduler"]), "EDMEulerScheduler has no"),
    "no scheduler": (_set(INDEX, scheduler=[None, None]), "no scheduler"),
    "sample": (_set(SCHEDULER, prediction_type="sample"), "predicts 'sample'"),
    "flow prediction": (_set(SCHEDULER, prediction_type="flow_prediction"), "flow_prediction"),
    "odd prediction": (_set(SCHEDULER, prediction_type=["epsilon"]), "predicts"),
    "transformer": (
        _set(INDEX, unet=[None, None], transformer=["diffusers", "SD3Transformer2DModel"]),
        "has no unet",
    ),
    "another unet": (_set(INDEX, unet=["diffusers", "UNet3DConditionModel"]), "UNet3DCondition"),
    "another text encoder": (_set(INDEX, text_encoder=["transformers", "T5Model"]), "T5Model"),
    "another vae": (_set(INDEX, vae=["diffusers", "VQModel"]), "VQModel"),
    "the unet is a vae": (_set(UNET, _class_name="AutoencoderKL"), "is of a AutoencoderKL"),
    "a further part": (_set(INDEX, controlnet=["diffusers", "ControlNetModel"]), "part controlnet"),
    "missing part": (lambda folder: shutil.rmtree(folder / "vae"), "vae/config.json is missing"),
    "no tokenizer": (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer has no"),
    "pointer for text": (
        lambda folder: [path.write_bytes(LFS) for path in (folder / "tokenizer").glob("*.json")],
        "git-lfs pointer",
    ),
    "pointer for settings": (lambda folder: (folder / UNET).write_bytes(LFS), "is damaged"),
    "no index": (lambda folder: (folder / INDEX).unlink(), "model_index.json is missing"),
    "a list": (lambda folder: (folder / VAE).write_text("[]"), "vae/config.json is damaged"),
    "deep": (lambda folder: (folder / VAE).write_text("[" * 100_000), "damaged .nested too"),
    "long captions": (
        _set("tokenizer/tokenizer_config.json", model_max_length=77),
        "captions are 77 tokens long, its text encoder reads 16",
    ),
    "endless captions": (
        _set("tokenizer/tokenizer_config.json", model_max_length=10**30),
        r"captions are 1e\+30 tokens long",
    ),
    "fewer tokens": (_set(TEXT, vocab_size=100), "190 tokens, its text encoder 100"),
    "cut tokens": (
        lambda folder: (folder / "tokenizer" / "tokenizer.json").write_text('{"model": {'),
        "tokenizer/tokenizer.json is damaged",
    ),
    "no class": (_set(UNET, _class_name=[]), r"is of a \[\]"),
    "no scheduler's class": (_set(SCHEDULER, _class_name={}), "no variance-preserving"),
    "no numbers": (_set(UNET, block_out_channels="wide"), "describes no model"),
    "no norm": (_set(UNET, norm_num_groups=0), "describes no model"),
    "no block": (_set(VAE, down_block_types=None), "describes no model"),
    "no heads": (_set(TEXT, num_attention_heads="two"), "describes no model"),
    "no model": (_set(UNET, down_block_types=["NoSuchBlock2D"] * 2), "describes no model"),
    "another model": (_set(UNET, layers_per_block=2), r"unet lacks \d+ of its tensors"),
    "other shapes": (_set(TEXT, intermediate_size=96), "text_encoder has .* another shape"),
    "no shard": (_on_weights("unet", _lost_shard), "00001-of-00002.safetensors are missing"),
    "quantised": (_on_weights("unet", _quantised), "U8 numbers: quantised"),
}
FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "none": (Path.unlink, "has no weights"),
    "bin": (_rename(".bin"), r"\.bin alone \(a pickle"),
    "pt": (_rename(".pt"), r"\.pt alone \(a pickle"),
    "fp16": (_rename(".fp16.safetensors"), r"\.fp16\.safetensors alone \(a variant\)"),
    "msgpack": (_rename(".msgpack"), "another framework"),
    "pointer": (lambda path: path.write_bytes(LFS), "is a git-lfs pointer"),
    "empty": (lambda path: path.write_bytes(b""), "not a safetensors file"),
    "page": (lambda path: path.write_text("<!DOCTYPE html>"), "not a safetensors file"),
    "cut": (_cut(0.6), "is cut short"),
    "cut by a byte": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is cut short"),
    "cut header": (lambda path: path.write_bytes(path.read_bytes()[:99]), "is cut short"),
    "appended": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "holds more"),
    "damaged": (lambda path: path.write_bytes(b"\x08" + b"\0" * 63), "damaged header"),
    "lacking": (_without_a_tensor, "lacks 1 of its tensors"),
}
BAD |= {
    f"{part}: {name}": (_on_weights(part, change), f"{part}.*{says}")
    for name, (change, says) in FILES.items()
    for part in WEIGHTS
}


@pytest.mark.parametrize(("change", "says"), BAD.values(), ids=BAD)
def test_a_base_that_cannot_work_is_not_installed(copy: Path, change: Change, says: str) -> None:
    change(copy)
    with pytest.raises(ModelError, match=says) as caught:
        install_base(copy)
    assert str(copy) in caught.value.message
    assert caught.value.hint
    assert not base_cache().exists()


def test_what_a_hospital_named_by_folder_is_checked_too(copy: Path) -> None:
    _set(UNET, addition_embed_type="text_time")(copy)
    with pytest.raises(ModelError, match="SDXL"):
        load_base(copy)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon"])
def test_what_can_work_is_installed(tmp_path: Path, kind: str) -> None:
    base = build_tiny_base(tmp_path / "base", prediction_type=kind)
    assert install_base(base) == folder_digest(base)


def test_duplicates_beside_whole_weights_do_no_harm(copy: Path) -> None:
    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"):
        (copy / "unet" / name).write_bytes(b"anything")
    check_base(copy)


def test_shards_and_half_precision_can_work(tiny_base: Path, tmp_path: Path) -> None:
    pipeline = load_base(tiny_base, dtype=torch.float16)
    pipeline.save_pretrained(tmp_path / "half", max_shard_size="200KB")
    assert list((tmp_path / "half" / "unet").glob("*.index.json"))
    check_base(tmp_path / "half")
    load_base(tmp_path / "half")


def test_an_autoencoder_of_2022_can_work(copy: Path) -> None:
    """Stable Diffusion 1.5's own has the names that diffusers had then."""
    path = copy / "vae" / WEIGHTS["vae"]
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, value in load_file(path).items():
        for new, then in names.items():
            name = name.replace(f".{new}.", f".{then}.")
        old[name] = value
    assert any(".proj_attn." in name for name in old)
    save_file(old, path, {"format": "pt"})
    check_base(copy)
    assert torch.isfinite(next(load_base(copy).vae.parameters())).all()


@pytest.mark.parametrize("name", sorted(_SCHEDULERS))
def test_the_schedulers_that_are_taken_have_a_schedule(name: str) -> None:
    kind = getattr(diffusers, name)
    try:
        scheduler = kind()
    except ImportError:
        pytest.skip("it needs a library that is not here")
    assert scheduler.alphas_cumprod.shape == (scheduler.config.num_train_timesteps,)


def test_the_shipped_base_can_work() -> None:
    shipped = shipped_base()
    if shipped is None:
        pytest.skip("no weights/tiny in this checkout")
    check_base(shipped)
