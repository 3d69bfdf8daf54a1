"""One step of DP-SGD: clip, sum, add noise, divide by a public number."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
from privacy.dpsgd.noise import NoiseSource
from privacy.dpsgd.release import Release


def private_gradient(
    engine: ClippingEngine,
    batches: Iterable[PhysicalBatch],
    release: Release,
    noise: NoiseSource,
) -> torch.Tensor:
    """(sum of clipped gradients + N(0, (sigma C)^2)) / (q N): float32 [P].

    Abadi et al. 2016, Algorithm 1. An empty draw releases noise alone, and is accounted for like
    any other. Sum and noise are added in float64; only the result is rounded.
    """
    std = release.noise_multiplier * release.clipping_norm
    samples = torch.from_numpy(noise.gaussian(engine.size, std, np.float64))
    total = engine.clipped_sum(batches, release.clipping_norm).total
    noisy = total + samples.to(total.device)
    # From here on all is post-processing: a public denominator, and one rounding of a private sum.
    return (noisy / release.denominator).float()
