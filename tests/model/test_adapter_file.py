"""An adapter's file holds the adapter and nothing else: whatever rides along is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from model.adapter_file import load_adapter, save_adapter
from model.adapters import layout_of, read_vector
from model.base import load_base
from model.generation.adapter import put_adapter
from model.layout import Layout, LayoutEntry
from model.origin import Origin
from privacy.errors import ModelError
from privacy.study.manifest import Adapter

CASES = Path(__file__).parents[3] / "shared" / "cases" / "adapters"
LORA = Adapter(targets=("attn2.to_q", "attn2.to_v"), rank=2, alpha=7.0)
FROZEN_A = LORA.model_copy(update={"frozen_a": True})
ORIGIN = Origin("sha256:" + "1" * 64, "study", "2" * 64, "77", 12, 7.93, 1e-5)

Tensors = dict[str, np.ndarray]
Header = dict[str, str]
Change = Callable[[Tensors, Header], object]


@pytest.fixture(scope="module")
def layout(tiny_base: Path) -> Layout:
    return layout_of(tiny_base, LORA)


@pytest.fixture
def good(layout: Layout, tmp_path: Path) -> Path:
    path = tmp_path / "adapter.safetensors"
    vector = np.random.default_rng(1).normal(size=layout.parameters).astype(np.float32)
    save_adapter(path, layout, vector, LORA, ORIGIN)
    return path


def changed(path: Path, change: Change) -> Path:
    """The file with other tensors or another header: as an attacker would write it."""
    tensors, header = load_file(path), _header(path)
    change(tensors, header)
    save_file(tensors, path, header)
    return path


def _header(path: Path) -> Header:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])


def _first(tensors: Tensors, factor: str) -> str:
    return next(name for name in sorted(tensors) if name.endswith(f"lora_{factor}.weight"))


def _add(name: str, shape: tuple[int, ...] = (2, 32), order: str | None = None) -> Change:
    def change(tensors: Tensors, header: Header) -> None:
        tensors[name] = np.ones(shape, np.float32)
        if order is not None:
            header["craftsfl_layout"] = json.dumps([*json.loads(header["craftsfl_layout"]), order])

    return change


def _peft(**fields: Any) -> Change:
    """Further fields of peft's LoraConfig, or others in their place."""

    def change(_: Tensors, header: Header) -> None:
        config = json.loads(header["lora_adapter_metadata"])
        config |= {f"unet.{name}": value for name, value in fields.items()}
        header["lora_adapter_metadata"] = json.dumps(config, sort_keys=True)

    return change


def _metadata(**fields: str) -> Change:
    return lambda _, header: header.update(fields)


def _cast(kind: type[np.generic]) -> Change:
    def change(tensors: Tensors, _: Header) -> None:
        name = _first(tensors, "B")
        tensors[name] = tensors[name].astype(kind)

    return change


def _reshape(tensors: Tensors, _: Header) -> None:
    """A rank pattern without a word in the metadata: one module has a rank of its own."""
    for factor, axis in (("A", 0), ("B", 1)):
        name = _first(tensors, factor)
        tensors[name] = np.repeat(tensors[name], 2, axis=axis)


def _drop(tensors: Tensors, _: Header) -> None:
    del tensors[_first(tensors, "B")]


def _twice(_: Tensors, header: Header) -> None:
    names = json.loads(header["craftsfl_layout"])
    header["craftsfl_layout"] = json.dumps([*names, names[0]])


def _two_meanings(_: Tensors, header: Header) -> None:
    config = header["lora_adapter_metadata"]
    header["lora_adapter_metadata"] = config[:-1] + ', "unet.r": 64}'


