"""One step of DP-SGD: clip, sum, add noise, divide by a public number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
from privacy.dpsgd.noise import NoiseSource
from privacy.errors import AccountingError
from privacy.study.manifest import Training


@dataclass(frozen=True)
class Release:
    """The public constants of a step. Raises `AccountingError` unless all are finite, positive.

    `noise_multiplier` may be 0: then nothing is private, which only the policy can allow.
    """

    clipping_norm: float  # C
    noise_multiplier: float  # sigma: the noise has standard deviation sigma C
    denominator: float  # q N, from the declared N: neither the true nor the drawn count

    def __post_init__(self) -> None:
        for name in ("clipping_norm", "noise_multiplier", "denominator"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and name != "noise_multiplier"):
                raise AccountingError(f"{name} is {value!r}; it must be positive and finite.")


def release_of(training: Training, declared_patients: int) -> Release:
    """The constants of every step of a site with `declared_patients`."""
    return Release(
        clipping_norm=training.clipping_norm,
        noise_multiplier=training.noise_multiplier,
        denominator=training.sampling_rate * declared_patients,
    )


def noise_to_clip(release: Release, parameters: int) -> float:
    """sigma sqrt(P) / (q N): the noise's norm over the largest possible signal's.

    Far above 1, a step is noise: no learning is to be expected within a few of them.
    """
    return release.noise_multiplier * math.sqrt(parameters) / release.denominator


def private_gradient(
    engine: ClippingEngine,
    batches: Iterable[PhysicalBatch],
    release: Release,
    noise: NoiseSource,
) -> torch.Tensor:
    """(sum of clipped gradients + N(0, (sigma C)^2)) / (q N): float32 [P].

    Abadi et al. 2016, Algorithm 1. An empty draw releases noise alone: it is accounted like any
    other. Sum and noise meet in float64; only their sum is rounded.
    """
    std = release.noise_multiplier * release.clipping_norm
    samples = torch.from_numpy(noise.gaussian(engine.size, std, np.float64))
    total = engine.clipped_sum(batches, release.clipping_norm).total
    noisy = total + samples.to(total.device)
    return (noisy / release.denominator).float()
