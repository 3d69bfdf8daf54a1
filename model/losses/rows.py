"""What every loss takes: rows of (tile, t, noise), and the schedule that noises them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from privacy.errors import ModelError

Scheduler = Any  # any of diffusers' schedulers: they share no typed base


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a physical batch: one (tile, t, noise) draw each."""

    latents: Tensor  # z [n, c, h, w], scaled as the UNet expects
    timesteps: Tensor  # t [n], int64
    noise: Tensor  # eps, like latents
    text: Tensor  # caption embeddings [n, length, width]
    # R^Y above the diagonal, [n, N (N - 1) / 2]; where a loss compares with a frozen encoder
    reference: Tensor | None = None
    # r of the caption and each public phrase, [n, P]; where a loss compares with what phrases do
    likeness: Tensor | None = None

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on `device`."""
        return each(lambda values: values.to(device), self)

    def spread(self, places: Tensor, count: int) -> Rows:
        """`count` rows: these at `places` (int64 [n]); elsewhere zeros, which are blank."""

        def spread(values: Tensor) -> Tensor:
            return values.new_zeros(count, *values.shape[1:]).index_copy_(0, places, values)

        return each(spread, self)


def each(function: Callable[..., Tensor], *rows: Rows) -> Rows:
    """Rows whose tensors are `function` of those of `rows`, one by one; None where one has none."""
    made: dict[str, Tensor | None] = {}
    for part in fields(Rows):
        values = [getattr(some, part.name) for some in rows]
        made[part.name] = None if any(value is None for value in values) else function(*values)
    return Rows(**made)  # type: ignore[arg-type]


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
        # Not the scheduler's `add_noise`: some define it by their own sigmas, without the signal's.
        signal, sigma = self._scales(rows)
        return signal * rows.latents + sigma * rows.noise

    def target(self, rows: Rows) -> Tensor:
        """What the UNet should predict: eps, or v = sqrt(alpha-bar) eps - sqrt(1 - alpha-bar) z.

        v: Salimans and Ho 2022, section 4.
        """
        if self.prediction_type == "epsilon":
            return rows.noise
        signal, sigma = self._scales(rows)
        return signal * rows.noise - sigma * rows.latents

    def signal(self, rows: Rows) -> Tensor:
        """w(t) = alpha-bar_t [n]: how much of the image a noised row still shows."""
        return self.alphas_cumprod[rows.timesteps]

    def _scales(self, rows: Rows) -> tuple[Tensor, Tensor]:
        alpha_bar = self.signal(rows).reshape(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
