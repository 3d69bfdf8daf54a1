"""Runs of `bench.pooled`: train arms on a seed's patients, measure them on others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from bench.pooled_compare import PooledRun
from bench.pooled_gradients import SharedRows
from bench.pooled_held_out import held_out_losses
from bench.pooled_setting import PooledSetting
from bench.pooled_sites import real_sites, synthetic_sites
from bench.pooled_together import OnPooledStep, PooledPlan, SumsKept, train_together
from craftsfl.planning.tissue import PooledSites
from model.adapters import attach, write_vector
from model.base import Pipeline
from model.encoders import ImageTextEncoder
from model.quality.alignment import cosines
from model.quality.embedding import embed_images, embed_texts
from model.sampling import SamplerSettings, sample_each

_GUIDANCE: Final = 3.0
_IMAGES: Final = 10_000  # seeds of a seed's images begin at this multiple


class PooledLaboratory:
    """Base and evaluator, loaded once for all runs, and the patients of the newest seed."""

    def __init__(
        self,
        setting: PooledSetting,
        pipeline: Pipeline,
        evaluator: ImageTextEncoder,
        cache: Path,
        tiles: Path | None = None,
    ) -> None:
        """`cache`: where encoded tiles are kept; `tiles`: a folder of real sites to train on."""
        self._setting, self._pipeline, self._cache, self._tiles = setting, pipeline, cache, tiles
        # Only the layout in memory changes: convolutions take less time on a CPU.
        self._pipeline.unet.to(memory_format=torch.channels_last)
        self._evaluator = evaluator
        self._sites: tuple[int, PooledSites] | None = None

    def run(
        self, plans: Sequence[PooledPlan], kept: SumsKept, on_step: OnPooledStep
    ) -> Iterator[tuple[PooledPlan, PooledRun]]:
        """Train `plans`, which differ in arms and constants alone, and measure what they publish.

        They are of one seed, and of this laboratory's patients and adapter.
        """
        pipeline, seed = self._pipeline, plans[0].seed
        sites, draws = self.sites(seed), plans[0].setting.private.draws
        rows = SharedRows(pipeline, self._setting.adapter, sites, draws)
        trained = train_together(plans, rows, kept, on_step)
        vectors = [np.zeros(rows.parameters, np.float32)]  # B is zero in the base's vector
        vectors += [run.adapter for run in trained.values()]
        base, *losses = self._losses(vectors, sites, seed)
        for (plan, found), own in zip(trained.items(), losses, strict=True):
            start = time.process_time()
            alignment = tuple(self._alignment(found.adapter, sites, seed))
            seconds = found.seconds + time.process_time() - start
            run = PooledRun(plan.arm, seed, tuple(base), tuple(own), alignment, seconds)
            yield plan, run

    def sites(self, seed: int) -> PooledSites:
        """The patients of `seed`."""
        if self._sites is None or self._sites[0] != seed:
            self._sites = seed, self._drawn(seed)
        return self._sites[1]

    def _drawn(self, seed: int) -> PooledSites:
        if self._tiles is None:
            return synthetic_sites(self._setting, self._pipeline, seed, self._cache)
        return real_sites(self._tiles, self._pipeline, seed, self._cache)

    def _losses(
        self, vectors: Sequence[NDArray[np.float32]], sites: PooledSites, seed: int
    ) -> list[NDArray[np.float64]]:
        """Under each adapter, of each held-out patient: the mean over tiles and draws."""
        setting, tiles = self._setting, sites.held_out
        found = held_out_losses(
            self._pipeline, setting.adapter, vectors, tiles, seed, setting.evaluation_draws
        )
        return [np.array([own[place].mean() for place in tiles.by_patient()]) for own in found]

    def _alignment(
        self, vector: NDArray[np.float32], sites: PooledSites, seed: int
    ) -> NDArray[np.float64]:
        """Cosine of each drawn image with its own caption, less the mean over the other captions.

        By an encoder that no training uses; every arm starts from the same noise.
        """
        setting, pipeline = self._setting, self._pipeline
        write_vector(pipeline.unet, attach(pipeline.unet, setting.adapter), vector)
        chosen = np.linspace(0, len(sites.captions) - 1, setting.drawn).astype(int)
        captions = [sites.captions[place] for place in chosen]
        seeds = [seed * _IMAGES + number for number in range(len(captions))]
        settings = SamplerSettings(setting.sampling_steps, _GUIDANCE, workers=1)
        drawn = dict(sample_each(pipeline, captions, seeds, settings))
        images = np.stack([np.asarray(drawn[i].convert("RGB")) for i in range(len(seeds))])
        found = cosines(
            embed_images(self._evaluator, images), embed_texts(self._evaluator, captions)
        )
        own = np.diag(found)
        return np.asarray(own - (found.sum(axis=1) - own) / (len(captions) - 1))
