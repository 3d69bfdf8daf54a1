"""The whole recipe: read, examine the judge, draw, filter, train, compare, write what was done.

OUT/drawn/round-01, ...         the pictures, as `craftsfl model sample --out-dir` writes them
OUT/classifier-*.safetensors    a linear head of each kind, with its promise inside
OUT/recipe.json                 what was done, in full, and every figure
OUT/augmentation.html           the same for people, without a picture
"""

# Why: docs/adr/0062-pictures-for-ones-own-classes.md

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.numpy import save

from client.data import read_tile
from craftsfl.model.adapter_source import find_adapter
from craftsfl.model.augmenting.classes import LabelledTiles, read_classes
from craftsfl.model.augmenting.done import (
    RECIPE_FILE,
    Augmented,
    AugmentRequest,
    classifier_file,
)
from craftsfl.model.augmenting.drawing import ClassDrawer, DrawingTarget, DrawnClasses
from craftsfl.model.augmenting.page import augmentation_page
from craftsfl.model.augmenting.promises import AugmentPromise, promise_of
from craftsfl.model.augmenting.trial import TrialMaterial, compare_kinds, final_heads
from craftsfl.model.bases import find
from craftsfl.model.outputs import unwritable
from model.arrays import Features, Images
from model.base import load_base
from model.devices import pick_device
from model.encoders import ImageEncoder, load_encoder, load_image_text_encoder, prepare
from model.generation.adapter import put_adapter
from model.generation.provenance import Drawing, software
from model.lab.augmentation.heads import LinearHead
from model.lab.augmentation.judging import ClassJudge, examine_judge
from model.lab.augmentation.lessons import Labelled
from model.sampling import SamplerSettings
from privacy.errors import ConfigError
from privacy.files import write_private

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
    encoder, judge = _encoders(request, own)
    images = [_pictures(own, eye.size) for eye in (encoder, judge.encoder)]
    found = examine_judge(judge, images[1], own.numbers, own.patients)
    try:
        request.out.mkdir(mode=0o700, parents=True, exist_ok=True)
        drawn, drawing = _drawn(request, own, judge, on_progress)
        material = TrialMaterial(
            Labelled(_embedded(encoder, images[0]), own.numbers),
            own.patients,
            Labelled(_embedded(encoder, drawn.images), drawn.numbers),
        )
        on_progress("comparing", 0, 1)
        rows = compare_kinds(
            material,
            [kind.label for kind in own.classes],
            folds=request.folds,
            shares=request.shares,
            amounts=_amounts(request.target),
            seed=request.seed,
        )
        heads = final_heads(material)
        promises = tuple(promise_of(kind, drawing) for kind in heads)
        digests = {"encoder": encoder.digest, "judge": judge.encoder.digest}
        done = Augmented(request, own, drawing, found, drawn, tuple(rows), promises, digests)
        for promise in promises:
            head = _head_bytes(heads[promise.kind], promise, done)
            write_private(request.out / classifier_file(promise.kind), head)
        write_private(request.out / "augmentation.html", augmentation_page(done).encode())
        write_private(request.out / RECIPE_FILE, done.to_json().encode())
    except OSError as error:
        raise unwritable(request.out, error, "--out") from None
    return done


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
    request: AugmentRequest, own: LabelledTiles, judge: ClassJudge, on_progress: OnAugmenting
) -> tuple[DrawnClasses, Drawing]:
    models = request.models
    with tempfile.TemporaryDirectory(prefix="craftsfl-") as folder:
        base = find(models.base)
        adapter = None
        if models.adapter is not None:
            adapter = find_adapter(models.adapter, models.tracking_uri, Path(folder))
        pipeline = load_base(base.folder, pick_device("auto"))
        origin = None
        if adapter is not None:
            origin = put_adapter(pipeline, adapter.path, base.digest).origin
        drawing = Drawing(
            base=base.digest,
            steps=request.steps,
            guidance=request.guidance,
            software=software(),
            adapter=adapter.digest if adapter is not None else None,
            adapter_source=adapter.source if adapter is not None else None,
            origin=origin,
        )
        settings = SamplerSettings(request.steps, request.guidance)
        drawer = ClassDrawer(pipeline, drawing, settings, judge)
        target = DrawingTarget(request.target, request.most * request.target, request.seed)
        drawn = drawer.draw(
            own.classes,
            target,
            request.out / "drawn",
            lambda done, every: on_progress("drawing", done, every),
        )
    return drawn, drawing


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
