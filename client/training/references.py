"""What a study's frozen encoders say of tiles and captions, loaded when needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from model.base import Pipeline
from model.encoders import ImageEncoder, ImageTextEncoder, load_encoder, load_image_text_encoder
from model.losses import feature_side
from privacy.home import from_home
from privacy.study.manifest import Study
from privacy.study.stage_two import Encoder


@dataclass(frozen=True, slots=True)
class TileReference:
    """How to make the tiles' reference correlations R^Y; `digest` and `side` name the result."""

    digest: str  # of the encoder, as the study pins it
    side: int  # of the grid of the block's features
    # Takes seconds; not needed where tiles are cached.
    load: Callable[[], ImageEncoder] = field(repr=False)


def reference_of(
    study: Study, pipeline: Pipeline, root: Path | None = None
) -> TileReference | None:
    """The reference of a study that matches structure; None for others.

    A relative folder as the encoder's source starts from `root`. Raises `ModelError` where the
    pipeline has no such block; `load` does where the encoder's files are not those pinned.
    """
    if study.stage_two is None or study.stage_two.structure is None:
        return None
    asked = study.stage_two.structure
    side = feature_side(pipeline.unet, asked.block)

    def load() -> ImageEncoder:
        source = _source(asked.encoder, root)
        # Offline: the study's author chose the name.
        return load_encoder(source, pipeline.device, digest=asked.encoder.digest, online=False)

    return TileReference(asked.encoder.digest, side, load)


@dataclass(frozen=True, slots=True)
class CaptionPhrases:
    """How to make the captions' likeness r to public phrases; digest and phrases name the result.

    `least`: an r that is not above it means nothing.
    """

    digest: str  # of the encoder, as the study pins it
    phrases: tuple[str, ...]
    least: float
    load: Callable[[], ImageTextEncoder] = field(repr=False)


def phrases_of(
    study: Study, device: torch.device | str, root: Path | None = None
) -> CaptionPhrases | None:
    """The phrases of a study that correlates effects; None for others.

    `root` as in `reference_of`; `load` raises `ModelError` where the encoder's files are not those
    pinned, or where it knows no texts.
    """
    if study.stage_two is None or study.stage_two.effects is None:
        return None
    asked = study.stage_two.effects

    def load() -> ImageTextEncoder:
        source = _source(asked.encoder, root)
        return load_image_text_encoder(source, device, digest=asked.encoder.digest, online=False)

    return CaptionPhrases(asked.encoder.digest, asked.phrases, asked.least, load)


def _source(encoder: Encoder, root: Path | None) -> str:
    folder = (root or Path()) / from_home(encoder.source)
    return str(folder) if folder.is_dir() else encoder.source
