"""What the tiles' features are compared with: a study's frozen encoder, loaded when needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from model.base import Pipeline
from model.encoders import ImageEncoder, load_encoder
from model.losses import feature_side
from privacy.study.manifest import Encoder, Study


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
    """The reference of a study with correlation regulation; None for others.

    A relative folder as the encoder's source starts from `root`. Raises `ModelError` where the
    pipeline has no such block; `load` does where the encoder's files are not those pinned.
    """
    if study.stage_two is None or study.stage_two.correlation is None:
        return None
    asked = study.stage_two.correlation
    side = feature_side(pipeline.unet, asked.block)

    def load() -> ImageEncoder:
        source = _source(asked.encoder, root)
        # Offline: the study's author chose the name.
        return load_encoder(source, pipeline.device, digest=asked.encoder.digest, online=False)

    return TileReference(asked.encoder.digest, side, load)


def _source(encoder: Encoder, root: Path | None) -> str:
    folder = (root or Path()) / Path(encoder.source).expanduser()
    return str(folder) if folder.is_dir() else encoder.source
