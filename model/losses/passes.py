"""A pass of rows through the UNet, under any caption, with the adapter or without."""

from __future__ import annotations

import torch
from torch import Tensor

from model.adapters import Unet, without_adapter
from model.losses.rows import Rows


def predicted(unet: Unet, noised: Tensor, rows: Rows, text: Tensor) -> Tensor:
    """eps_theta(z_t, t, c), or v_theta: float32, like the latents."""
    dtype = unet.dtype
    said: Tensor = unet(noised.to(dtype), rows.timesteps, text.to(dtype), return_dict=False)[0]
    return said.float()


@torch.no_grad()
def base_predicted(unet: Unet, noised: Tensor, rows: Rows, text: Tensor) -> Tensor:
    """eps_base: the same UNet with its adapter switched off. Nothing of it gets a gradient."""
    with without_adapter(unet):
        return predicted(unet, noised, rows, text)
