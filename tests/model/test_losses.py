"""Losses: against diffusers' own schedulers, and row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from model.adapters import attach, initial_vector, parameters, write_vector
from model.losses import LOSSES, NoiseSchedule, Rows, find_loss
from privacy.errors import ModelError
from privacy.manifest import Adapter


def rows(count: int = 4, seed: int = 0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    return Rows(
        latents=torch.randn(count, 4, 16, 16, generator=generator),
        timesteps=torch.randint(0, 1000, (count,), generator=generator),
        noise=torch.randn(count, 4, 16, 16, generator=generator),
        text=torch.randn(count, 16, 32, generator=generator),
    )


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_schedule_agrees_with_diffusers(kind: str, betas: str) -> None:
    scheduler = DDIMScheduler(beta_schedule=betas, prediction_type=kind)
    schedule, batch = NoiseSchedule.of(scheduler), rows()
    args = (batch.latents, batch.noise, batch.timesteps)
    torch.testing.assert_close(schedule.noised(batch), scheduler.add_noise(*args))
    wanted = batch.noise if kind == "epsilon" else scheduler.get_velocity(*args)
    torch.testing.assert_close(schedule.target(batch), wanted)
    assert len(schedule) == 1000


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler(prediction_type="sample"), FlowMatchEulerDiscreteScheduler()]
)
def test_other_kinds_of_model_are_refused(scheduler: Any) -> None:
    with pytest.raises(ModelError, match="cannot be trained on"):
        NoiseSchedule.of(scheduler)


def test_an_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="denoising"):
        find_loss("denoisin")


def test_denoising_is_the_mean_squared_error_of_a_row(tiny_pipeline: Any) -> None:
    schedule, batch = NoiseSchedule.of(tiny_pipeline.scheduler), rows()
    with torch.no_grad():
        losses = find_loss("denoising")(tiny_pipeline.unet, batch, schedule)
        noised = tiny_pipeline.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        said = tiny_pipeline.unet(noised, batch.timesteps, batch.text).sample
    expected = [torch.nn.functional.mse_loss(said[i], batch.noise[i]) for i in range(4)]
    torch.testing.assert_close(losses, torch.stack(expected))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_row_touches_another_rows_gradient(tiny_pipeline: Any, name: str) -> None:
    """The clip bounds a patient's influence only if this holds."""
    layout = attach(tiny_pipeline.unet, Adapter(targets=("attn2.to_q",), rank=2, alpha=3))
    write_vector(tiny_pipeline.unet, layout, initial_vector(layout, b"x"))
    schedule, batch = NoiseSchedule.of(tiny_pipeline.scheduler), rows()
    changed = replace(batch, latents=batch.latents.clone(), text=batch.text.clone())
    changed.latents[1:] = 7.0
    changed.text[1:] = -3.0
    grads = [
        _first_gradient(tiny_pipeline.unet, layout, name, b, schedule) for b in (batch, changed)
    ]
    assert grads[0].abs().max() > 0
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-9)


def _first_gradient(unet: Any, layout: Any, name: str, batch: Rows, schedule: Any) -> Any:
    losses = LOSSES[name](unet, batch, schedule)
    assert losses.shape == (len(batch.latents),)
    assert losses.dtype == torch.float32
    parts = torch.autograd.grad(losses[0], parameters(unet, layout))
    return torch.cat([part.reshape(-1) for part in parts])
