"""Losses of the denoising model, one number a row.

Every loss decomposes per row: row i's loss and gradient depend on row i alone, because the clip
bounds one patient's influence only then. A term that couples two private rows (in-batch contrast,
batch statistics) must never be registered here; the tests hold every registered loss to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from model.adapters import Unet
from privacy.errors import ModelError

Scheduler = Any  # any of diffusers' schedulers: they share no typed base


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a physical batch: one (tile, t, noise) draw each."""

    latents: Tensor  # z [n, c, h, w], scaled as the UNet expects
    timesteps: Tensor  # t [n], int64
    noise: Tensor  # eps, like latents
    text: Tensor  # caption embeddings [n, length, width]

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on `device`."""
        parts = (self.latents, self.timesteps, self.noise, self.text)
        return Rows(*(part.to(device) for part in parts))


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """The forward process q(z_t | z) and what the UNet predicts of it."""

    alphas_cumprod: Tensor  # alpha-bar [T], float32
    prediction_type: str  # "epsilon" or "v_prediction"

    @classmethod
    def of(cls, scheduler: Scheduler, device: torch.device | str = "cpu") -> NoiseSchedule:
        """The schedule that a diffusers scheduler samples by.

        Raises `ModelError` for schedulers that are not of the variance-preserving family.
        """
        alphas = getattr(scheduler, "alphas_cumprod", None)
        kind = getattr(scheduler.config, "prediction_type", "epsilon")
        if alphas is None or kind not in ("epsilon", "v_prediction"):
            raise ModelError(
                f"The base's scheduler {type(scheduler).__name__} (prediction_type {kind!r}) "
                "cannot be trained on.",
                "Use a base that predicts epsilon or v.",
            )
        return cls(alphas.to(device=device, dtype=torch.float32), kind)

    def __len__(self) -> int:
        """T, the number of timesteps."""
        return len(self.alphas_cumprod)

    def noised(self, rows: Rows) -> Tensor:
        """z_t = sqrt(alpha-bar) z + sqrt(1 - alpha-bar) eps (Ho et al. 2020, eq. 4)."""
        signal, sigma = self._scales(rows)
        return signal * rows.latents + sigma * rows.noise

    def target(self, rows: Rows) -> Tensor:
        """What the UNet should say: eps, or v = sqrt(alpha-bar) eps - sqrt(1 - alpha-bar) z.

        v: Salimans and Ho 2022, section 4.
        """
        if self.prediction_type == "epsilon":
            return rows.noise
        signal, sigma = self._scales(rows)
        return signal * rows.noise - sigma * rows.latents

    def _scales(self, rows: Rows) -> tuple[Tensor, Tensor]:
        alpha_bar = self.alphas_cumprod[rows.timesteps].reshape(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


class Loss(Protocol):
    """A per-row loss: (UNet, rows, schedule) to float32 [n], differentiable."""

    def __call__(self, unet: Unet, rows: Rows, schedule: NoiseSchedule) -> Tensor:
        """Losses [n]; row i depends on row i alone."""
        ...


def denoising(unet: Unet, rows: Rows, schedule: NoiseSchedule) -> Tensor:
    """Mean squared error of the prediction, over the elements of each row (Ho et al., eq. 14)."""
    dtype = unet.dtype
    noised = schedule.noised(rows).to(dtype)
    predicted: Tensor = unet(noised, rows.timesteps, rows.text.to(dtype), return_dict=False)[0]
    return (predicted.float() - schedule.target(rows)).square().flatten(1).mean(dim=1)


LOSSES: Mapping[str, Loss] = MappingProxyType({"denoising": denoising})


def find_loss(name: str) -> Loss:
    """The registered loss called `name`. Raises `ModelError` that lists the known names."""
    loss = LOSSES.get(name)
    if loss is None:
        raise ModelError(f"There is no loss {name!r}.", f"Known losses: {', '.join(LOSSES)}.")
    return loss
