"""`bench.augmentation --tiles FOLDER`: what the embedded models say of real tiles.

Rows of `task` "type, real tiles". First what the judge makes of them: `judge` with `low`, `high`
(95 %, over patients) and `guessing`; `passes`: whether `craftsfl model augment` would draw at all.
Then, whether it would or not, arms on the frozen `tiny` encoder with a linear head, tested on
patients who trained nothing: `arm`, `seed` of the folds, `score`; and `comparison` "base-real" with
`difference`, `low`, `high`. "shuffled-real" is the control: the same pictures, each given to
another class, so that what they say of classes is false. Pictures are of the base alone, of each
class by its caption, and pass the judge only where it passes itself (`filtered`).

Classes of fewer than two patients are left out and counted. Patients of several classes are counted
and stay. Seeds with folds of before, or that leave a class without anybody to train on, are passed
over. Nothing of a tile is printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch

from bench.output import BenchRow
from client.data import read_tile
from client.data.imagefolder import SiteTile
from craftsfl.model.augmenting.classes import tile_labels
from craftsfl.model.augmenting.trial import TrialMaterial, TrialRow, compare_kinds
from craftsfl.model.evaluation.inputs import read_tiles
from model.arrays import Features, Groups, Images
from model.base import load_base
from model.cache import locate_base
from model.encoders import ImageEncoder, load_encoder, load_image_text_encoder, prepare
from model.lab.augmentation.folds import patient_folds
from model.lab.augmentation.judging import ClassJudge, judge_on
from model.lab.augmentation.lessons import Labelled
from model.sampling import SamplerSettings, sample_each
from privacy.errors import DataError

REAL_TASK: Final = "type, real tiles"
_FOLDS: Final = 2  # of few patients a class
_SEEDS: Final = 76_000_000
_MOST_SEEDS: Final = 100
_BATCH: Final = 256


@dataclass(frozen=True)
class RealTiles:
    """Tiles with class and patient, int64 [n]; a caption of each class. `left_out`: classes.

    `mixed`: patients of several of them.
    """

    tiles: tuple[SiteTile, ...] = field(repr=False)
    numbers: Groups = field(repr=False)
    patients: Groups = field(repr=False)
    captions: tuple[str, ...]
    left_out: int
    mixed: int

    def images(self, side: int) -> Images:
        """uint8 [n, side, side, 3]."""
        return np.stack([read_tile(tile.path, side) for tile in self.tiles])


def tiles_of_folders(folders: Sequence[Path], column: str) -> RealTiles:
    """The labelled tiles of all folders together; ids of two folders are of two people."""
    found = [
        (tile, label, (place, tile.patient))
        for place, folder in enumerate(folders)
        for tile, label in _labelled(folder, column)
    ]
    owners: dict[str, set[tuple[int, int]]] = {}
    for _, label, owner in found:
        owners.setdefault(label, set()).add(owner)
    names = sorted(label for label, own in owners.items() if len(own) >= _FOLDS)
    kept = [row for row in found if row[1] in names]
    several = Counter(owner for owner, _ in {(owner, label) for _, label, owner in kept})
    people = sorted({owner for _, _, owner in kept})
    captions = [next(f"{n}, {t.organ}." for t, label, _ in kept if label == n) for n in names]
    return RealTiles(
        tuple(tile for tile, _, _ in kept),
        np.array([names.index(label) for _, label, _ in kept], np.int64),
        np.array([people.index(owner) for _, _, owner in kept], np.int64),
        tuple(captions),
        len(owners) - len(names),
        sum(count > 1 for count in several.values()),
    )


def _labelled(folder: Path, column: str) -> Iterator[tuple[SiteTile, str]]:
    tiles = read_tiles(folder, ids_confirmed=True).data.tiles
    labels = tile_labels(folder, column, tiles)
    yield from ((tile, label) for tile, label in zip(tiles, labels, strict=True) if label)


def real_rows(own: RealTiles, pictures: int, seeds: Sequence[int]) -> Iterator[BenchRow]:
    """All rows; `pictures` of each class are drawn, once."""
    head: dict[str, str | int | float | bool | None] = {
        "task": REAL_TASK,
        "classes": len(own.captions),
        "left out": own.left_out,
        "mixed": own.mixed,
        "patients": len(set(own.patients.tolist())),
        "tiles": len(own.tiles),
    }
    evaluator = load_image_text_encoder("tiny-evaluator")
    judge = ClassJudge(evaluator, tuple((text,) for text in own.captions))
    found = judge_on(judge, own.images(evaluator.size), own.numbers, own.patients)
    guessing = 1 / len(own.captions)
    passes = found.low > guessing
    yield {
        **head,
        "judge": found.score,
        "low": found.low,
        "high": found.high,
        "guessing": guessing,
        "passes": passes,
    }
    encoder = load_encoder("tiny")
    images, drawn = _drawn(own.captions, pictures)
    if passes:
        rows = judge.choices(images) == drawn
        images, drawn = images[rows], drawn[rows]
    material = TrialMaterial(
        Labelled(_embedded(encoder, own.images(encoder.size)), own.numbers),
        own.patients,
        Labelled(_embedded(encoder, images), drawn),
    )
    wrong = Labelled(material.synthetic.inputs, (drawn + 1) % len(own.captions))
    control = TrialMaterial(material.real, material.patients, wrong)
    for seed in _usable(own, seeds):
        head = {"task": REAL_TASK, "share": 1.0, "seed": seed, "filtered": passes}
        for name, given in (("base", material), ("shuffled", control)):
            for row in _arms(given, own.captions, pictures, seed):
                yield from _as_rows(row, name, head)


def _usable(own: RealTiles, seeds: Sequence[int]) -> Iterator[int]:
    """As many as `seeds`, from the first on, if there are so many different folds."""
    seen: set[bytes] = set()
    for seed in range(seeds[0], seeds[0] + _MOST_SEEDS):
        try:
            folds = list(patient_folds(own.numbers, own.patients, _FOLDS, seed))
        except DataError:
            continue
        parts = b"".join(sorted(test.tobytes() for _, test in folds))
        if parts not in seen and len(seen) < len(seeds):
            seen.add(parts)
            yield seed


def _arms(
    material: TrialMaterial, captions: Sequence[str], pictures: int, seed: int
) -> Iterator[TrialRow]:
    """Over all classes."""
    rows = compare_kinds(
        material, captions, folds=_FOLDS, shares=(1.0,), amounts=(pictures,), seed=seed
    )
    yield from (row for row in rows if row.label is None)


def _as_rows(row: TrialRow, name: str, head: BenchRow) -> Iterator[BenchRow]:
    """What stands for pictures of `name`; real tiles alone stand once."""
    if row.arm != "real" or name == "base":
        arm = row.arm.replace("synthetic", name)
        yield {**head, "arm": arm, "score": row.score}
    if row.arm == "real-and-synthetic":
        ends = {"difference": row.gain, "low": row.gain_low, "high": row.gain_high}
        yield {**head, "comparison": f"{name}-real", **ends}


def _drawn(captions: Sequence[str], pictures: int) -> tuple[Images, Groups]:
    pipeline = load_base(locate_base("tiny"))
    texts = [text for text in captions for _ in range(pictures)]
    settings = SamplerSettings(10, 3.0, workers=1)
    found = dict(sample_each(pipeline, texts, range(_SEEDS, _SEEDS + len(texts)), settings))
    images = np.stack([np.asarray(found[n].convert("RGB")) for n in range(len(texts))])
    return images, np.repeat(np.arange(len(captions)), pictures)


def _embedded(encoder: ImageEncoder, images: Images) -> Features:
    if not len(images):
        return np.empty((0, 0), np.float32)
    with torch.inference_mode():
        parts = [
            encoder.embed(prepare(images[start : start + _BATCH], encoder)).float()
            for start in range(0, len(images), _BATCH)
        ]
    return np.asarray(torch.cat(parts).numpy(), np.float32)
