"""Draw, judge, write: `craftsfl model atlas`.

    OUT/images/p0001-s0.png, ...   the pictures, each with its provenance; an imagefolder
    OUT/index.html                 the page
    OUT/atlas.json                 the same for programs

The folder is one of `craftsfl model sample --out-dir`, so it goes on where it was interrupted and
refuses whatever else is there.
"""

# Why: docs/adr/0063-atlas.md

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from craftsfl.model.atlas.facts import (
    Atlas,
    AtlasJudge,
    AtlasPhrase,
    AtlasPicture,
    AtlasType,
    atlas_json,
    atlas_notes,
)
from craftsfl.model.atlas.page import write_atlas_page
from craftsfl.model.bases import FoundBase, find
from craftsfl.model.drawing import DrawingModels, DrawingRequest, Wanted, draw_into
from craftsfl.model.independence import encoders_trained_towards
from craftsfl.model.outputs import unwritable
from model.arrays import Images
from model.base import image_size, load_base
from model.devices import pick_device
from model.encoders import SHIPPED_ENCODERS, ImageTextEncoder, load_image_text_encoder
from model.generation.provenance import Drawing
from model.lab.atlas.control import CONTROL_SIDE, control_tiles
from model.lab.atlas.entries import AtlasEntry, atlas_entries, captions_by_meaning, words_read_by
from model.lab.atlas.obedience import MeaningTable, judged_by
from model.lab.drawing.folder import MANIFEST
from model.lab.drawing.prompts import Words
from model.pictures import UnreadablePicture, open_picture
from model.quality.alignment import check_independent
from model.sampling import SamplerSettings
from privacy.errors import ConfigError, ModelError
from privacy.files import write_public
from privacy.study.manifest import load_study

ATLAS_FILE = "atlas.json"
_JUDGE = "tiny-evaluator"  # of tissue words; no study may train towards it
_MOST_PIXELS = 1 << 24
AtlasProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class AtlasRequest:
    """`words`: None, those that the base knows. `judge`: None, the embedded one for tissue words.

    `each`: pictures of each phrase, with seeds counted from `seed`. `study`: of the adapter.
    """

    out: Path
    models: DrawingModels
    settings: SamplerSettings
    words: Words | None = None
    judge: str | None = None
    study: Path | None = None
    each: int = 4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MadeAtlas:
    """The atlas, and how many of its pictures had been drawn before."""

    atlas: Atlas
    images: int
    found: int


def make_atlas(request: AtlasRequest, on_progress: AtlasProgress) -> MadeAtlas:
    """Write the folder; may be interrupted and repeated.

    Raises `CraftsflError`, before anything is drawn where model, judge and study do not go
    together.
    """
    base = find(request.models.base)
    words: Words = request.words or ("tissue" if base.embedded else "clinical")
    study = None if request.study is None else load_study(request.study)
    judge = _judge(request.judge, words)
    drawings: list[Drawing] = []
    checked: list[bool] = []

    def begins(drawing: Drawing) -> None:
        towards = encoders_trained_towards(drawing, study)
        check_independent(judge.name, judge.digest, towards or ())
        drawings.append(drawing)
        checked.append(towards is not None)

    wanted = Wanted(types=("all",), words=words, seeds=(request.seed,), count=request.each)
    drawn = draw_into(
        DrawingRequest(wanted, request.models, request.settings),
        request.out,
        lambda done, every: on_progress("drawing", done, every),
        begins,
        option="OUT",
    )
    asked = _Asked(judge, AtlasJudge(judge.name, judge.digest, checked[0]), words)
    on_progress("judging", 0, 1)
    try:
        atlas = _judged(request, drawings[0], asked, base)
        write_public(request.out / ATLAS_FILE, atlas_json(atlas).encode("ascii"))
        write_atlas_page(atlas, request.out)
    except OSError as error:
        raise unwritable(request.out, error, "OUT") from None
    on_progress("judging", 1, 1)
    return MadeAtlas(atlas, drawn.images, drawn.found)


