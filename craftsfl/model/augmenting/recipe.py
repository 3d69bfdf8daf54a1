"""The whole recipe: read, examine the judge, draw, filter, train, compare, write what was done.

OUT/drawn/round-01, ...         the pictures, as `craftsfl model sample --out-dir` writes them
OUT/drawn-base/round-01, ...    those of classes that the base draws beside an adapter
OUT/classifier-*.safetensors    a linear head of each kind, with its promise inside
OUT/recipe.json                 what was done, in full, and every figure
OUT/augmentation.html           the same for people, without a picture
"""

# Why: docs/adr/0062-pictures-for-ones-own-classes.md

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Final

import numpy as np
import torch
from safetensors.numpy import save

from client.data import read_tile
from craftsfl.model.augmenting.classes import LabelledTiles, read_classes
from craftsfl.model.augmenting.done import (
    RECIPE_FILE,
    Augmented,
    AugmentRequest,
    classifier_file,
)
from craftsfl.model.augmenting.drawing import (
    ClassDrawer,
    DrawingTarget,
    DrawnClasses,
    joined_classes,
)
from craftsfl.model.augmenting.leaks import leak_notes
from craftsfl.model.augmenting.models import AugmentModels, drawn_by_base, found_models
from craftsfl.model.augmenting.page import augmentation_page
from craftsfl.model.augmenting.promises import AugmentPromise, ClassifierKind, promise_of
from craftsfl.model.augmenting.trial import (
    TrialMaterial,
    TrialRow,
    compare_kinds,
    final_heads,
)
from craftsfl.model.independence import encoders_trained_towards
from craftsfl.model.outputs import unwritable
from model.arrays import Features, Images
from model.base import load_base
from model.devices import pick_device
from model.encoders import ImageEncoder, load_encoder, load_image_text_encoder, prepare
from model.generation.adapter import put_adapter
from model.lab.augmentation.folds import patient_folds
from model.lab.augmentation.heads import LinearHead
from model.lab.augmentation.judging import ClassJudge, examine_judge
from model.lab.augmentation.lessons import Labelled
from model.quality.alignment import check_independent
from model.sampling import SamplerSettings
from privacy.errors import ConfigError
from privacy.files import write_private
from privacy.study.manifest import load_study

_BATCH: Final = 256
OnAugmenting = Callable[[str, int, int], None]


def augment(request: AugmentRequest, on_progress: OnAugmenting) -> Augmented:
    """Run the recipe; raises `CraftsflError` before anything slow where it can."""
    request.check()
    own = read_classes(
        request.tiles,
        request.label,
        request.captions,
        request.folds,
        ids_confirmed=request.ids_confirmed,
    )
    for _ in patient_folds(own.numbers, own.patients, request.folds, request.seed):
        pass  # raises here rather than after the drawing
    by_base = drawn_by_base(own.classes, request.base_for)
    with found_models(request) as models:
        encoder, judge = _encoders(request, own)
        doubts = _doubts(request, models, encoder, judge)
        images = [_pictures(own, eye.size) for eye in (encoder, judge.encoder)]
        found = examine_judge(judge, images[1], own.numbers, own.patients)
        notes = (*doubts, *leak_notes(own, images[1]))
        try:
            request.out.mkdir(mode=0o700, parents=True, exist_ok=True)
            drawn = _drawn(request, own, (models, judge, by_base), on_progress)
            material = TrialMaterial(
                Labelled(_embedded(encoder, images[0]), own.numbers),
                own.patients,
                Labelled(_embedded(encoder, drawn.images), drawn.numbers),
            )
            on_progress("comparing", 0, 1)
            rows = _trial(request, own, material)
            heads = final_heads(material)
            of_base = [own.classes[number].label for number in sorted(by_base)]
            promises = tuple(promise_of(kind, models.drawing, of_base) for kind in heads)
            digests = {"encoder": encoder.digest, "judge": judge.encoder.digest}
            done = Augmented(
                *(request, own, models.drawing, found, drawn, rows, promises, digests),
                by_base,
                notes,
            )
            _write(done, heads)
        except OSError as error:
            raise unwritable(request.out, error, "--out") from None
    return done


def _trial(
    request: AugmentRequest, own: LabelledTiles, material: TrialMaterial
) -> tuple[TrialRow, ...]:
    return tuple(
        compare_kinds(
            material,
            [kind.label for kind in own.classes],
            folds=request.folds,
            shares=request.shares,
            amounts=_amounts(request.target),
            seed=request.seed,
        )
    )


