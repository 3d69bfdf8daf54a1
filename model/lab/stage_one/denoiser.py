"""What stage one trains, in one module, and how its loss is weighted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model.losses import NoiseSchedule, Rows, denoising

TrainedPart = Any  # diffusers' UNet2DConditionModel, transformers' CLIPTextModel


class Denoiser(nn.Module):
    """UNet and, if trained, the text encoder: one module, for gradients from all devices."""

    def __init__(
        self, unet: TrainedPart, text_encoder: TrainedPart | None, schedule: NoiseSchedule
    ) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder
        self._schedule = schedule

    def forward(self, latents: Tensor, timesteps: Tensor, noise: Tensor, text: Tensor) -> Tensor:
        """Denoising losses float32 [n]; text: tokens [n, length], or hidden states if frozen."""
        hidden = text if self.text_encoder is None else self.text_encoder(text)[0]
        return denoising(self.unet, Rows(latents, timesteps, noise, hidden), self._schedule)


def min_snr_weights(schedule: NoiseSchedule, gamma: float) -> Tensor:
    """Weight of each timestep's loss, float32 [T]; all 1 if `gamma` is 0.

    min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for v (Hang et al. 2023,
    "Min-SNR", section 3.4); SNR = alpha-bar / (1 - alpha-bar). At SNR 0 the former tends to 1.
    """
    kept = schedule.alphas_cumprod
    if gamma == 0:
        return torch.ones_like(kept)
    snr = kept / (1 - kept)
    if schedule.prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    return gamma / snr.clamp(min=gamma)
