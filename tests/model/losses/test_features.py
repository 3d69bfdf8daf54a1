"""Blocks by name, the features they give, and what several passes share."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.clip_steps import SHAPES, unet_of
from model.adapters import attach
from model.losses import block_names, caught, check_adapted, feature_side, find_block, pooled
from model.losses.prefix import computed_once
from privacy.errors import ModelError
from privacy.study.manifest import Adapter
from tests.model.losses.worlds import World, make_rows


@pytest.mark.parametrize(
    ("block", "side"),
    [
        ("down_blocks.0", 16),  # before its downsampler
        ("down_blocks.1", 8),
        ("mid_block", 8),
        ("up_blocks.0", 8),  # before its upsampler
        ("up_blocks.1", 16),
        ("up_blocks.1.attentions.0", 16),
        ("up_blocks.0.resnets.1", 8),
    ],
)
def test_a_blocks_features_have_its_own_resolution(
    tiny_pipeline: Any, block: str, side: int
) -> None:
    assert feature_side(tiny_pipeline.unet, block) == side


def test_stable_diffusions_shape_has_64_places_where_the_design_says() -> None:
    """SD-1.5 at 256 px has four resolutions, as this small one has three: up_blocks.1 is 8 x 8."""
    assert feature_side(unet_of(SHAPES["small"]), "up_blocks.1") == 8


def test_a_missing_block_names_those_near_it(tiny_pipeline: Any) -> None:
    with pytest.raises(ModelError, match=r"no block 'up_block\.1'") as caught_error:
        find_block(tiny_pipeline.unet, "up_block.1")
    assert "up_blocks.1" in caught_error.value.hint
    with pytest.raises(ModelError) as caught_error, caught(tiny_pipeline.unet, "zzz"):
        pass
    assert "mid_block" in caught_error.value.hint


def test_every_block_listed_can_be_caught(tiny_pipeline: Any) -> None:
    names = block_names(tiny_pipeline.unet)
    assert {"down_blocks.0", "mid_block", "up_blocks.1.resnets.0"} <= set(names)
    assert [feature_side(tiny_pipeline.unet, name) in (8, 16) for name in names] == [True] * len(
        names
    )


def test_a_block_without_an_adapter_before_it_is_refused(tiny_pipeline: Any) -> None:
    attach(
        tiny_pipeline.unet, Adapter(targets=("mid_block.attentions.0.proj_in",), rank=1, alpha=1)
    )
    check_adapted(tiny_pipeline.unet, "up_blocks.0")
    with pytest.raises(ModelError, match="No layer of the adapter comes before down_blocks"):
        check_adapted(tiny_pipeline.unet, "down_blocks.1")


def test_pooling_is_the_mean_of_areas() -> None:
    grid = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert pooled(grid, 4).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pooled(grid, 16) is grid
    assert pooled(grid, 9).shape == (1, 1, 3, 3)


@pytest.mark.parametrize(
    "targets", [("attn2.to_q",), ("attn1.to_q",), ("conv1",), ("time_emb_proj",), ("conv_in",)]
)
def test_what_passes_share_changes_no_bit_of_them(tiny_pipeline: Any, targets: Any) -> None:
    """Whatever carries the adapter: convolutions at the very start leave nothing to share."""
    unet, rows = tiny_pipeline.unet, make_rows(2)
    if targets == ("time_emb_proj",):
        targets = ("down_blocks.0.resnets.0.time_emb_proj",)
    attach(unet, Adapter(targets=targets, rank=1, alpha=1))
    for name, parameter in unet.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))

    def run(text: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return unet(rows.latents, rows.timesteps, text).sample

    texts = [rows.text, rows.text.flip(0), 2 * rows.text]
    plain = [run(text) for text in texts]
    with computed_once(unet):
        shared = [run(text) for text in texts]
    assert all(torch.equal(a, b) for a, b in zip(plain, shared, strict=True))
    assert not torch.equal(plain[0], plain[1])


def test_the_first_self_attention_runs_once(world: World) -> None:
    block = world.unet.down_blocks[0].attentions[0].transformer_blocks[0]
    calls = {"attn1": 0, "attn2": 0}
    for name in calls:
        inner = getattr(block, name).to_out[0]
        inner.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    rows = make_rows(2)
    with torch.no_grad(), computed_once(world.unet):
        for _ in range(3):
            world.unet(rows.latents, rows.timesteps, rows.text)
    assert calls == {"attn1": 1, "attn2": 3}


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 4), (7, 5, 3), (6, 9, 1)])
def test_areas_are_those_of_torch_without_its_gradient(height: int, width: int, side: int) -> None:
    """A GPU has no deterministic kernel for it, and the engine takes no other."""
    features = torch.randn(2, 3, height, width, requires_grad=True)
    found = pooled(features, side * side)
    wanted = torch.nn.functional.adaptive_avg_pool2d(features, side)
    torch.testing.assert_close(found, wanted)
    assert "adaptive" in wanted.grad_fn.name().lower() or side == 1
    assert "adaptive" not in str(_graph(found.grad_fn)).lower()


def _graph(node: Any) -> list[str]:
    return [node.name(), *(name for n, _ in node.next_functions if n for name in _graph(n))]