ATTN1 = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_add(f"unet.{ATTN1}.lora_A.weight"), "beyond its layout: unet.*attn1.to_q.lora_A"),
        (_add(f"unet.{ATTN1}.lora_A.weight", order=f"{ATTN1}.lora_A.weight"), "of a target"),
        (_add("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"), "text_"),
        (_add("text_encoder_2.x.lora_A.weight"), "beyond its layout"),
        (
            _add("unet.x.attn2.to_q.lora_magnitude_vector", (8,)),
            "lora_magnitude_vector; with them it is a DoRA adapter",
        ),
        (_add("unet.x.attn2.to_q.lora_B.bias", (8,), "x.attn2.to_q.lora_B.bias"), "not a factor"),
        (
            _add("unet.x.attn2.to_q.lora_A.weight", order="x.attn2.to_q.lora_A.weight"),
            "not factors",
        ),
        (_add("unet.x.attn2.to_q.alpha", ()), "beyond its layout"),
        (_add("lora_unet_x_attn2_to_q.alpha", ()), "beyond its layout"),
        (_add("\x1b[2Junet.evil"), r"\\x1b\[2Junet"),
        (_peft(use_rslora=True), "unet.use_rslora, which changes"),
        (_peft(use_rslora=False), "unet.use_rslora"),
        (_peft(use_dora=True), "unet.use_dora"),
        (_peft(alpha_pattern={"attn2.to_q": 700}), "alpha_pattern"),
        (_peft(rank_pattern={"attn2.to_q": 4}), "rank_pattern"),
        (_peft(lora_bias=True, modules_to_save=["conv_in"]), "lora_bias, unet.modules_to_save"),
        (_peft(r=4), "not factors of rank 4"),
        (_peft(r=2.0), "rank"),
        (_peft(r=True), "rank"),
        (_peft(lora_alpha="7"), "alpha"),
        (_peft(lora_alpha=None), "alpha"),
        (_peft(lora_alpha=-7.0), "alpha"),
        (_peft(target_modules="all-linear"), "targets"),
        (_peft(target_modules=["attn2.to_q"]), "not a factor of a target"),
        (_metadata(lora_adapter_metadata="[]"), "lacks one of"),
        (_metadata(lora_adapter_metadata="[" * 100_000), "lacks one of"),
        (_metadata(craftsfl_layout='{"a": 1}'), "not a list of names"),
        (_metadata(craftsfl_layout="[" * 100_000), "not a list of names"),
        (_metadata(craftsfl_layout="[]"), "beyond its layout"),
        (_metadata(craftsfl_frozen="[]"), "not as craftsfl writes"),
        (_metadata(craftsfl_origin="[" * 100_000), "origin"),
        (_metadata(format="np"), "not as craftsfl writes"),
        (_metadata(text_encoder_lora="x"), "metadata beyond its own: text_encoder_lora"),
        (lambda _, header: header.pop("lora_adapter_metadata"), "lacks lora_adapter_metadata"),
        (_cast(np.float16), "is F16"),
        (_cast(np.float64), "is F64"),
        (_reshape, "not factors of rank 2"),
        (_drop, "lacks tensors"),
        (_twice, "twice"),
        (_two_meanings, "lacks one of"),
    ],
)
def test_whatever_rides_along_is_refused_by_name(good: Path, change: Change, says: str) -> None:
    load_adapter(good)
    with pytest.raises(ModelError, match=says) as caught:
        load_adapter(changed(good, change))
    assert caught.value.hint
    assert str(caught.value).isprintable()


def test_a_frozen_factor_is_neither_left_out_nor_passed_off(tiny_base: Path, good: Path) -> None:
    layout = layout_of(tiny_base, FROZEN_A)
    save_adapter(good, layout, np.ones(layout.parameters, np.float32), FROZEN_A)
    assert load_adapter(good).adapter == FROZEN_A

    def thaw(_: Tensors, header: Header) -> None:
        frozen = json.loads(header["craftsfl_frozen"])
        header["craftsfl_layout"] = json.dumps([*json.loads(header["craftsfl_layout"]), frozen[0]])
        header["craftsfl_frozen"] = json.dumps(frozen[1:])

    with pytest.raises(ModelError, match="exactly the factors A have to be frozen"):
        load_adapter(changed(good, thaw))


