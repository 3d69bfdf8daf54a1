"""One step of DP-SGD with all the noise at one site: clip, add up, draw around the sum, divide."""

# Why: docs/adr/0038-exact-noise.md

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from privacy.discrete_gaussian import draw
from privacy.dpsgd.engine import ClippingEngine, PhysicalBatch
from privacy.dpsgd.noise import NoiseSource
from privacy.dpsgd.release import CONTRIBUTION_BITS, Release
from privacy.dpsgd.substreams import stream_secret
from privacy.errors import AccountingError
from privacy.mechanisms.local.grid import MOST_LOCAL_PARAMETERS, local_grid


def private_gradient(
    engine: ClippingEngine,
    batches: Iterable[PhysicalBatch],
    release: Release,
    noise: NoiseSource,
) -> torch.Tensor:
    """(sum of clipped gradients + noise of deviation sigma C) / (q N): float32 [P].

    Abadi et al. 2016, Algorithm 1, in integers: the sum has a sensitivity of exactly C, and the
    noised sum is drawn from the discrete Gaussian around it, on a grid of sigma C / 64. An empty
    draw releases noise alone, and is accounted for like any other. The seed is 32 bytes of `noise`.

    Raises `AccountingError` for a sigma that is neither 0 nor from 0.01 to 10,000, for more than
    2^24 parameters, and where `engine.contributions` does.
    """
    if engine.size > MOST_LOCAL_PARAMETERS:
        raise AccountingError(
            f"An adapter of {engine.size} numbers is larger than what is accounted for.",
            f"Train at most {MOST_LOCAL_PARAMETERS}: fewer layers, or a lower rank.",
        )
    seed = stream_secret(noise)
    total = _clipped_sum(engine, batches, release.clipping_norm)
    noisy = _noised(total.cpu().numpy(), release.noise_multiplier, seed)
    # From here on all is post-processing: public factors, and one rounding of a private sum.
    scaled = noisy * (release.clipping_norm / release.denominator)
    return torch.from_numpy(scaled).float().to(total.device)


def _clipped_sum(
    engine: ClippingEngine, batches: Iterable[PhysicalBatch], clipping_norm: float
) -> torch.Tensor:
    """int64 [P], in units of C 2^-30. Integers: the same in any order, and no rounding."""
    total: torch.Tensor | None = None
    for found in engine.contributions(batches, clipping_norm):
        own = found.sum(dim=0, dtype=torch.int64)
        total = own if total is None else total.add_(own)
    return torch.zeros(engine.size, dtype=torch.int64) if total is None else total


def _noised(total: NDArray[np.int64], sigma: float, seed: bytes) -> NDArray[np.float64]:
    """The sum, with noise if there is any, in units of C."""
    if sigma == 0:  # which only a policy can allow
        return total.astype(np.float64) * 2.0**-CONTRIBUTION_BITS
    grid = local_grid(sigma)
    centres = grid.scale.centres(total.copy())
    noisy = draw(centres, grid.deviation, seed, fraction_bits=grid.centre_bits)
    return noisy.astype(np.float64) * (2.0**grid.centre_bits / grid.centre_scale)
