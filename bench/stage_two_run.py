"""One run of `bench.stage_two`: train an adapter on a seed's patients, measure it on others."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.stage_two_gradients import KnownPasses
from bench.stage_two_setting import (
    DOMAIN_CAPTIONS,
    EFFECTS,
    StageTwoSetting,
    anchor_captions,
    phrase_captions,
    public_captions,
)
from bench.stage_two_train import OnStep, RunOf, loss_rows, start_of, trained_adapter
from client.data import SiteData, SiteTile
from client.training import CaptionPhrases, EncodedTiles, TileReference, encode_site
from model.adapters import attach, without_adapter, write_vector
from model.base import Pipeline
from model.encoders import (
    ImageTextEncoder,
    load_encoder,
    load_image_text_encoder,
    prepare,
)
from model.lab.evaluation.frechet import weighted_frechet
from model.lab.judges import Judge
from model.lab.tissue.domain import DomainTiles, draw_domain
from model.lab.tissue.tile import MORPHOLOGIES, draw_series
from model.losses import NoiseSchedule, Rows, feature_side, squared_error
from model.quality.denoising import held_out_loss
from model.sampling import SamplerSettings, sample_each
from model.text import encode_captions

_Doubles = NDArray[np.float64]

_DOMAIN: Final = 52_000  # + seed: that seed's patients, training and held out
_PUBLIC: Final = 51_000  # stage one's kind of tiles, on which drift is measured
_OBEYED: Final = 58_000  # stage-one captions that an image is drawn for
_BATCH: Final = 32


@dataclass(frozen=True)
class Measured:
    """One adapter's figures: alignment, denoising [held-out patients]; drift [public tiles].

    obedience [stage-one captions]: how many of the judges recognise what was asked for, 0 to 1.
    """

    alignment: _Doubles
    obedience: _Doubles
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
        self,
        setting: StageTwoSetting,
        pipeline: Pipeline,
        evaluator: ImageTextEncoder,
        judges: Sequence[Judge],
        cache: Path,
    ) -> None:
        """`cache`: where encoded tiles are kept."""
        self.setting = setting
        self.pipeline = pipeline
        # Only the layout in memory changes: convolutions take less time on a CPU.
        self.pipeline.unet.to(memory_format=torch.channels_last)
        self._evaluator, self._judges, self._cache = evaluator, judges, cache
        self._texts = evaluator.embed_text(DOMAIN_CAPTIONS).cpu().double().numpy()
        self._public = self._public_rows()
        self._known = (RunOf(private=False, seed=-1), KnownPasses())

    def site(self, seed: int) -> SeedPatients:
        """Draw and encode the patients of `seed`; the held-out ones are different patients."""
        setting = self.setting
        held_out = draw_domain(setting.held_out, 1, _DOMAIN + seed, first=setting.patients)
        encoded = self._encode(held_out, f"{seed}-held-out")
        rendered = self._rendered(encoded)
        train = draw_domain(setting.patients, 1, _DOMAIN + seed)
        return SeedPatients(
            train=self._encode(train, f"{seed}-train"),
            held_out=encoded,
            captions=held_out.captions,
            features=self._features(rendered),
        )

    def run(
        self, site: SeedPatients, loss: str, seed: int, *, private: bool, on_step: OnStep
    ) -> Measured:
        """Train with `loss` on the site's patients, and measure on the held-out ones."""
        plan = self.setting.plan(private=private)
        where = RunOf(private, seed)
        if self._known[0] != where:  # other patients, or other draws of them
            self._known = (where, KnownPasses())
        rows = loss_rows(loss, self.setting, self.pipeline, site.train, where, self._known[1])
        start = start_of(plan, self.pipeline, seed)
        vector = trained_adapter(rows, plan, start, seed, on_step)
        return self.measure(site, vector, where)

    def measure(self, site: SeedPatients, vector: NDArray[np.float32], where: RunOf) -> Measured:
        """The figures of the adapter `vector`."""
        pipeline, setting, seed = self.pipeline, self.setting, where.seed
        adapter = setting.plan(private=where.private).adapter
        write_vector(pipeline.unet, attach(pipeline.unet, adapter), vector)
        features = self._features(self._drawn(site.captions, seed * 10_000))
        weights = np.ones(len(features))
        return Measured(
            alignment=self._alignment(features, site.captions),
            obedience=self._obedience(),
            denoising=held_out_loss(
                pipeline, adapter, vector, site.held_out, seed=seed, draws=setting.draws
            ),
            drift=self._drift(),
            frechet=weighted_frechet(site.features, features, weights, weights),
        )

    def _encode(self, tiles: DomainTiles, name: str) -> EncodedTiles:
        """Encode as a site does, with what any of the losses compares with."""
        setting = self.setting
        structure, effects = setting.structure(), setting.effects(EFFECTS, private=False)
        source, digest = effects.encoder.source, effects.encoder.digest
        side = feature_side(self.pipeline.unet, structure.block)
        with tempfile.TemporaryDirectory() as folder:
            return encode_site(
                self.pipeline,
                written_domain(Path(folder), tiles),
                base_digest="tiny",
                reference=TileReference(
                    structure.encoder.digest, side, lambda: load_encoder(structure.encoder.source)
                ),
                phrases=CaptionPhrases(
                    digest, effects.phrases, effects.least, lambda: load_image_text_encoder(source)
                ),
                cache=self._cache / name,
            )

    @torch.no_grad()
    def _rendered(self, tiles: EncodedTiles) -> NDArray[np.uint8]:
        """Tiles after the autoencoder, uint8 [n, s, s, 3]."""
        vae = self.pipeline.vae
        parts = [
            vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
            for latents in torch.split(tiles.latents, _BATCH)
        ]
        scaled = (torch.cat(parts) * 127.5 + 127.5).clamp(0, 255)
        return np.asarray(scaled.permute(0, 2, 3, 1).round().to(torch.uint8).numpy())

    def _drawn(self, captions: Sequence[str], first: int) -> NDArray[np.uint8]:
        """One image per caption; every loss starts from the same noise."""
        setting = self.setting
        seeds = [first + number for number in range(len(captions))]
        settings = SamplerSettings(setting.sampling_steps, setting.guidance, workers=1)
        images = dict(sample_each(self.pipeline, captions, seeds, settings))
        return np.stack([np.asarray(images[i].convert("RGB")) for i in range(len(seeds))])

    def _obedience(self) -> _Doubles:
        """Of stage one's captions: does each still give what it names, by judges of H&E?

        Captions that no term was trained on.
        """
        count, known = self.setting.obeyed, self._seen()
        drawn = public_captions(_OBEYED, 4 * count)
        asked = [(c, i % len(MORPHOLOGIES)) for i, c in enumerate(drawn) if c not in known][:count]
        images = self._drawn([caption for caption, _ in asked], _OBEYED)
        labels = np.array([label for _, label in asked])
        found = [j.log_probabilities(images).argmax(axis=1) == labels for j in self._judges]
        return np.asarray(np.mean(found, axis=0), np.float64)

    def _seen(self) -> frozenset[str]:
        """Stage-one captions that some term was trained on: they would flatter it."""
        setting = self.setting
        phrases = phrase_captions(setting.constants.phrases)
        return frozenset({*anchor_captions(setting.anchors), *phrases})

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
        """Stage-one tiles with stage-one captions, t spread evenly, fixed noise."""
        count = self.setting.public
        captions = public_captions(_PUBLIC, count)
        tiles = DomainTiles(draw_series(_PUBLIC, 0, count), captions, *(3 * [np.arange(count)]))
        encoded = self._encode(tiles, "public")
        generator = torch.Generator().manual_seed(_PUBLIC)
        steps = len(NoiseSchedule.of(self.pipeline.scheduler))
        times = (torch.randperm(count, generator=generator) + 0.5) / count * steps
        noise = torch.randn(encoded.latents.shape, generator=generator)
        text = encode_captions(self.pipeline, captions)
        seen = self._seen()
        new = [place for place, caption in enumerate(captions) if caption not in seen]
        return Rows(encoded.latents[new], times.long()[new], noise[new], text[new])

    @torch.no_grad()
    def _drift(self) -> _Doubles:
        """|eps_theta - eps_base|^2 on the public tiles [public]: the suppressor should bound it."""
        unet, rows = self.pipeline.unet, self._public
        noised = NoiseSchedule.of(self.pipeline.scheduler).noised(rows)
        adapted = unet(noised, rows.timesteps, rows.text, return_dict=False)[0]
        with without_adapter(unet):
            base = unet(noised, rows.timesteps, rows.text, return_dict=False)[0]
        return squared_error(adapted, base).double().numpy()


def written_domain(folder: Path, tiles: DomainTiles) -> SiteData:
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