def test_what_was_checked_is_what_draws(
    good: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is never opened a second time, by a reader that would take what rides along."""
    pipeline = load_base(tiny_base)
    kind = type(pipeline)
    monkeypatch.setattr(kind, "load_lora_weights", lambda *_, **__: pytest.fail("diffusers reads"))
    saved = put_adapter(pipeline, good)
    np.testing.assert_array_equal(read_vector(pipeline.unet, saved.layout), saved.vector)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(good: Path, value: float) -> None:
    def spoil(tensors: Tensors, _: Header) -> None:
        tensors[_first(tensors, "B")][0, 0] = value

    with pytest.raises(ModelError, match=r"adapter\.safetensors holds .* not finite") as caught:
        load_adapter(changed(good, spoil))
    assert "Take the file as the run released it" in caught.value.hint


def test_an_origin_that_nobody_can_read_names_its_file(good: Path) -> None:
    def spoil(_: Tensors, header: Header) -> None:
        header["craftsfl_origin"] = "nonsense"

    with pytest.raises(ModelError, match=r"adapter\.safetensors: .*origin cannot be read"):
        load_adapter(changed(good, spoil))


def test_what_rides_along_would_have_changed_the_picture(good: Path, tiny_base: Path) -> None:
    """Why: diffusers takes a hidden tensor without a word."""
    module = next(
        entry.name
        for entry in load_adapter(good).layout.entries
        if "attn2.to_q.lora_A" in entry.name
    ).replace("attn2", "attn1")

    def hide(tensors: Tensors, _: Header) -> None:
        width = tensors[_first(tensors, "B")].shape[0]
        tensors[f"unet.{module}"] = np.ones((2, width), np.float32)
        tensors[f"unet.{module.replace('lora_A', 'lora_B')}"] = np.ones((width, 2), np.float32)

    honest, fooled = load_base(tiny_base), load_base(tiny_base)
    honest.load_lora_weights(str(good.parent), weight_name=good.name)
    fooled.load_lora_weights(str(good.parent), weight_name=changed(good, hide).name)
    assert not torch.equal(_predict(honest), _predict(fooled))
    with pytest.raises(ModelError, match="beyond its layout"):
        put_adapter(load_base(tiny_base), good)


def _predict(pipeline: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn((1, 4, 16, 16), generator=generator)
    text = torch.randn((1, 16, 32), generator=generator)
    with torch.no_grad():
        return pipeline.unet(latents, 5, text).sample


def test_a_layout_of_another_shape_is_refused_by_the_base(good: Path, tiny_base: Path) -> None:
    saved = load_adapter(good)
    entries = tuple(
        replace(entry, shape=(2, 99)) if "lora_A" in entry.name else entry
        for entry in saved.layout.entries
    )
    wider = Layout(entries)
    save_adapter(good, wider, np.zeros(wider.parameters, np.float32), LORA)
    with pytest.raises(ModelError, match="another base"):
        put_adapter(load_base(tiny_base), good)


def test_empty_tensors_are_no_factors(good: Path) -> None:
    name = "attn2.to_q"
    empty = Layout(
        (
            LayoutEntry(f"{name}.lora_A.weight", (2, 0), "float32"),
            LayoutEntry(f"{name}.lora_B.weight", (4, 2), "float32"),
        )
    )
    save_adapter(good, empty, np.zeros(8, np.float32), LORA)
    with pytest.raises(ModelError, match="not factors"):
        load_adapter(good)


KOHYA = "lora_unet_down_blocks_1_attn2_to_k"


@pytest.mark.parametrize(
    ("names", "header", "kind"),
    [
        ([f"{KOHYA}.lora_down.weight", f"{KOHYA}.alpha"], {}, "a LoRA of kohya's tools"),
        (["lora_te_text_model_q_proj.lora_up.weight"], {"ss_network_dim": "2"}, "kohya's tools"),
        (["x.weight"], {"ss_network_dim": "2"}, "a LoRA of kohya's tools"),
        ([f"{KOHYA}.lora_down.weight", f"{KOHYA}.dora_scale"], {}, "a DoRA adapter"),
        (["base_model.model.x.lora_magnitude_vector"], {}, "a DoRA adapter"),
        (["base_model.model.x.attn2.to_q.lora_A.weight"], {}, "a LoRA as peft saves it"),
        ([f"{KOHYA}.hada_w1_a"], {}, "a LyCORIS adapter"),
        ([f"{KOHYA}.lokr_w1"], {}, "a LyCORIS adapter"),
        (["unet.x.attn2.processor.to_q_lora.down.weight"], {}, "an old version of diffusers"),
        (["unet.x.attn2.to_q.lora_A.weight"], {"format": "pt"}, "without the metadata"),
        (["text_encoder.x.q_proj.lora_A.weight"], {}, "a text encoder"),
        (["transformer.x.lora_A.weight"], {}, "a LoRA of a transformer"),
        (["model.diffusion_model.x.weight"], {}, "a whole checkpoint"),
        (["emb_params"], {}, "a textual inversion"),
        (["base_model.model.x.vera_lambda_b"], {}, "a VeRA adapter"),
        (["image_proj.proj.weight"], {}, "an IP-Adapter"),
        (["lora_transformer_x_to_k.lora_down.weight"], {}, "a LoRA of a transformer"),
        (["diffusion_model.x.to_k.lora_A.weight"], {}, "a LoRA as ComfyUI"),
        (["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"], {}, "a language"),
        ([f"{KOHYA}.diff"], {}, "a LyCORIS adapter .full"),
        (["lora_unet_double_blocks_0_img.lora_down.weight"], {}, "a LoRA of a transformer"),
        (["base_model.model.x.lora_E", "base_model.model.x.lora_A"], {}, "an AdaLoRA adapter"),
        (["<my-token>"], {}, "a textual inversion"),
        (["my-token"], {}, "a textual inversion"),
        (["768.0.linear.weight"], {}, "a hypernetwork"),
        (["model.layers.0.self_attn.q_proj.weight"], {}, "a whole language model"),
        (["cls_token", "blocks.0.attn.qkv.weight"], {}, "a whole encoder"),
        (["unet.x.lora.down.weight"], {}, "a LoRA in another tool's form"),
        (["x.y"], {"modelspec.architecture": "stable-diffusion-v1/lora"}, "another tool's form"),
        (["model.diffusion_model.double_blocks.0.x"], {}, "a whole checkpoint of Flux"),
        (["unet.x.attn2.to_q.lora_linear_layer.up.weight"], {}, "an old version of diffusers"),
        (["base_model.model.x.lora_embedding_A"], {}, "a LoRA as peft saves it"),
        (["base_model.model.x.hra_u"], {}, "an adapter of peft's that is no LoRA"),
        (["base_model.model.x.shira_weight"], {}, "an adapter of peft's that is no LoRA"),
        (["conditioner.embedders.0.x"], {}, "a whole checkpoint of Stable Diffusion"),
        (["post_quant_conv.weight", "decoder.x.weight"], {}, "a VAE"),
        (["lllite_unet_x.down.0.weight"], {}, "a ControlNet"),
        (["bundle_emb.x.string_to_param.*"], {}, "as OneTrainer bundles them"),
        ([f"{KOHYA}.lora_down.weight", "bundle_emb.x.clip_l"], {}, "a LoRA of kohya's tools"),
        (["lora_te2_text_model_x.lora_down.weight"], {}, "a LoRA of kohya's tools"),
        ([], {}, "without a single tensor"),
        (["something.else"], {}, "a safetensors file of another kind"),
    ],
)
def test_other_tools_files_are_named(
    tmp_path: Path, names: list[str], header: Header, kind: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: np.ones((2, 2), np.float32) for name in names}, path, header or None)
    with pytest.raises(ModelError, match=f"is .*{kind}.* not an adapter written by") as caught:
        load_adapter(path)
    assert "se the adapter that a run released" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04 archive/data.pkl", "a PyTorch file"),
        (b"\x80\x04\x95 pickled", "a pickle, which could start a program"),
        (pickle.dumps(Path("x"), 0), "a pickle, which could start a program"),
        (pickle.dumps({"masks": 1}, 0), "a pickle, which could start a program"),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "a web page"),
        (b'{"r": 8, "lora_alpha": 8}', "a JSON file"),
        (b"", "an empty file"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a": ', "copy it again"),
        (b"\x02\0\0\0\0\0\0\0[]", "copy it again"),
        (b"\x01\x02\x03", "beginning is damaged: copy it again"),
        (bytes(100), "nothing but zeros"),
        (b"\x1f\x8b\x08", "packed with gzip"),
        (b"Entry not found", "a text file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    ],
)
def test_so_are_files_of_other_formats(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=f"not an adapter written by craftsfl .*{kind}"):
        load_adapter(tmp_path / "x.safetensors")


def test_so_are_a_folder_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a folder: name the"):
        load_adapter(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        load_adapter(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_cast(np.float16), "F16 .half precision."),
        (_cast(np.float64), "F64 .double precision."),
        (_cast(np.int8), "I8 .eight bits."),
        (_add("text_encoder.x.lora_A.weight"), "it changes the text encoder too"),
        (_peft(use_dora=True), "it is a DoRA adapter"),
        (_peft(use_rslora=True), "it is an rsLoRA adapter"),
    ],
)
def test_a_changed_copy_of_ours_is_called_what_it_is(good: Path, change: Change, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load_adapter(changed(good, change))


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases (../shared/cases/adapters) are not here")
@pytest.mark.parametrize("path", sorted(CASES.glob("*.safetensors")), ids=lambda path: path.stem)
def test_of_the_cases_only_the_plain_one_is_an_adapter(path: Path) -> None:
    if path.stem == "own":
        assert load_adapter(path).adapter.rank == 2
        return
    with pytest.raises(ModelError) as caught:
        load_adapter(path)
    assert caught.value.hint
