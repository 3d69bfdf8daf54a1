"""Figures of adapters on public tiles that no site trains on: denoising loss, alignment.

For the coordinator while a study runs, and for the demo's own comparison. Every adapter is measured
on the same images, timesteps, noise, captions and seeds, so that the difference to the base is
paired; its interval is over patients.
"""

# Why: docs/adr/0037-mlflow-is-never-waited-for.md

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.data import SiteData, check_usable, load_site_data
from client.training import EncodedTiles, encode_site
from model.adapters import attach, read_vector, write_vector
from model.arrays import Doubles, Groups
from model.base import Pipeline
from model.encoders import load_image_text_encoder
from model.encoders.interface import ImageTextEncoder
from model.quality.alignment import (
    caption_alignment,
    check_independent,
    cosines,
    distinct_captions,
)
from model.quality.denoising import LossChange, held_out_loss, loss_change
from model.quality.embedding import embed_images, embed_texts
from model.sampling import sample
from privacy.errors import DataError
from privacy.study.manifest import Study
from privacy.wire.codec import Vector

EVALUATION_SEED: Final = 7


@dataclass(frozen=True)
class PublicTiles:
    """Encoded public tiles of several folders, and the patient of each, numbered over all."""

    parts: Sequence[EncodedTiles] = field(repr=False)
    captions: Sequence[str] = field(repr=False)  # [tiles]
    patients: Groups  # [tiles]

    @classmethod
    def read(
        cls,
        pipeline: Pipeline,
        study: Study,
        folders: Sequence[Path],
        *,
        cache: Path | None = None,
        most: int | None = None,
    ) -> PublicTiles:
        """Read and encode the folders, `most` tiles in all if there are more.

        `cache`: a folder where encoded tiles are kept. Raises `DataError` for folders that hold no
        usable tile, or those of fewer than two patients: then nothing could be said about chance.
        """
        data = [_usable(folder) for folder in folders]
        if most is not None:
            data = [_at_most(part, max(1, most // len(data))) for part in data]
        places = [None if cache is None else cache / str(number) for number in range(len(data))]
        parts = [
            encode_site(pipeline, part, base_digest=study.base.digest, cache=place)
            for part, place in zip(data, places, strict=True)
        ]
        patients = _numbered(parts)
        if len(np.unique(patients)) < 2:
            raise DataError(
                "The public tiles are of a single patient.",
                "Name tiles of at least two patients, better of twenty: the uncertainty of the "
                "figure comes from the differences between them.",
            )
        captions = [tile.caption for part in data for tile in part.tiles]
        return cls(parts, captions, patients)

    def losses(self, pipeline: Pipeline, study: Study, adapter: Vector) -> Doubles:
        """The denoising loss of each tile [tiles] under `adapter` [P]."""
        found = [
            held_out_loss(pipeline, study.adapter, adapter, tiles, seed=EVALUATION_SEED)
            for tiles in self.parts
        ]
        return np.concatenate(found)

    def change(self, before: Doubles, after: Doubles) -> LossChange:
        """From one figure of each tile to another, over patients."""
        return loss_change(before, after, self.patients)


@dataclass(frozen=True)
class CaptionJudge:
    """Does what is drawn from public captions show what they say? By an encoder of its own."""

    encoder: ImageTextEncoder
    captions: Sequence[str] = field(repr=False)  # [images]
    patients: Groups  # [images]

    @classmethod
    def load(cls, source: str, study: Study, tiles: PublicTiles, images: int) -> CaptionJudge:
        """The judge `source`, and the captions of `images` of the tiles, from all patients in turn.

        Raises `ModelError` if it took part in the study's training.
        """
        encoder = load_image_text_encoder(source)
        used = study.stage_two.encoder_digests if study.stage_two is not None else frozenset()
        check_independent(encoder.name, encoder.digest, used)
        rows = rows_in_turn(tiles.patients)[:images]
        captions = [tiles.captions[row] for row in rows]
        return cls(encoder, captions, tiles.patients[rows])

    def gains(self, pipeline: Pipeline, study: Study, adapter: Vector) -> Doubles:
        """By how much each image [images] agrees better with its own caption than another's.

        Raises `TooFewError` where there is no other patient with another caption.
        """
        layout = attach(pipeline.unet, study.adapter)
        before = read_vector(pipeline.unet, layout)
        write_vector(pipeline.unet, layout, adapter)
        try:
            drawn = sample(
                pipeline,
                self.captions,
                [EVALUATION_SEED + number for number in range(len(self.captions))],
                steps=study.samples.steps,
                guidance=study.samples.guidance,
            )
        finally:
            write_vector(pipeline.unet, layout, before)
        texts, (own,) = distinct_captions(self.captions)
        pixels = np.stack([np.asarray(image.convert("RGB")) for image in drawn])
        similar = cosines(embed_images(self.encoder, pixels), embed_texts(self.encoder, texts))
        chance = np.random.default_rng(EVALUATION_SEED)  # the same shuffle for every adapter
        return caption_alignment(similar, own, self.patients, chance).gain


def rows_in_turn(patients: Groups) -> NDArray[np.int64]:
    """Rows such that every patient's first comes before anybody's second. [tiles]"""
    seen: dict[int, int] = {}
    turn = np.empty(len(patients), np.int64)
    for row, patient in enumerate(patients.tolist()):
        turn[row] = seen[patient] = seen.get(patient, -1) + 1
    return np.argsort(turn, kind="stable")


def _usable(folder: Path) -> SiteData:
    data = load_site_data(folder)
    check_usable(data, folder)
    return data


def _at_most(data: SiteData, most: int) -> SiteData:
    rows = np.sort(rows_in_turn(np.array([tile.patient for tile in data.tiles]))[:most])
    return replace(data, tiles=tuple(data.tiles[row] for row in rows))


def _numbered(parts: Sequence[EncodedTiles]) -> Groups:
    """The patient of each tile in the concatenation of `parts`, numbered uniquely. [tiles]"""
    numbers, used = [], 0
    for tiles in parts:
        own = tiles.patient_of.numpy()
        numbers.append(own + used)
        used += int(own.max()) + 1
    return np.concatenate(numbers)
