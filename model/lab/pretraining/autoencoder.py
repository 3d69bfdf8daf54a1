"""Stage one, first part: the autoencoder, and the latents of the corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from model.lab.pretraining.corpus import Corpus
from model.lab.pretraining.networks import Autoencoder, make_autoencoder, training_device
from model.lab.pretraining.optimisation import Schedule, Task, TaskTrainer, TensorBatch
from model.lab.pretraining.recipe import Progress, Recipe

_KL_WEIGHT = 1e-5
_EDGE_WEIGHT = 1.0
_ANCHOR_WEIGHT = 0.3  # of latents of H&E, which a UNet already draws


def to_tensors(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [n, s, s, 3] to float [n, 3, s, s] in -1..1, channels last."""
    scaled = torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1
    return scaled.permute(0, 3, 1, 2)


def to_images(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """float [n, 3, s, s] in -1..1 to uint8 [n, s, s, 3]."""
    levels = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.asarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def reconstruction_loss(images: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of pixels, of their differences and of means over 8 x 8 pixels.

    Blurred edges cost extra, and so does a palette that is a little off everywhere.
    """
    error = images - decoded
    across, down = error.diff(dim=3).abs().mean(), error.diff(dim=2).abs().mean()
    broad = functional.avg_pool2d(error, 8).abs().mean()
    return torch.as_tensor(error.abs().mean() + _EDGE_WEIGHT * (across + down) + broad)


def _loss(vae: Autoencoder, former: Autoencoder | None, shard: TensorBatch) -> torch.Tensor:
    images, noise, slides = shard
    posterior = vae.encode(images).latent_dist
    decoded = vae.decode(posterior.mean + posterior.std * noise).sample
    loss = reconstruction_loss(images, decoded) + _KL_WEIGHT * posterior.kl().mean()
    if former is not None:
        with torch.no_grad():
            known = former.encode(images).latent_dist.mean
        moved = (posterior.mean - known).square().mean(dim=(1, 2, 3))
        loss = loss + _ANCHOR_WEIGHT * (moved * slides).mean()
    return torch.as_tensor(loss)


def train_autoencoder(
    corpus: Corpus,
    recipe: Recipe,
    workspace: Path,
    on_progress: Progress,
    former: Autoencoder | None = None,
) -> Autoencoder:
    """Train on random flips of the tiles; the result's latents have mean 0, variance 1.

    With a `former` one training goes on from there, and keeps to its latents of tiles in H&E.
    """
    torch.manual_seed(recipe.seed)
    on = training_device()
    vae = make_autoencoder()
    if former is not None:
        former = former.to(on).float().eval().requires_grad_(False)
        vae.load_state_dict(former.state_dict())
    vae.to(on, memory_format=torch.channels_last)

    def batch(step: int) -> TensorBatch:
        rng = np.random.default_rng([recipe.seed, 1, step])
        quarters = step < recipe.autoencoder_crops
        count = recipe.autoencoder_batch * (2 if quarters else 1)
        chosen = rng.integers(corpus.train, size=count)
        images, slides = corpus.images[chosen], torch.from_numpy(chosen < corpus.slides).float()
        images = images[:, :: 1 - 2 * int(rng.integers(2)), :: 1 - 2 * int(rng.integers(2))]
        if quarters:
            down, across = rng.integers(images.shape[1] // 2 + 1, size=2)
            images = images[:, down : down + 32, across : across + 32]
        side = images.shape[1] // 4
        noise = torch.from_numpy(rng.standard_normal((count, 4, side, side), np.float32))
        return to_tensors(images).to(on), noise.to(on), slides.to(on)

    schedule = Schedule(
        recipe.autoencoder_steps,
        recipe.autoencoder_rate,
        weight_decay=0.0,
        ema_decay=0.995,
        checkpoint_every=recipe.checkpoint_every,
    )
    task = Task("autoencoder", vae, batch, lambda shard: _loss(vae, former, shard))
    TaskTrainer(task, schedule, workspace, recipe.shards).run(on_progress)
    vae.eval().requires_grad_(False)
    if former is not None:  # whose scale is kept, for the UNet that goes with it
        return vae
    # An odd stride meets every morphology and the dyes in their share.
    standardise(vae, encode(vae, corpus.images[: corpus.train : 13]))
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
