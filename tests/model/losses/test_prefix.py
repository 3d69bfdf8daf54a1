"""What several passes share: computed once, and the same as if it were not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from model.adapters import attach
from model.losses.prefix import computed_once
from privacy.study.manifest import Adapter

KINDS = {
    "plain": {},
    "first attention reads the caption": {"only_cross_attention": True},
    "caption in the time embedding": {
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
    },
}


def make_unet(**kind: Any) -> Any:
    torch.manual_seed(0)
    unet: Any = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=4,
        norm_num_groups=4,
        **kind,
    )
    attach(unet, Adapter(targets=("attn2.to_v",), rank=1, alpha=1.0))
    return unet


@pytest.mark.parametrize("kind", KINDS)
def test_passes_under_other_captions_are_what_they_are_alone(kind: str) -> None:
    unet = make_unet(**KINDS[kind])
    latents, texts = torch.randn(2, 4, 8, 8), torch.randn(2, 2, 5, 12)
    times = torch.tensor([3, 700])

    def predicted(text: torch.Tensor) -> torch.Tensor:
        return unet(latents, times, text).sample.detach()

    alone = [predicted(text) for text in texts]
    with computed_once(unet):
        together = [predicted(text) for text in texts]
    assert not torch.equal(*alone)
    assert torch.equal(torch.stack(alone), torch.stack(together))


def test_the_first_layers_run_once() -> None:
    unet = make_unet()
    calls = []
    first = unet.down_blocks[0].attentions[0].transformer_blocks[0]
    first.attn1.to_q.register_forward_pre_hook(lambda *_: calls.append("attn1"))
    with computed_once(unet):
        for text in torch.randn(3, 2, 5, 12):
            unet(torch.zeros(2, 4, 8, 8), torch.tensor([3, 700]), text)
    assert calls == ["attn1"]