def _write(done: Augmented, heads: Mapping[ClassifierKind, LinearHead]) -> None:
    """The recipe last: where it is, everything is."""
    out = done.request.out
    for promise in done.promises:
        head = _head_bytes(heads[promise.kind], promise, done)
        write_private(out / classifier_file(promise.kind), head)
    write_private(out / "augmentation.html", augmentation_page(done).encode())
    write_private(out / RECIPE_FILE, done.to_json().encode())


def _doubts(
    request: AugmentRequest, models: AugmentModels, encoder: ImageEncoder, judge: ClassJudge
) -> tuple[str, ...]:
    """Refuse a judge that the adapter was trained towards; say what could not be checked.

    The encoder under the classifiers is not refused: they are tested on real tiles alone.
    """
    study = None if request.study is None else load_study(request.study)
    towards = encoders_trained_towards(models.drawing, study)
    if towards is None:
        return (
            f"Whether the judge {judge.encoder.name} took part in the adapter's training was not "
            "checked: its file does not say. Name its study (--study).",
        )
    check_independent(judge.encoder.name, judge.encoder.digest, towards)
    if encoder.digest not in towards:
        return ()
    return (
        f"The adapter was trained towards {encoder.name}, the encoder under the classifiers: its "
        "pictures may help them more than they would help others.",
    )


def _encoders(request: AugmentRequest, own: LabelledTiles) -> tuple[ImageEncoder, ClassJudge]:
    """The encoder that trains and scores, and another one that judges."""
    device = pick_device("auto")
    encoder = load_encoder(request.encoder, device)
    reader = load_image_text_encoder(request.judge, device)
    if encoder.digest == reader.digest:
        raise ConfigError(
            f"The judge {request.judge} is also the encoder that trains and scores: pictures would "
            "be chosen to please it.",
            "Name another --judge, or another --encoder.",
        )
    return encoder, ClassJudge(reader, tuple(kind.captions for kind in own.classes))


def _pictures(own: LabelledTiles, side: int) -> Images:
    return np.stack([read_tile(tile.path, side) for tile in own.tiles])


def _drawn(
    request: AugmentRequest,
    own: LabelledTiles,
    drawers: tuple[AugmentModels, ClassJudge, frozenset[int]],
    on_progress: OnAugmenting,
) -> DrawnClasses:
    """The base first, where it draws classes beside the adapter: that stays on the pipeline."""
    models, judge, by_base = drawers
    pipeline = load_base(models.base.folder, pick_device("auto"))
    settings = SamplerSettings(request.steps, request.guidance)
    target = DrawingTarget(request.target, request.most * request.target, request.seed)
    others = frozenset(range(len(own.classes))) - by_base
    turns = [(models.of_base, by_base, "drawn-base")] if by_base else []
    found = []
    for drawing, only, name in (*turns, (models.drawing, others, "drawn")):
        if drawing.adapter is not None and models.adapter is not None:
            put_adapter(pipeline, models.adapter.path, models.base.digest)
        drawer = ClassDrawer(pipeline, drawing, settings, judge, only)
        found.append(
            drawer.draw(
                own.classes,
                target,
                request.out / name,
                lambda done, every: on_progress("drawing", done, every),
            )
        )
    return joined_classes(found)


def _embedded(encoder: ImageEncoder, images: Images) -> Features:
    if not len(images):
        return np.empty((0, 0), np.float32)
    with torch.inference_mode():
        parts = [
            encoder.embed(prepare(images[start : start + _BATCH], encoder)).float().cpu()
            for start in range(0, len(images), _BATCH)
        ]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def _amounts(target: int) -> tuple[int, ...]:
    """From which amount on do pictures help? A quarter of them, half, all."""
    return tuple(sorted({max(1, target // 4), max(1, target // 2), target}))


def _head_bytes(head: LinearHead, promise: AugmentPromise, done: Augmented) -> bytes:
    arrays = {name: getattr(head, name) for name in ("centre", "scale", "weights", "bias")}
    labels = [done.tiles.classes[number].label for number in head.classes]
    said = {
        "labels": json.dumps(labels),
        "encoder": done.digests["encoder"],
        "privacy": promise.words,
        "promise": json.dumps(asdict(promise)),
    }
    return bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata=said))
