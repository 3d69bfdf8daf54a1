"""Frozen layers in bfloat16: the same gradients up to rounding, and a model that is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from client.training.proof import large_vector
from model.adapters import attach, write_vector
from model.losses import NoiseSchedule, Rows, denoising
from model.mixed_precision import MixedPrecision
from privacy.dpsgd.engine import PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.study.manifest import Adapter
from tests.tiny import TEXT_LENGTH, TEXT_WIDTH

ROWS = 6
TARGETS = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
ADAPTER = Adapter(targets=TARGETS, rank=2, alpha=2.0)


@pytest.fixture
def unet(tiny_pipeline: Any) -> Any:
    layout = attach(tiny_pipeline.unet, ADAPTER)
    write_vector(tiny_pipeline.unet, layout, 0.05 * large_vector(layout, sharpened=1.0))
    return tiny_pipeline.unet


@pytest.fixture
def rows() -> Rows:
    made = torch.Generator().manual_seed(3)
    latents, noise = torch.randn(2, ROWS, 4, 16, 16, generator=made)
    return Rows(
        latents=latents,
        timesteps=torch.tensor([0, 200, 400, 600, 800, 999]),  # the last ones are the most delicate
        noise=noise,
        text=torch.randn(ROWS, TEXT_LENGTH, TEXT_WIDTH, generator=made),
    )


def gradients(unet: Any, rows: Rows) -> Tensor:
    schedule = NoiseSchedule(torch.linspace(0.999, 0.005, 1000), "epsilon")
    batch = PhysicalBatch(torch.arange(ROWS), lambda: denoising(unet, rows, schedule))
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    with LoraEngine(unet, trained) as engine:
        return engine.gradients(batch).values.clone()


def test_every_rows_gradient_is_the_same_up_to_rounding(unet: Any, rows: Rows) -> None:
    full = gradients(unet, rows)
    with MixedPrecision(unet).active():
        mixed = gradients(unet, rows)
    assert not torch.equal(mixed, full)
    assert torch.nn.functional.cosine_similarity(mixed, full).min() > 0.999
    assert (mixed.norm(dim=1) / full.norm(dim=1) - 1).abs().max() < 0.02


def test_a_row_does_not_depend_on_the_others(unet: Any, rows: Rows) -> None:
    with MixedPrecision(unet).active():
        before = gradients(unet, rows)
        rows.latents[1] = torch.nan
        rows.text[2] = 1e38
        rows.noise[3] = 1e-40
        after = gradients(unet, rows)
    assert torch.equal(after[[0, 4, 5]], before[[0, 4, 5]])


def test_the_model_is_as_it_was_afterwards_also_after_an_error(unet: Any, rows: Rows) -> None:
    full = gradients(unet, rows)
    with pytest.raises(KeyError), MixedPrecision(unet).active():
        raise KeyError
    assert torch.equal(gradients(unet, rows), full)
    assert not any("forward" in vars(module) for module in unet.modules())
    assert {type(p) for p in unet.attn_processors.values()} == {AttnProcessor2_0}


def test_trained_small_and_adapters_layers_keep_their_arithmetic() -> None:
    small = nn.Conv2d(4, 32, 3)
    trained, frozen, other = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32).double()
    layers = nn.ModuleDict({"small": small, "trained": trained, "frozen": frozen, "other": other})
    layers.update({"lora_A": nn.Linear(32, 32)})
    layers.requires_grad_(False)
    trained.requires_grad_(True)
    x, image = torch.randn(2, 3, 32), torch.randn(2, 4, 8, 8)
    before = [layer(x) for layer in (trained, layers["lora_A"], frozen)]
    vector, images = frozen(x[:, 0]), small(image)
    with MixedPrecision(layers).active():
        after = [layer(x) for layer in (trained, layers["lora_A"], frozen)]
        assert torch.equal(frozen(x[:, 0]), vector)  # one vector an image
        assert torch.allclose(small(image), images, atol=1e-6)  # at most in another order
        assert other(x.double()).dtype == torch.float64
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[2], before[2])


def test_an_attention_of_another_kind_is_left_alone(unet: Any, rows: Rows) -> None:
    unet.set_attn_processor(AttnProcessor())
    with MixedPrecision(unet).active():
        assert {type(p) for p in unet.attn_processors.values()} == {AttnProcessor}
        assert gradients(unet, rows).isfinite().all()


def test_autocast_comes_first(unet: Any, rows: Rows) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        cast = gradients(unet, rows)
        with MixedPrecision(unet).active():
            assert torch.equal(gradients(unet, rows), cast)
