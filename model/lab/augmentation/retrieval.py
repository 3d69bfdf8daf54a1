"""A small dual encoder: pictures find their captions, captions their pictures.

Trained from nothing by the loss of the project's own encoders. A caption is the mean of its words'
vectors; words that no lesson had are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model.arrays import Doubles, Groups, Images
from model.lab.augmentation.lessons import Lessons
from model.lab.augmentation.networks import (
    TRUNK_WIDTH,
    NetworkRecipe,
    altered,
    descend,
    make_trunk,
    seen_by,
)
from model.lab.pretraining.contrastive.training import contrastive_loss
from privacy.errors import ModelError

_WIDTH = 32  # of the space that both share
_WORD = re.compile(r"\w+")
_FIRST_SCALE = 10.0


class PairNetwork(nn.Module):
    """Pictures [n, 3, s, s] and rows of word numbers (0: none) into one space, of length 1."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.picture = nn.Sequential(make_trunk(), nn.Linear(TRUNK_WIDTH, _WIDTH))
        self.word = nn.EmbeddingBag(words + 1, TRUNK_WIDTH, mode="mean", padding_idx=0)
        self.text = nn.Linear(TRUNK_WIDTH, _WIDTH)
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(_FIRST_SCALE))))

    def forward(self, pictures: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Logits [pictures, texts]."""
        scale = self.log_scale.clamp(max=float(np.log(100))).exp()
        mine = functional.normalize(self.picture(pictures), dim=-1)
        return scale * mine @ self.texts(words).T

    def texts(self, words: torch.Tensor) -> torch.Tensor:
        """[n, 32], of length 1."""
        return functional.normalize(self.text(self.word(words)), dim=-1)


@dataclass(frozen=True)
class DualEncoder:
    """A trained `PairNetwork` and its words."""

    network: PairNetwork = field(repr=False)
    vocabulary: Mapping[str, int] = field(repr=False)

    def similarities(self, images: Images, captions: Sequence[str]) -> Doubles:
        """Cosines [n images, m captions]."""
        pictures = seen_by(self.network.picture, images)
        pictures /= np.maximum(np.linalg.norm(pictures, axis=1, keepdims=True), 1e-12)
        with torch.inference_mode():
            texts = self.network.texts(word_rows(captions, self.vocabulary)).double().numpy()
        return np.asarray(pictures @ texts.T)


def train_dual_encoder(
    lessons: Lessons, captions: Sequence[str], seed: int, recipe: NetworkRecipe
) -> DualEncoder:
    """Train on `lessons.all` and the caption of each; equal classes are equal content."""
    shown = lessons.all
    if len(captions) != len(shown):
        raise ModelError(
            f"{len(captions)} captions, {len(shown)} pictures.", "Give each picture one caption."
        )
    words = sorted({word for text in captions for word in _words(text)})
    vocabulary = {word: number for number, word in enumerate(words, 1)}
    rows_of, contents = word_rows(captions, vocabulary), torch.from_numpy(shown.classes)
    torch.manual_seed(seed)
    network = PairNetwork(len(words))

    def loss(rows: Groups, rng: np.random.Generator) -> torch.Tensor:
        return contrastive_loss(
            network(altered(shown.inputs[rows], rng), rows_of[rows]), contents[rows]
        )

    descend(network, lessons.weights(), recipe, seed, loss)
    return DualEncoder(network.eval(), vocabulary)


def word_rows(captions: Sequence[str], vocabulary: Mapping[str, int]) -> torch.Tensor:
    """Numbers of the known words, padded with 0, int64 [n, longest]."""
    found = [[vocabulary[word] for word in _words(text) if word in vocabulary] for text in captions]
    longest = max(1, *(len(row) for row in found))
    return torch.tensor([row + [0] * (longest - len(row)) for row in found], dtype=torch.int64)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def recalls(similarities: Doubles, asked: Groups, offered: Groups, k: int) -> Doubles:
    """R@k of each row, 0 or 1: is one of the k likeliest columns of the row's own content?

    similarities [n, m]; asked int64 [n], offered int64 [m]: contents.
    """
    likeliest = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.asarray((offered[likeliest] == asked[:, None]).any(axis=1), np.float64)
