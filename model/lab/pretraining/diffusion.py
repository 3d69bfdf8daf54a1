"""Stage one, last part: text encoder and UNet learn together to denoise captioned latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from model.adapters import Unet
from model.base import Pipeline
from model.lab.pretraining.corpus import Corpus
from model.lab.pretraining.networks import (
    make_scheduler,
    make_text_encoder,
    make_unet,
    training_device,
)
from model.lab.pretraining.optimisation import Schedule, Task, TaskTrainer, TensorBatch
from model.lab.pretraining.recipe import Progress, Recipe
from model.losses import Scheduler

_SNR_CAP = 5.0


class TinyDenoiser(nn.Module):
    """Text encoder and UNet in one module, as they are trained."""

    def __init__(self, text_encoder: CLIPTextModel, unet: Unet) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Predicted noise [n, 4, 16, 16] for noisy latents, timesteps [n], tokens [n, length]."""
        hidden = self.text_encoder(tokens)[0]
        return torch.as_tensor(self.unet(noisy, timesteps, hidden, return_dict=False)[0])


def denoising_loss(
    denoiser: TinyDenoiser, scheduler: Scheduler, shard: TensorBatch
) -> torch.Tensor:
    """Mean square error of the noise (Ho et al. 2020, eq. 14), weighted by min(SNR, 5) / SNR.

    The weights are those of Hang et al. 2023, "Efficient diffusion training via Min-SNR".
    """
    latents, noise, timesteps, tokens = shard
    predicted = denoiser(scheduler.add_noise(latents, noise, timesteps), timesteps, tokens)
    kept = scheduler.alphas_cumprod.to(latents.device)[timesteps]
    snr = kept / (1 - kept)
    error = (predicted - noise).square().mean(dim=(1, 2, 3))
    return torch.as_tensor((error * snr.clamp(max=_SNR_CAP) / snr).mean())


@dataclass(frozen=True)
class Latents:
    """What the diffusion learns from: latents [n, 4, 16, 16] of the corpus's first n tiles."""

    latents: torch.Tensor
    corpus: Corpus


def _batches(
    data: Latents, tokenizer: CLIPTokenizer, recipe: Recipe
) -> Callable[[int], TensorBatch]:
    on = training_device()

    @cache
    def tokens(text: str) -> list[int]:
        filled = tokenizer(
            text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True
        )
        return list(filled["input_ids"])

    def batch(step: int) -> TensorBatch:
        rng = np.random.default_rng([recipe.seed, 2, step])
        chosen = rng.integers(len(data.latents), size=recipe.diffusion_batch)
        texts = [
            "" if rng.random() < recipe.caption_dropout else data.corpus.caption(int(index), rng)
            for index in chosen
        ]
        latents = data.latents[chosen].float()
        noise = torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
        timesteps = torch.from_numpy(rng.integers(1000, size=len(chosen)))
        ids = torch.tensor([tokens(text) for text in texts])
        return latents.to(on), noise.to(on), timesteps.to(on), ids.to(on)

    return batch


def train_diffusion(
    data: Latents,
    tokenizer: CLIPTokenizer,
    recipe: Recipe,
    workspace: Path,
    on_progress: Progress,
    former: Pipeline | None = None,
) -> TinyDenoiser:
    """Train text encoder and UNet, from those of `former` if given; return averaged weights."""
    torch.manual_seed(recipe.seed + 1)
    scheduler = make_scheduler()
    denoiser = TinyDenoiser(make_text_encoder(tokenizer), make_unet())
    if former is not None:
        denoiser.text_encoder.load_state_dict(former.text_encoder.state_dict())
        denoiser.unet.load_state_dict(former.unet.state_dict())
    denoiser.to(training_device())
    denoiser.unet.to(memory_format=torch.channels_last)
    schedule = Schedule(
        recipe.diffusion_steps,
        recipe.diffusion_rate,
        warm_up=200,
        ema_decay=recipe.ema_decay,
        checkpoint_every=recipe.checkpoint_every,
    )
    task = Task(
        "diffusion",
        denoiser,
        _batches(data, tokenizer, recipe),
        lambda shard: denoising_loss(denoiser, scheduler, shard),
    )
    TaskTrainer(task, schedule, workspace, recipe.shards).run(on_progress)
    return denoiser.eval()
