"""Two unlike judges of which morphology a tile shows, to measure whether samples obey captions.

One is a small convolutional network, the other hand-made features under a linear discriminant;
what fools one rarely fools the other. Both are trained on drawn tiles and frozen before the
diffusion model exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors
from torch import nn

from model.arrays import Doubles, Images
from model.lab.tissue.features import features
from model.lab.tissue.tile import MORPHOLOGIES
from privacy.errors import ModelError

# Each judge is assumed to err this often; otherwise one confident mistake would outweigh all else.
_DOUBT = 0.01
_CNN_FILE, _LDA_FILE = "cnn.safetensors", "lda.safetensors"


class Judge(Protocol):
    """Which morphology does an image show?"""

    @property
    def name(self) -> str:
        """A short name for tables."""

    def log_probabilities(self, images: Images) -> Doubles:
        """Log-probabilities [n, len(MORPHOLOGIES)] for images uint8 [n, 64, 64, 3]."""


def _with_doubt(log_posterior: Doubles) -> Doubles:
    """Normalise rows of log-posteriors, then mix in the uniform distribution."""
    shifted = log_posterior - log_posterior.max(axis=1, keepdims=True)
    sure = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    return np.asarray(np.log((1 - _DOUBT) * sure + _DOUBT / sure.shape[1]))


def make_judge_network() -> nn.Sequential:
    """A convolutional network of 70 thousand parameters: images [n, 3, 64, 64] to logits."""
    widths = (3, 24, 40, 64)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [
            nn.Conv2d(before, after, 4, stride=2, padding=1),
            nn.GroupNorm(8, after),
            nn.SiLU(),
        ]
    layers += [nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, len(MORPHOLOGIES)))


@dataclass(frozen=True)
class NetworkJudge:
    """A trained `make_judge_network`."""

    network: nn.Sequential
    name: str = "cnn"

    def log_probabilities(self, images: Images) -> Doubles:
        """See Judge."""
        scaled = torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1
        self.network.eval()
        with torch.no_grad():
            logits = self.network(scaled.permute(0, 3, 1, 2)).double().numpy()
        return _with_doubt(logits)


@dataclass(frozen=True)
class DiscriminantJudge:
    """Linear discriminant analysis: classes are Gaussians of one covariance (Fisher 1936).

    logits = standardised features [n, d] @ weights [d, k] + bias [k].
    """

    centre: Doubles
    scale: Doubles
    weights: Doubles
    bias: Doubles
    name: str = "lda"

    @classmethod
    def fit(
        cls, images: Images, labels: NDArray[np.int64], ridge: float = 0.05
    ) -> DiscriminantJudge:
        """Closed form, with a ridge on the common covariance of standardised features."""
        raw = features(images)
        centre, scale = raw.mean(axis=0), raw.std(axis=0) + 1e-6
        x = (raw - centre) / scale
        means = np.stack([x[labels == k].mean(axis=0) for k in range(len(MORPHOLOGIES))])
        residual = x - means[labels]
        covariance = residual.T @ residual / len(x) + ridge * np.eye(x.shape[1])
        weights = np.linalg.solve(covariance, means.T)
        return cls(centre, scale, weights, -0.5 * (means.T * weights).sum(axis=0))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float32]]) -> DiscriminantJudge:
        """From its four arrays by name. Raises KeyError if one is missing."""
        centre, scale, weights, bias = (
            arrays[name].astype(np.float64) for name in ("centre", "scale", "weights", "bias")
        )
        return cls(centre, scale, weights, bias)

    def log_probabilities(self, images: Images) -> Doubles:
        """See Judge."""
        x = np.clip((features(images) - self.centre) / self.scale, -6, 6)
        return _with_doubt(x @ self.weights + self.bias)


def save_judges(folder: Path, network: NetworkJudge, discriminant: DiscriminantJudge) -> None:
    """Write both judges to a folder; the network in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() for k, v in network.network.state_dict().items()}
    save_tensors(state, folder / _CNN_FILE)
    arrays = {k: getattr(discriminant, k) for k in ("centre", "scale", "weights", "bias")}
    save_arrays({k: np.asarray(v, np.float32) for k, v in arrays.items()}, folder / _LDA_FILE)


def load_judges(folder: Path) -> tuple[Judge, Judge]:
    """The judges saved in a folder, usually BASE/judges. Raises ModelError if unreadable."""
    try:
        network = make_judge_network()
        network.load_state_dict({k: v.float() for k, v in load_tensors(folder / _CNN_FILE).items()})
        arrays = load_arrays(folder / _LDA_FILE)
        discriminant = DiscriminantJudge.from_arrays(arrays)
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"The judges in {folder} cannot be read.", "Only a base made by pretraining has judges."
        ) from error
    return NetworkJudge(network), discriminant


@dataclass(frozen=True)
class Score:
    """Mean of log p(own) - log p(shuffled) over n images, in nats, with a 95 % interval."""

    morphology: str
    mean: float
    low: float
    high: float
    n: int

    @property
    def positive(self) -> bool:
        """Whether the interval lies above 0: the images follow their captions."""
        return self.low > 0


def caption_score(
    judge: Judge, images: Images, own: Sequence[str], shuffled: Sequence[str]
) -> list[Score]:
    """How much better each image fits its own morphology than another's, per own morphology.

    images uint8 [n, 64, 64, 3]; own and shuffled: morphologies [n]. The interval is that of the
    percentile bootstrap over images (Efron 1979), 2000 draws, fixed seed.
    Raises ModelError for unequal lengths.
    """
    if not len(images) == len(own) == len(shuffled):
        raise ModelError(
            "Images and morphologies differ in number.", "Give each image one of each."
        )
    table = judge.log_probabilities(images)
    rows = np.arange(len(images))
    index = {name: position for position, name in enumerate(MORPHOLOGIES)}
    gain = table[rows, [index[m] for m in own]] - table[rows, [index[m] for m in shuffled]]
    of = np.asarray(own)
    return [_score(m, gain[of == m]) for m in MORPHOLOGIES if (of == m).any()]


def _score(morphology: str, gain: Doubles) -> Score:
    rng = np.random.default_rng(0)
    means = gain[rng.integers(len(gain), size=(2000, len(gain)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Score(morphology, float(gain.mean()), float(low), float(high), len(gain))


def accuracy(judge: Judge, images: Images, labels: NDArray[np.int64]) -> dict[str, float]:
    """Share of images whose likeliest morphology is the true one, per morphology."""
    hit = judge.log_probabilities(images).argmax(axis=1) == labels
    return {m: float(hit[labels == k].mean()) for k, m in enumerate(MORPHOLOGIES)}
