"""Held-out denoising loss, paired: every adapter is tested on the same images, timesteps and noise.

For public images, or for the site itself: a loss on patients' tiles never leaves the site.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.adapters import attach, read_vector, write_vector
from model.base import Pipeline
from model.losses import NoiseSchedule, denoising
from model.losses.draws import EncodedImages, default_rows, draw_rows
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
    images: EncodedImages,
    *,
    seed: int,
    draws: int = 8,
) -> NDArray[np.float64]:
    """Denoising loss of each image [images] under the adapter `vector` [P], mean of `draws` draws.

    The same `seed` and `draws` lead to the same (t, noise) for every vector. The pipeline's own
    adapter is put back afterwards; the study's initial vector stands for the base itself. Raises
    `ModelError` where the vector does not fit.
    """
    layout = attach(pipeline.unet, adapter)
    before = read_vector(pipeline.unet, layout)
    write_vector(pipeline.unet, layout, vector)
    try:
        return _losses(pipeline, images, draws, np.random.default_rng(seed))
    finally:
        write_vector(pipeline.unet, layout, before)


def loss_change(
    before: NDArray[np.float64], after: NDArray[np.float64], patient_of: NDArray[np.int64]
) -> LossChange:
    """Paired change over patients; a patient's images are averaged first, as they are dependent.

    Student's t interval at 95 %; infinite for fewer than two patients.
    """
    change = after - before
    means = np.array([change[patient_of == patient].mean() for patient in np.unique(patient_of)])
    if len(means) < 2:
        return LossChange(float(means.mean()), -np.inf, np.inf, len(means))
    from scipy import stats  # half a second of imports, needed here alone

    half = stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    mean = float(means.mean())
    return LossChange(mean, mean - float(half), mean + float(half), len(means))


@torch.no_grad()
def _losses(
    pipeline: Pipeline, images: EncodedImages, draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    schedule = NoiseSchedule.of(pipeline.scheduler, pipeline.device)
    at_once = max(1, default_rows(images, pipeline.device) // draws)
    losses, count = [], len(images.latents)
    for start in range(0, count, at_once):
        indices = np.arange(start, min(start + at_once, count))
        chosen = [indices[i : i + 1] for i in range(len(indices))]
        rows = draw_rows(images, chosen, draws, len(schedule), [generator] * len(chosen))
        found = denoising(pipeline.unet, rows.to(pipeline.device), schedule)
        losses.append(found.cpu().double().reshape(-1, draws).mean(dim=1).numpy())
    return np.concatenate(losses)
