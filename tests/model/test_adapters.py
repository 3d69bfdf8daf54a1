"""LoRA adapters: attached, flattened, saved for diffusers, refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file

from model.adapters import (
    attach,
    detach,
    initial_vector,
    layout_of,
    load_adapter,
    parameters,
    read_vector,
    save_adapter,
    without_adapter,
    write_vector,
)
from model.base import load_base
from privacy.errors import ModelError
from privacy.study.manifest import Adapter

# alpha differs from the rank: what loses alpha cannot reproduce an image.
ADAPTER = Adapter(targets=("attn2.to_q", "attn2.to_v"), rank=2, alpha=7.0)
FROZEN_A = ADAPTER.model_copy(update={"frozen_a": True})
both = pytest.mark.parametrize("adapter", [ADAPTER, FROZEN_A], ids=["lora", "frozen-a"])


def draw(pipeline: Any) -> np.ndarray:
    """One image, uint8-free: equal floats mean the very same computation."""
    generator = torch.Generator().manual_seed(3)
    call = {"num_inference_steps": 3, "output_type": "np", "generator": generator}
    return pipeline("glands", guidance_scale=2.0, **call).images[0]


def trained(layout: Any, scale: float = 0.5) -> np.ndarray:
    values = np.random.default_rng(5).normal(scale=scale, size=layout.parameters)
    return values.astype(np.float32)


@both
def test_only_the_adapter_asks_for_gradients(tiny_pipeline: Any, adapter: Adapter) -> None:
    layout = attach(tiny_pipeline.unet, adapter)
    wanted = {n for n, p in tiny_pipeline.unet.named_parameters() if p.requires_grad}
    assert len(wanted) == len(layout.entries) > 0
    assert all("attn2.to_q" in name or "attn2.to_v" in name for name in wanted)
    assert layout.parameters == sum(p.numel() for p in parameters(tiny_pipeline.unet, layout))


def test_a_half_precision_base_gets_a_full_precision_adapter(tiny_base: Path) -> None:
    pipeline = load_base(tiny_base, dtype=torch.bfloat16)
    layout = attach(pipeline.unet, ADAPTER)
    assert pipeline.unet.dtype == torch.bfloat16
    assert {p.dtype for p in parameters(pipeline.unet, layout)} == {torch.float32}


@both
def test_the_server_gets_the_same_layout_without_weights(
    tiny_base: Path, tiny_pipeline: Any, adapter: Adapter
) -> None:
    assert layout_of(tiny_base, adapter) == attach(tiny_pipeline.unet, adapter)


@pytest.mark.parametrize(
    "other",
    [
        Adapter(targets=("attn2.to_q",), rank=2, alpha=7),
        Adapter(targets=("attn1.to_q", "attn1.to_v"), rank=2, alpha=7),
        Adapter(targets=ADAPTER.targets, rank=3, alpha=7),
        FROZEN_A,
    ],
)
def test_the_fingerprint_tells_rank_and_targets(tiny_base: Path, other: Adapter) -> None:
    ours, theirs = layout_of(tiny_base, ADAPTER), layout_of(tiny_base, other)
    assert ours.fingerprint() != theirs.fingerprint()


@both
def test_vectors_go_in_and_out_unchanged(tiny_pipeline: Any, adapter: Adapter) -> None:
    layout = attach(tiny_pipeline.unet, adapter)
    vector = trained(layout)
    write_vector(tiny_pipeline.unet, layout, vector)
    np.testing.assert_array_equal(read_vector(tiny_pipeline.unet, layout), vector)
    first = parameters(tiny_pipeline.unet, layout)[0]
    np.testing.assert_array_equal(first.detach().numpy().reshape(-1), vector[: first.numel()])


def test_what_is_read_is_no_view_of_the_model(tiny_pipeline: Any) -> None:
    layout = attach(tiny_pipeline.unet, ADAPTER)
    before = read_vector(tiny_pipeline.unet, layout)
    kept = before.copy()
    write_vector(tiny_pipeline.unet, layout, trained(layout))
    np.testing.assert_array_equal(before, kept)


@both
def test_the_initial_adapter_draws_what_the_base_draws(
    tiny_pipeline: Any, adapter: Adapter
) -> None:
    base = draw(tiny_pipeline)
    layout = attach(tiny_pipeline.unet, adapter)
    write_vector(tiny_pipeline.unet, layout, initial_vector(layout, b"study"))
    np.testing.assert_array_equal(draw(tiny_pipeline), base)


@both
def test_attaching_twice_changes_nothing(tiny_pipeline: Any, adapter: Adapter) -> None:
    layout = attach(tiny_pipeline.unet, adapter)
    write_vector(tiny_pipeline.unet, layout, trained(layout))
    assert attach(tiny_pipeline.unet, adapter) == layout
    np.testing.assert_array_equal(read_vector(tiny_pipeline.unet, layout), trained(layout))


def test_a_second_adapter_is_refused_until_the_first_is_off(tiny_pipeline: Any) -> None:
    base = draw(tiny_pipeline)
    layout = attach(tiny_pipeline.unet, ADAPTER)
    write_vector(tiny_pipeline.unet, layout, trained(layout))
    other = Adapter(targets=("attn1.to_q",), rank=1, alpha=1)
    with pytest.raises(ModelError, match="another adapter"):
        attach(tiny_pipeline.unet, other)
    detach(tiny_pipeline.unet)
    np.testing.assert_array_equal(draw(tiny_pipeline), base)
    assert attach(tiny_pipeline.unet, other).parameters > 0


@both
def test_without_adapter_runs_the_base_and_comes_back(tiny_pipeline: Any, adapter: Adapter) -> None:
    base = draw(tiny_pipeline)
    layout = attach(tiny_pipeline.unet, adapter)
    write_vector(tiny_pipeline.unet, layout, trained(layout))
    with_adapter = draw(tiny_pipeline)
    with without_adapter(tiny_pipeline.unet):
        np.testing.assert_array_equal(draw(tiny_pipeline), base)
    np.testing.assert_array_equal(draw(tiny_pipeline), with_adapter)
    assert all(p.requires_grad for p in parameters(tiny_pipeline.unet, layout))


@both
def test_a_fresh_pipeline_reproduces_the_saved_adapter_exactly(
    tiny_base: Path, tiny_pipeline: Any, tmp_path: Path, adapter: Adapter
) -> None:
    base = draw(tiny_pipeline)
    layout = attach(tiny_pipeline.unet, adapter)
    write_vector(tiny_pipeline.unet, layout, trained(layout))
    ours = draw(tiny_pipeline)
    path = tmp_path / "out" / "adapter.safetensors"
    save_adapter(path, layout, trained(layout), adapter)

    fresh = load_base(tiny_base)
    fresh.load_lora_weights(str(path.parent), weight_name=path.name)
    np.testing.assert_array_equal(draw(fresh), ours)
    assert np.abs(ours - base).max() > 0.01


def test_without_metadata_alpha_would_be_lost(tiny_base: Path, tmp_path: Path) -> None:
    """The trap that the metadata avoids: diffusers then takes alpha = r."""
    layout = layout_of(tiny_base, ADAPTER)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, layout, trained(layout), ADAPTER)
    right, wrong = load_base(tiny_base), load_base(tiny_base)
    right.load_lora_weights(str(tmp_path), weight_name=path.name)
    bare = {f"unet.{entry.name}": torch.tensor(v) for entry, v in layout.split(trained(layout))}
    wrong.load_lora_weights(bare)
    assert np.abs(draw(right) - draw(wrong)).max() > 0.01


def test_a_raw_peft_file_loads_nothing(tiny_base: Path, tiny_pipeline: Any, tmp_path: Path) -> None:
    """The trap that `unet.` avoids; our own reader refuses such a file."""
    layout = attach(tiny_pipeline.unet, ADAPTER)
    write_vector(tiny_pipeline.unet, layout, trained(layout))
    raw = get_peft_model_state_dict(tiny_pipeline.unet, adapter_name="craftsfl")
    path = tmp_path / "raw.safetensors"
    save_file({f"base_model.model.{k}": v.contiguous() for k, v in raw.items()}, path)
    fresh = load_base(tiny_base)
    base = draw(fresh)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh.load_lora_weights(str(tmp_path), weight_name=path.name)
    np.testing.assert_array_equal(draw(fresh), base)
    with pytest.raises(ModelError, match="not an adapter written by craftsfl"):
        load_adapter(path)


@both
def test_a_saved_adapter_is_read_back_whole(
    tiny_base: Path, tmp_path: Path, adapter: Adapter
) -> None:
    layout = layout_of(tiny_base, adapter)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, layout, trained(layout), adapter)
    saved = load_adapter(path)
    assert saved.layout == layout
    assert saved.adapter == adapter
    np.testing.assert_array_equal(saved.vector, trained(layout))


def test_frozen_factors_are_half_an_adapter_and_public(tiny_base: Path) -> None:
    first, second = load_base(tiny_base), load_base(tiny_base)
    layout = attach(first.unet, FROZEN_A)
    torch.manual_seed(99)  # peft draws A from torch's generator: that must not matter
    assert attach(second.unet, FROZEN_A) == layout
    assert all(".lora_B." in entry.name for entry in layout.entries)
    assert len(layout.frozen) == len(layout.entries)
    for name, value in first.unet.named_parameters():
        if ".lora_A." in name:
            assert not value.requires_grad
            assert value.abs().sum() > 0
            assert torch.equal(value, dict(second.unet.named_parameters())[name])


def test_a_file_with_other_frozen_factors_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    layout = layout_of(tiny_base, FROZEN_A)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, layout, trained(layout), FROZEN_A)
    with safe_open(path, "pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors[f"unet.{layout.frozen[0].name}"] += 1e-3
    save_file(tensors, path, header)
    with pytest.raises(ModelError, match="not the public ones"):
        load_adapter(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ModelError):
        load_adapter(path)
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError):
        load_adapter(path)


def test_a_name_without_safetensors_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    layout = layout_of(tiny_base, ADAPTER)
    with pytest.raises(ModelError, match="safetensors"):
        save_adapter(tmp_path / "adapter.bin", layout, trained(layout), ADAPTER)


def test_another_layout_is_refused_and_changes_nothing(tiny_base: Path, tiny_pipeline: Any) -> None:
    layout = attach(tiny_pipeline.unet, ADAPTER)
    write_vector(tiny_pipeline.unet, layout, trained(layout))
    other = layout_of(tiny_base, Adapter(targets=("attn2.to_q",), rank=1, alpha=1))
    with pytest.raises(ModelError, match="a layout other than"):
        write_vector(tiny_pipeline.unet, other, trained(other))
    with pytest.raises(ModelError, match="expected"):
        write_vector(tiny_pipeline.unet, layout, trained(other))
    np.testing.assert_array_equal(read_vector(tiny_pipeline.unet, layout), trained(layout))


@pytest.mark.parametrize(
    ("target", "near"),
    [("attn2.to_kk", "attn2.to_k"), ("attn2.toq", "attn2.to_q"), ("to_out.1", "to_out.0")],
)
def test_a_target_that_matches_nothing_names_the_nearest(
    tiny_base: Path, target: str, near: str
) -> None:
    adapter = Adapter(targets=("attn2.to_q", target), rank=1, alpha=1)
    with pytest.raises(ModelError) as caught:
        layout_of(tiny_base, adapter)
    assert target in caught.value.message
    assert near in caught.value.hint


def test_a_target_that_is_no_layer_is_refused(tiny_base: Path) -> None:
    with pytest.raises(ModelError, match="matches no layer"):
        layout_of(tiny_base, Adapter(targets=("attn2",), rank=1, alpha=1))


def test_a_folder_without_a_unet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"unet/config\.json"):
        layout_of(tmp_path, ADAPTER)
