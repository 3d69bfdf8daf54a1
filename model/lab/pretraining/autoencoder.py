"""Stage one, first part: the autoencoder, and the latents of the corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.lab.pretraining.corpus import Corpus
from model.lab.pretraining.networks import Autoencoder, make_autoencoder, training_device
from model.lab.pretraining.optimisation import Schedule, Task, TaskTrainer, TensorBatch
from model.lab.pretraining.recipe import Progress, Recipe

_KL_WEIGHT = 1e-5
_EDGE_WEIGHT = 1.0


def to_tensors(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [n, s, s, 3] to float [n, 3, s, s] in -1..1, channels last."""
    scaled = torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1
    return scaled.permute(0, 3, 1, 2)


def to_images(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """float [n, 3, s, s] in -1..1 to uint8 [n, s, s, 3]."""
    levels = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.asarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def reconstruction_loss(images: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of pixels and of their differences: blurred edges cost extra."""
    error = images - decoded
    across, down = error.diff(dim=3).abs().mean(), error.diff(dim=2).abs().mean()
    return torch.as_tensor(error.abs().mean() + _EDGE_WEIGHT * (across + down))


def _loss(vae: Autoencoder, shard: TensorBatch) -> torch.Tensor:
    images, noise = shard
    posterior = vae.encode(images).latent_dist
    decoded = vae.decode(posterior.mean + posterior.std * noise).sample
    return torch.as_tensor(
        reconstruction_loss(images, decoded) + _KL_WEIGHT * posterior.kl().mean()
    )


def train_autoencoder(
    corpus: Corpus, recipe: Recipe, workspace: Path, on_progress: Progress
) -> Autoencoder:
    """Train on random flips of the tiles; the result's latents have mean 0, variance 1."""
    torch.manual_seed(recipe.seed)
    on = training_device()
    vae = make_autoencoder().to(on, memory_format=torch.channels_last)

    def batch(step: int) -> TensorBatch:
        rng = np.random.default_rng([recipe.seed, 1, step])
        images = corpus.images[rng.integers(corpus.train, size=recipe.autoencoder_batch)]
        images = images[:, :: 1 - 2 * int(rng.integers(2)), :: 1 - 2 * int(rng.integers(2))]
        noise = torch.from_numpy(rng.standard_normal((len(images), 4, 16, 16), np.float32))
        return to_tensors(images).to(on), noise.to(on)

    schedule = Schedule(
        recipe.autoencoder_steps,
        recipe.autoencoder_rate,
        weight_decay=0.0,
        ema_decay=0.995,
        checkpoint_every=recipe.checkpoint_every,
    )
    task = Task("autoencoder", vae, batch, lambda shard: _loss(vae, shard))
    TaskTrainer(task, schedule, workspace, recipe.shards).run(on_progress)
    vae.eval().requires_grad_(False)
    standardise(vae, encode(vae, corpus.images[: min(corpus.train, 2400)]))
    return vae


def standardise(vae: Autoencoder, latents: torch.Tensor) -> None:
    """Fold each latent channel's mean and deviation into the 1 x 1 convolutions at the waist.

    Stable Diffusion's pipeline has one scaling factor and no shift; so it is 1 here.
    """
    mean = latents.mean(dim=(0, 2, 3)).to(vae.device)
    std = latents.std(dim=(0, 2, 3)).to(vae.device)
    inward, outward = vae.quant_conv, vae.post_quant_conv
    with torch.no_grad():
        outward.bias += outward.weight[:, :, 0, 0] @ mean
        outward.weight *= std[None, :, None, None]
        inward.bias[:4] = (inward.bias[:4] - mean) / std
        inward.weight[:4] /= std[:, None, None, None]
        inward.bias[4:] -= 2 * std.log()  # the log-variances


@torch.no_grad()
def encode(vae: Autoencoder, images: NDArray[np.uint8], batch: int = 48) -> torch.Tensor:
    """Means of the latents, float [n, 4, 16, 16], of images uint8 [n, 64, 64, 3]."""
    parts = [
        vae.encode(to_tensors(images[i : i + batch]).to(vae.device)).latent_dist.mean.cpu()
        for i in range(0, len(images), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def reconstruct(vae: Autoencoder, images: NDArray[np.uint8], batch: int = 48) -> NDArray[np.uint8]:
    """Images uint8 [n, 64, 64, 3] through the autoencoder and back."""
    parts = []
    for i in range(0, len(images), batch):
        latents = encode(vae, images[i : i + batch]).to(vae.device)
        parts.append(to_images(vae.decode(latents).sample))
    return np.concatenate(parts)
