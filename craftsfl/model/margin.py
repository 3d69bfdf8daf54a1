"""`craftsfl model margin`: how much the structure term may demand, from public images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from craftsfl.model import bases
from model.base import image_size, load_base
from model.devices import pick_device
from model.encoders import load_encoder
from model.lab.margin import Margin, PublicImages, public_margin
from model.lab.pretraining.corpus import draw_caption
from model.lab.stage_one.folder import open_picture_folder
from model.lab.stage_one.pictures import Unusable, decode_square
from model.lab.tissue.tile import MORPHOLOGIES, draw_series
from privacy.errors import ModelError


@dataclass(frozen=True, slots=True)
class MarginRequest:
    """What to measure. `folder`: public images with captions; None: drawn tissue."""

    base: str | None
    encoder: str
    block: str
    folder: Path | None
    images: int
    seed: int


def report_margin(request: MarginRequest, console: Console) -> Margin:
    """Measure, and print the table for study.toml. Raises `ModelError`."""
    found = bases.find(request.base)
    if request.folder is None and not found.embedded:
        raise ModelError(
            "Drawn tissue says nothing about this base.",
            "Name a folder of public images with captions: --folder.",
        )
    device = pick_device("auto")
    pipeline = load_base(found.folder, device)
    encoder = load_encoder(request.encoder, device)
    public = _public(request, image_size(pipeline))
    margin = public_margin(pipeline, encoder, public, request.block, seed=request.seed)
    console.print(
        f"rho of stage one: median {margin.median:.3f}, quartiles {margin.low:.3f} and "
        f"{margin.high:.3f}, over {margin.images} public images x {margin.draws} draws.\n\n"
        "[stage_two.structure]\nweight = 0.5  # choose it on public data, too\n"
        f'margin = {margin.margin:.2f}\nblock = "{request.block}"\n\n'
        f'[stage_two.structure.encoder]\nsource = "{request.encoder}"\n'
        f'digest = "{encoder.digest}"',
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return margin


def _public(request: MarginRequest, size: int) -> PublicImages:
    return _drawn(request) if request.folder is None else read_public(request.folder, request, size)


def _drawn(request: MarginRequest) -> PublicImages:
    """Tiles such as stage one was trained on, from another seed."""
    random = np.random.default_rng(request.seed)
    labels = np.arange(request.images) % len(MORPHOLOGIES)
    captions = [draw_caption(int(label), random) for label in labels]
    return PublicImages(draw_series(request.seed, 0, request.images), captions)


def read_public(folder: Path, request: MarginRequest, size: int) -> PublicImages:
    """Images of the folder, drawn evenly by the seed; their central squares, scaled."""
    opened = open_picture_folder(folder, "text", public=True)
    order = np.random.default_rng(request.seed).permutation(len(opened))[: request.images]
    pictures, captions = [], []
    for index in order.tolist():
        try:
            pictures.append(decode_square(opened.picture(index), size))
            captions.append(opened.caption(index))
        except Unusable as error:
            raise ModelError(
                f"{opened.name(index)} cannot be used: {error}.", "Remove its row."
            ) from None
    return PublicImages(np.stack(pictures), captions)
