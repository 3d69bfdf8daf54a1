"""A small convolutional network that learns from pixels alone: nothing has seen these classes.

A frozen encoder may know a class from its own training, and then labels are worth little. This
learner begins with nothing, so that what it can tell comes from the pictures it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model.arrays import Doubles, Groups, Images
from model.lab.augmentation.lessons import Lessons
from model.lab.pretraining.judging import disturb

LossOf: TypeAlias = Callable[[Groups, np.random.Generator], torch.Tensor]  # of rows, a scalar

TRUNK_WIDTH = 64
_BATCH = 256  # of pictures that are only looked at


@dataclass(frozen=True)
class NetworkRecipe:
    """How it is trained: steps of `batch` pictures, AdamW with one cosine of the rate."""

    steps: int = 240
    batch: int = 48
    rate: float = 3e-3
    decay: float = 0.05


def make_trunk() -> nn.Sequential:
    """Images [n, 3, s, s] in -1..1 to features [n, 64]; 67 thousand parameters."""
    layers: list[nn.Module] = []
    for before, after in pairwise((3, 24, 40, TRUNK_WIDTH)):
        layers += [
            nn.Conv2d(before, after, 4, stride=2, padding=1),
            nn.GroupNorm(8, after),
            nn.SiLU(),
        ]
    layers += [nn.Conv2d(TRUNK_WIDTH, TRUNK_WIDTH, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def train_network(lessons: Lessons, count: int, seed: int, recipe: NetworkRecipe) -> nn.Sequential:
    """A trunk with a linear head of `count` classes, trained on `lessons` by their weights."""
    torch.manual_seed(seed)
    network = nn.Sequential(make_trunk(), nn.Linear(TRUNK_WIDTH, count))
    shown, chance = lessons.all, lessons.weights()
    labels = torch.from_numpy(shown.classes)

    def loss(rows: Groups, rng: np.random.Generator) -> torch.Tensor:
        logits = network(altered(shown.inputs[rows], rng))
        return functional.cross_entropy(logits, labels[rows], label_smoothing=0.05)

    descend(network, chance, recipe, seed, loss)
    return network


def predicted_classes(network: nn.Module, images: Images) -> Groups:
    """The likeliest class of each image, int64 [n]."""
    return np.asarray(seen_by(network, images).argmax(axis=1), np.int64)


def seen_by(network: nn.Module, images: Images) -> Doubles:
    """What the network makes of images uint8 [n, s, s, 3], unaltered, float64 [n, k]."""
    network.eval()
    with torch.inference_mode():
        parts = [
            network(scaled(images[start : start + _BATCH]))
            for start in range(0, len(images), _BATCH)
        ]
    return np.asarray(torch.cat(parts).double().numpy())


def scaled(images: Images) -> torch.Tensor:
    """[n, 3, s, s] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def altered(images: Images, rng: np.random.Generator) -> torch.Tensor:
    """One of eight orientations, another colour, grain: another view of the same tissue."""
    if rng.random() < 0.5:
        images = images.transpose(0, 2, 1, 3)
    return disturb(images, rng)


def descend(
    network: nn.Module, weights: Doubles, recipe: NetworkRecipe, seed: int, loss: LossOf
) -> None:
    """Train `network` in place: each step draws rows with chances in proportion to `weights`."""
    chances = weights / weights.sum()
    optimizer = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    network.train()
    for step in range(recipe.steps):
        rng = np.random.default_rng([seed, 13, step])
        rows = rng.choice(len(weights), recipe.batch, p=chances)
        optimizer.zero_grad()
        torch.autograd.backward(loss(rows, rng))
        optimizer.step()
        scheduler.step()
