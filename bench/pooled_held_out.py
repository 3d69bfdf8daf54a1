"""Held-out denoising loss under several adapters: each row's common part is computed once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bench.pooled_prefix import same_rows
from client.training import EncodedTiles
from model.adapters import attach, write_vector
from model.arrays import Doubles
from model.base import Pipeline
from model.losses import NoiseSchedule, denoising
from model.losses.draws import default_rows, draw_rows
from privacy.study.manifest import Adapter


@torch.no_grad()
def held_out_losses(
    pipeline: Pipeline,
    adapter: Adapter,
    vectors: Sequence[NDArray[np.float32]],
    tiles: EncodedTiles,
    seed: int,
    draws: int,
) -> list[Doubles]:
    """For each of `vectors` what `model.quality.denoising.held_out_loss` returns: [tiles].

    Leaves the last of them on the model.
    """
    layout = attach(pipeline.unet, adapter)
    schedule = NoiseSchedule.of(pipeline.scheduler, pipeline.device)
    random = np.random.default_rng(seed)
    at_once = max(1, default_rows(tiles, pipeline.device) // draws)
    parts: list[list[Doubles]] = [[] for _ in vectors]
    for start in range(0, len(tiles), at_once):
        chosen = [np.array([i]) for i in range(start, min(start + at_once, len(tiles)))]
        rows = draw_rows(tiles, chosen, draws, len(schedule), [random] * len(chosen))
        with same_rows(pipeline.unet):
            for vector, own in zip(vectors, parts, strict=True):
                write_vector(pipeline.unet, layout, vector)
                found = denoising(pipeline.unet, rows.to(pipeline.device), schedule)
                own.append(found.cpu().double().reshape(-1, draws).mean(dim=1).numpy())
    return [np.concatenate(own) for own in parts]
