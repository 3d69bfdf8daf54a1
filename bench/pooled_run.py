"""One run of `bench.pooled`: train an arm on a seed's patients, measure it on others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from bench.pooled_arms import OnPooledStep, trained
from bench.pooled_compare import PooledRun
from bench.pooled_setting import PooledSetting
from bench.pooled_sites import real_sites, synthetic_sites
from craftsfl.planning.gradients import PatientRows
from craftsfl.planning.tissue import PooledSites
from model.adapters import attach, write_vector
from model.base import Pipeline
from model.encoders import ImageTextEncoder
from model.quality.alignment import cosines
from model.quality.denoising import held_out_loss
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
        self._base: dict[int, tuple[float, ...]] = {}  # of a seed's held-out patients

    def run(self, arm: str, seed: int, on_step: OnPooledStep) -> PooledRun:
        """Train `arm` on the patients of `seed`, and measure what it publishes."""
        start = time.perf_counter()
        setting, pipeline, sites = self._setting, self._pipeline, self.sites(seed)
        draws = setting.constants(arm).draws
        rows = PatientRows(pipeline, setting.adapter, sites, draws)
        vector = trained(arm, setting, rows, seed, on_step)
        if seed not in self._base:  # B is zero in the base's vector
            self._base[seed] = tuple(self._losses(np.zeros_like(vector), sites, seed))
        return PooledRun(
            arm,
            seed,
            base=self._base[seed],
            trained=tuple(self._losses(vector, sites, seed)),
            alignment=tuple(self._alignment(vector, sites, seed)),
            seconds=time.perf_counter() - start,
        )

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
        self, vector: NDArray[np.float32], sites: PooledSites, seed: int
    ) -> NDArray[np.float64]:
        """Of each held-out patient, the mean over tiles."""
        setting, tiles = self._setting, sites.held_out
        found = held_out_loss(
            self._pipeline,
            setting.adapter,
            vector,
            tiles,
            seed=seed,
            draws=setting.evaluation_draws,
        )
        return np.array([found[own].mean() for own in tiles.by_patient()])

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
