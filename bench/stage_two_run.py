"""One run of `bench.stage_two`: train an adapter on a seed's patients, measure it on others."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.stage_two_setting import (
    BENCH_SITE,
    DOMAIN_CAPTIONS,
    SHUFFLED,
    STAGE_TWO_LOSSES,
    StageTwoSetting,
    anchor_captions,
    public_captions,
)
from client.data import SiteData, SiteTile
from client.training import EncodedTiles, LocalTrainer, encode_site
from client.training.references import reference_of
from model.adapters import attach, initial_vector, without_adapter, write_vector
from model.base import Pipeline
from model.encoders import ImageTextEncoder, prepare
from model.lab.evaluation.frechet import weighted_frechet
from model.lab.tissue.domain import DomainTiles, draw_domain
from model.lab.tissue.tile import draw_series
from model.losses import NoiseSchedule, Rows, squared_error
from model.quality.denoising import held_out_loss
from model.sampling import SamplerSettings, sample_each
from model.text import encode_captions

_Doubles = NDArray[np.float64]
OnStep = Callable[[int, int], None]

_DOMAIN: Final = 52_000  # + seed: that seed's patients, training and held out
_PUBLIC: Final = 51_000  # stage one's kind of tiles, on which drift is measured
_BATCH: Final = 32


class SeededNoise:
    """A repeatable `NoiseSource`, so that every loss gets the same draws and noise.

    These patients are synthetic; for real ones it must be `SystemNoise`.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([_DOMAIN, seed])

    def uniform(self, n: int) -> _Doubles:
        """See `NoiseSource.uniform`."""
        return self._random.random(n)


@dataclass(frozen=True)
class Measured:
    """One adapter's figures: alignment, denoising [held-out patients]; drift [public tiles]."""

    alignment: _Doubles
    denoising: _Doubles
    drift: _Doubles
    frechet: float


@dataclass(frozen=True)
class SeedPatients:
    """A seed's patients: encoded tiles of some for training, tiles of others for measuring.

    features [held out, E]: the evaluator's, of the held-out tiles as the base's autoencoder
    renders them. It knows only H&E: against the tiles as drawn, its palette would be measured.
    """

    train: EncodedTiles
    held_out: EncodedTiles
    captions: tuple[str, ...]  # of the held-out patients
    features: NDArray[np.float32]


