"""Held-out denoising loss, paired: every adapter is tested on the same tiles, timesteps and noise.

For public data, or for the site itself: a loss on patients' tiles never leaves the site.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.training.encoding import EncodedTiles
from client.training.local import default_rows
from client.training.rows import draw_rows
from model.adapters import attach, read_vector, write_vector
from model.base import Pipeline
from model.losses import NoiseSchedule, denoising
from privacy.study.manifest import Adapter


@dataclass(frozen=True, slots=True)
class LossChange:
    """Mean of after - before over patients, with a 95 % interval; negative is better."""

    mean: float
    low: float
    high: float
    patients: int


def held_out_loss(
    pipeline: Pipeline,
    adapter: Adapter,
    vector: NDArray[np.float32],
    tiles: EncodedTiles,
    *,
    seed: int,
    draws: int = 8,
) -> NDArray[np.float64]:
    """Denoising loss of each tile [tiles] under the adapter `vector` [P], mean of `draws` draws.

    The same `seed` and `draws` lead to the same (t, noise) for every vector. The pipeline's own
    adapter is put back afterwards; the study's initial vector stands for the base itself. Raises
    `ModelError` where the vector does not fit.
    """
    layout = attach(pipeline.unet, adapter)
    before = read_vector(pipeline.unet, layout)
    write_vector(pipeline.unet, layout, vector)
    try:
        return _losses(pipeline, tiles, draws, np.random.default_rng(seed))
    finally:
        write_vector(pipeline.unet, layout, before)


def loss_change(
    before: NDArray[np.float64], after: NDArray[np.float64], patient_of: NDArray[np.int64]
) -> LossChange:
    """Paired change over patients; a patient's tiles are averaged first, as they are dependent.

    Student's t interval at 95 %; infinite for fewer than two patients.
    """
    change = after - before
    means = np.array([change[patient_of == patient].mean() for patient in np.unique(patient_of)])
    if len(means) < 2:
        return LossChange(float(means.mean()), -np.inf, np.inf, len(means))
    from scipy import stats  # half a second of imports that an agent never needs

    half = stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    mean = float(means.mean())
    return LossChange(mean, mean - float(half), mean + float(half), len(means))


@torch.no_grad()
def _losses(
    pipeline: Pipeline, tiles: EncodedTiles, draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    schedule = NoiseSchedule.of(pipeline.scheduler, pipeline.device)
    at_once = max(1, default_rows(tiles, pipeline.device) // draws)
    losses = []
    for start in range(0, len(tiles), at_once):
        indices = np.arange(start, min(start + at_once, len(tiles)))
        chosen = [indices[i : i + 1] for i in range(len(indices))]
        rows = draw_rows(tiles, chosen, draws, len(schedule), [generator] * len(chosen))
        found = denoising(pipeline.unet, rows.to(pipeline.device), schedule)
        losses.append(found.cpu().double().reshape(-1, draws).mean(dim=1).numpy())
    return np.concatenate(losses)