@dataclass(frozen=True)
class _Asked:
    """Who is asked, and in which words."""

    encoder: ImageTextEncoder
    about: AtlasJudge
    words: Words


def _judge(name: str | None, words: Words) -> ImageTextEncoder:
    """Raises `ConfigError` where an embedded encoder is to judge words that it cannot know."""
    if words == "clinical" and (name is None or name in SHIPPED_ENCODERS):
        raise ConfigError(
            "The embedded encoders know drawn tissue alone and cannot judge clinical phrases.",
            "Name an image-text encoder that took no part in training: --judge FOLDER (see "
            "docs/encoders.md).",
        )
    return load_image_text_encoder(name or _JUDGE)


def _judged(request: AtlasRequest, drawing: Drawing, asked: _Asked, base: FoundBase) -> Atlas:
    entries = {entry.prompt: entry for entry in atlas_entries(asked.words)}
    listed = _listed(request.out)
    of = [entries[text] for _, text, _ in listed]
    captions = captions_by_meaning(tuple(entries.values()), words_read_by(asked.about.name))
    meanings = [entry.meaning for entry in of]
    images = _images(request.out, [file for file, _, _ in listed])
    found = judged_by(asked.encoder, images, meanings, captions)
    tiles = _control(base, asked.words, meanings)
    control = None if tiles is None else judged_by(asked.encoder, tiles, meanings, captions)
    names = list(captions)
    pictures = [
        AtlasPicture(file, seed, names[near])
        for (file, _, seed), near in zip(listed, found.nearest.tolist(), strict=True)
    ]
    types = tuple(_type(rows, of, pictures, found, control) for rows in _rows_by_type(of))
    every = range(len(of))
    atlas = Atlas(
        drawing,
        asked.words,
        request.each,
        asked.about,
        len(names),
        types,
        found.obedience(every),
        None if control is None else control.obedience(every),
        (),
    )
    return replace(atlas, notes=tuple(atlas_notes(atlas)))


def _type(
    rows: Sequence[int],
    of: Sequence[AtlasEntry],
    pictures: Sequence[AtlasPicture],
    found: MeaningTable,
    control: MeaningTable | None,
) -> AtlasType:
    phrases = []
    for entry in dict.fromkeys(of[row] for row in rows):
        own = tuple(pictures[row] for row in rows if of[row] == entry)
        phrases.append(AtlasPhrase(entry.phrase, entry.meaning, entry.prompt, own))
    first = of[rows[0]]
    return AtlasType(
        first.code,
        first.name,
        first.organ,
        tuple(phrases),
        found.obedience(rows),
        None if control is None else control.obedience(rows),
    )


def _rows_by_type(of: Sequence[AtlasEntry]) -> list[list[int]]:
    rows: dict[str, list[int]] = {}
    for row, entry in enumerate(of):
        rows.setdefault(entry.code, []).append(row)
    return list(rows.values())


def _listed(folder: Path) -> list[tuple[str, str, int]]:
    """File, prompt and seed of each picture; the folder was just written or checked."""
    values = json.loads((folder / MANIFEST).read_text("utf-8"))
    return [(item["file"], item["text"], item["seed"]) for item in values["images"]]


def _images(folder: Path, files: Sequence[str]) -> Images:
    found = []
    for file in files:
        try:
            with open_picture(folder / file, most=_MOST_PIXELS, formats=("PNG",)) as image:
                found.append(np.asarray(image.convert("RGB")))
        except UnreadablePicture as error:
            raise ModelError(
                f"{folder / file} cannot be read: {error}.", "Delete it, and it is drawn again."
            ) from None
    return np.stack(found)


def _control(base: FoundBase, words: Words, meanings: Sequence[str]) -> Images | None:
    """Drawn tiles of the same morphologies; None where they are not what the base draws."""
    if words != "tissue":
        return None
    pipeline = load_base(base.folder, pick_device("auto"))
    return control_tiles(pipeline, meanings) if image_size(pipeline) == CONTROL_SIDE else None
