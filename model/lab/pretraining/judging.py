"""Train and freeze the judges before the diffusion starts, so that no sample can sway them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from model.lab.judges import (
    DiscriminantJudge,
    NetworkJudge,
    accuracy,
    load_judges,
    make_judge_network,
    save_judges,
)
from model.lab.pretraining.autoencoder import reconstruct, to_tensors
from model.lab.pretraining.corpus import Corpus
from model.lab.pretraining.networks import Autoencoder, training_device
from model.lab.pretraining.optimisation import Schedule, Task, TaskTrainer, TensorBatch
from model.lab.pretraining.recipe import Progress, Recipe

_TILES = 2400  # and the same number of reconstructions
_FITTED = 1200  # of each, for the closed form; ten of each morphology would almost be enough


def train_judges(
    corpus: Corpus, vae: Autoencoder, recipe: Recipe, workspace: Path, on_progress: Progress
) -> None:
    """Train on tiles and their reconstructions; write workspace/judges with their accuracies."""
    folder = workspace / "judges"
    if (folder / "accuracy.json").exists():
        return
    first = min(_TILES, corpus.slides)
    images = np.concatenate([corpus.images[:first], reconstruct(vae, corpus.images[:first])])
    labels = np.concatenate([corpus.labels[:first]] * 2)
    few = np.arange(len(labels)) % first < _FITTED
    discriminant = DiscriminantJudge.fit(images[few], labels[few])
    save_judges(
        folder, _train_network(images, labels, recipe, workspace, on_progress), discriminant
    )
    _validate(folder, corpus, vae)


def disturb(images: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    """Flips, a colour shift and grain: a sample need not be as clean as a drawing."""
    turned = images[:, :: 1 - 2 * int(rng.integers(2)), :: 1 - 2 * int(rng.integers(2))]
    tensor = to_tensors(turned)
    shape = (len(images), 3, 1, 1)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, shape).astype(np.float32))
    offset = torch.from_numpy(rng.normal(0, 0.06, shape).astype(np.float32))
    grain = torch.from_numpy(rng.standard_normal(tensor.shape, np.float32))
    strength = torch.from_numpy(rng.uniform(0, 0.06, (len(images), 1, 1, 1)).astype(np.float32))
    return tensor * gain + offset + grain * strength


def _train_network(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    recipe: Recipe,
    workspace: Path,
    on_progress: Progress,
) -> NetworkJudge:
    torch.manual_seed(recipe.seed + 2)
    network = make_judge_network().to(training_device())

    def batch(step: int) -> TensorBatch:
        rng = np.random.default_rng([recipe.seed, 3, step])
        chosen = rng.integers(len(images), size=recipe.judge_batch)
        disturbed = disturb(images[chosen], rng)
        return disturbed.to(training_device()), torch.from_numpy(labels[chosen]).to(
            training_device()
        )

    def loss(shard: TensorBatch) -> torch.Tensor:
        return functional.cross_entropy(network(shard[0]), shard[1], label_smoothing=0.05)

    schedule = Schedule(recipe.judge_steps, 3e-3, checkpoint_every=recipe.checkpoint_every)
    TaskTrainer(Task("judge", network, batch, loss), schedule, workspace, recipe.shards).run(
        on_progress
    )
    return NetworkJudge(network.cpu())


def _validate(folder: Path, corpus: Corpus, vae: Autoencoder) -> None:
    """Accuracy of the judges as saved, on held-out tiles that the autoencoder reconstructed."""
    images = reconstruct(vae, corpus.images[corpus.train :])
    labels = corpus.labels[corpus.train :]
    table = {judge.name: accuracy(judge, images, labels) for judge in load_judges(folder)}
    (folder / "accuracy.json").write_text(json.dumps(table, indent=1) + "\n")
