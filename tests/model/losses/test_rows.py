"""Rows and noise schedule, against diffusers' own schedulers; denoising of a row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from model.losses import NoiseSchedule, find_loss
from privacy.errors import ModelError
from tests.model.losses.worlds import make_rows, without


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_schedule_agrees_with_diffusers(kind: str, betas: str) -> None:
    scheduler = DDIMScheduler(beta_schedule=betas, prediction_type=kind)
    schedule, batch = NoiseSchedule.of(scheduler), make_rows()
    args = (batch.latents, batch.noise, batch.timesteps)
    torch.testing.assert_close(schedule.noised(batch), scheduler.add_noise(*args))
    wanted = batch.noise if kind == "epsilon" else scheduler.get_velocity(*args)
    torch.testing.assert_close(schedule.target(batch), wanted)
    assert torch.equal(schedule.signal(batch), scheduler.alphas_cumprod[batch.timesteps])
    assert len(schedule) == 1000


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler(prediction_type="sample"), FlowMatchEulerDiscreteScheduler()]
)
def test_other_kinds_of_model_are_refused(scheduler: Any) -> None:
    with pytest.raises(ModelError, match="cannot be trained on"):
        NoiseSchedule.of(scheduler)


def test_rows_move_with_and_without_a_reference() -> None:
    rows = make_rows(2)
    moved = rows.to("meta")
    assert {str(getattr(moved, name).device) for name in ("latents", "text", "reference")} == {
        "meta"
    }
    assert without(rows, "reference").to("meta").reference is None


def test_denoising_is_the_mean_squared_error_of_a_row(tiny_pipeline: Any) -> None:
    schedule, batch = NoiseSchedule.of(tiny_pipeline.scheduler), make_rows()
    with torch.no_grad():
        losses = find_loss("denoising")(tiny_pipeline.unet, batch, schedule)
        noised = tiny_pipeline.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        said = tiny_pipeline.unet(noised, batch.timesteps, batch.text).sample
    expected = [torch.nn.functional.mse_loss(said[i], batch.noise[i]) for i in range(4)]
    torch.testing.assert_close(losses, torch.stack(expected))