class Laboratory:
    """Base, evaluator and public tiles, loaded once for all runs."""

    def __init__(
        self, setting: StageTwoSetting, pipeline: Pipeline, evaluator: ImageTextEncoder
    ) -> None:
        self.setting = setting
        self._pipeline = pipeline
        # Only the layout in memory changes: convolutions take less time on a CPU.
        self._pipeline.unet.to(memory_format=torch.channels_last)
        self._evaluator = evaluator
        self._texts = evaluator.embed_text(DOMAIN_CAPTIONS).cpu().double().numpy()
        self._public = self._public_rows()

    def site(self, seed: int) -> SeedPatients:
        """Draw and encode the patients of `seed`; the held-out ones are different patients."""
        setting = self.setting
        held_out = draw_domain(setting.held_out, 1, _DOMAIN + seed, first=setting.patients)
        encoded = self._encode(held_out)
        rendered = self._rendered(encoded)
        return SeedPatients(
            train=self._encode(draw_domain(setting.patients, 1, _DOMAIN + seed)),
            held_out=encoded,
            captions=held_out.captions,
            features=self._features(rendered),
        )

    def run(
        self, site: SeedPatients, loss: str, seed: int, *, private: bool, on_step: OnStep
    ) -> Measured:
        """Train with `loss` on the site's patients, and measure on the held-out ones."""
        study = self.setting.study(loss, private=private)
        tiles = site.train
        if loss == SHUFFLED and tiles.reference is not None:
            order = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(seed))
            tiles = replace(tiles, reference=tiles.reference[order])
        trainer = LocalTrainer(study, BENCH_SITE, self._pipeline, tiles, noise=SeededNoise(seed))
        start = initial_vector(trainer.layout, hashlib.sha256(b"%d" % seed).digest())
        delta = trainer.train(start, progress=on_step, should_stop=lambda: False)
        return self.measure(site, start + delta, seed)

    def measure(self, site: SeedPatients, vector: NDArray[np.float32], seed: int) -> Measured:
        """The four figures of the adapter `vector`."""
        pipeline = self._pipeline
        adapter = self.setting.study("denoising", private=False).adapter
        layout = attach(pipeline.unet, adapter)
        write_vector(pipeline.unet, layout, vector)
        drawn = self._drawn(site, seed)
        features = self._features(drawn)
        weights = np.ones(len(drawn))
        return Measured(
            alignment=self._alignment(features, site.captions),
            denoising=held_out_loss(
                pipeline, adapter, vector, site.held_out, seed=seed, draws=self.setting.draws
            ),
            drift=self._drift(),
            frechet=weighted_frechet(site.features, features, weights, weights),
        )

    def _encode(self, tiles: DomainTiles) -> EncodedTiles:
        """Encode as a site does, with the reference correlations that every loss needs."""
        study = self.setting.study(STAGE_TWO_LOSSES[1], private=False)
        with tempfile.TemporaryDirectory() as folder:
            return encode_site(
                self._pipeline,
                _written(Path(folder), tiles),
                base_digest=study.base.digest,
                reference=reference_of(study, self._pipeline),
            )

    @torch.no_grad()
    def _rendered(self, tiles: EncodedTiles) -> NDArray[np.uint8]:
        """Tiles after the autoencoder, uint8 [n, s, s, 3]."""
        vae = self._pipeline.vae
        parts = [
            vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
            for latents in torch.split(tiles.latents, _BATCH)
        ]
        scaled = (torch.cat(parts) * 127.5 + 127.5).clamp(0, 255)
        return np.asarray(scaled.permute(0, 2, 3, 1).round().to(torch.uint8).numpy())

    def _drawn(self, site: SeedPatients, seed: int) -> NDArray[np.uint8]:
        """One image per held-out patient's caption; every loss starts from the same noise."""
        setting = self.setting
        seeds = [seed * 10_000 + number for number in range(len(site.captions))]
        settings = SamplerSettings(setting.sampling_steps, setting.guidance, workers=1)
        images = dict(sample_each(self._pipeline, site.captions, seeds, settings))
        return np.stack([np.asarray(images[i].convert("RGB")) for i in range(len(seeds))])

    @torch.no_grad()
    def _features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._evaluator.embed(prepare(images, self._evaluator)).numpy()
        return found

    def _alignment(self, features: NDArray[np.float32], captions: tuple[str, ...]) -> _Doubles:
        """Cosine of image and own caption, less the mean over all other captions of the domain.

        All of them instead of a random one: the shuffled-caption control without its randomness.
        """
        own = [DOMAIN_CAPTIONS.index(caption) for caption in captions]
        cosines = features.astype(np.float64) @ self._texts.T
        mine = cosines[np.arange(len(own)), own]
        return np.asarray(mine - (cosines.sum(axis=1) - mine) / (len(DOMAIN_CAPTIONS) - 1))

    def _public_rows(self) -> Rows:
        """Stage-one tiles with stage-one captions, t spread evenly, fixed noise.

        Without those whose caption the drift suppressor was trained on: they would flatter it.
        """
        count = self.setting.public
        captions = public_captions(_PUBLIC, count)
        tiles = DomainTiles(draw_series(_PUBLIC, 0, count), captions, *(3 * [np.arange(count)]))
        encoded = self._encode(tiles)
        generator = torch.Generator().manual_seed(_PUBLIC)
        steps = len(NoiseSchedule.of(self._pipeline.scheduler))
        times = (torch.randperm(count, generator=generator) + 0.5) / count * steps
        noise = torch.randn(encoded.latents.shape, generator=generator)
        text = encode_captions(self._pipeline, captions)
        seen = set(anchor_captions(self.setting.anchors))
        new = [place for place, caption in enumerate(captions) if caption not in seen]
        return Rows(encoded.latents[new], times.long()[new], noise[new], text[new])

    @torch.no_grad()
    def _drift(self) -> _Doubles:
        """|eps_theta - eps_base|^2 on the public tiles [public]: the suppressor should bound it."""
        unet, rows = self._pipeline.unet, self._public
        noised = NoiseSchedule.of(self._pipeline.scheduler).noised(rows)
        adapted = unet(noised, rows.timesteps, rows.text, return_dict=False)[0]
        with without_adapter(unet):
            base = unet(noised, rows.timesteps, rows.text, return_dict=False)[0]
        return squared_error(adapted, base).double().numpy()


def _written(folder: Path, tiles: DomainTiles) -> SiteData:
    """The tiles as files, the way a site keeps them."""
    found = []
    patients = np.unique(tiles.patient_of, return_inverse=True)[1]
    for number, (image, caption, patient) in enumerate(
        zip(tiles.images, tiles.captions, patients, strict=True)
    ):
        path = folder / f"{number:05d}.png"
        Image.fromarray(image).save(path, compress_level=0)
        digest = hashlib.sha256(path.read_bytes()).digest()
        found.append(SiteTile(path, caption, int(patient), digest))
    return SiteData(tuple(found), int(patients.max()) + 1, ())
